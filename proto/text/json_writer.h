// Messages as JSON on one line, made and handed over in pieces: what a text of
// many megabytes takes is a piece, and not a tree of all its values beside it,
// which is how protobuf makes one.
//
// The mapping is json_mapping's. Numbers are the shortest that read back the
// same. For messages without maps and without google.protobuf.* in them, as
// ours are.
//
// Layer: proto. This file: std, absl, core, protobuf. Pure functions; any
// thread may call them.

#ifndef GRADTAP_PROTO_TEXT_JSON_WRITER_H_
#define GRADTAP_PROTO_TEXT_JSON_WRITER_H_

#include <google/protobuf/message.h>

#include <functional>
#include <string_view>

namespace gradtap {

// Takes the next piece, of about 16 KiB. False: no more, please.
using TextSink = std::function<bool(std::string_view piece)>;

// The message, and a line end. False: the sink wanted no more.
bool WriteJson(const google::protobuf::Message& message, const TextSink& sink);

}  // namespace gradtap

#endif  // GRADTAP_PROTO_TEXT_JSON_WRITER_H_
