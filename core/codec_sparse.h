// Reading of sparse counts and histograms, for the codec's readers alone.
//
// Layer: core.

#ifndef GRADTAP_CORE_CODEC_SPARSE_H_
#define GRADTAP_CORE_CODEC_SPARSE_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/codec.h"
#include "core/step_data.h"

namespace gradtap::codec {

// One SparseCounts message; its places are below `size`. `what` is for the
// error: "zero" or "bins".
absl::Status ReadSparse(std::string_view what, std::string_view body,
                        std::uint64_t size, StepView::Counts* out);

// One Histogram message. Its role may be unknown, its place anything.
absl::StatusOr<HistogramData> ReadHistogram(std::string_view body);

}  // namespace gradtap::codec

#endif  // GRADTAP_CORE_CODEC_SPARSE_H_
