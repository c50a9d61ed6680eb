// The limits of gradtapd that an operator may move.
//
// Layer: server. This file: CLI11 by name only.

#ifndef GRADTAP_SERVER_LIMIT_OPTIONS_H_
#define GRADTAP_SERVER_LIMIT_OPTIONS_H_

namespace CLI {
class App;
}  // namespace CLI

namespace gradtap::server {

struct CollectorOptions;

// Adds an option for each, in a group of its own; the defaults are those that
// `options` has. A value that cannot be meant is a CLI::ValidationError that
// names option, value and range.
void AddLimitOptions(CLI::App& app, CollectorOptions* options);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_LIMIT_OPTIONS_H_
