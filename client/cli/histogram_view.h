// A histogram drawn with text: a row for each power of two, negative values to
// the left, positive ones to the right.
//
// Layer: client/cli. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CLI_HISTOGRAM_VIEW_H_
#define GRADTAP_CLIENT_CLI_HISTOGRAM_VIEW_H_

#include <string>

#include "client/cli/table.h"
#include "core/histogram.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap::client {

// The bins of an answer; what is no bin is passed over.
BinCounts BinsOfAnswer(const v1::ParameterHistogram& histogram);

// Rows of magnitudes, the largest first, then zeros and what is not finite,
// then quantiles with their bounds. A stretch of more than two empty rows is
// left out. Lines are not wider than style.width, or 80 if that is 0, but for
// at least 44 columns.
std::string DrawHistogram(const v1::ParameterHistogram& histogram,
                          const TableStyle& style);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_HISTOGRAM_VIEW_H_
