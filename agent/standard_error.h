// Lines on standard error, from a guest in somebody else's process.
//
// Layer: agent. This file: std.

#ifndef GRADTAP_AGENT_STANDARD_ERROR_H_
#define GRADTAP_AGENT_STANDARD_ERROR_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace gradtap::agent {

// Of a pipe's guarantee (PIPE_BUF): a line comes whole or not at all.
inline constexpr std::size_t kMaxLineBytes = 4096;

// Writes `line`, cut at kMaxLineBytes, which should end with a newline. It is
// dropped where it cannot be taken now (a pipe or socket that is full, a
// stopped terminal) or at all (nobody reads, a limit on files), and the process
// gets no signal for that. A terminal that fills up in its midst has a part.
// Waits for nothing but a disk, and a terminal that fills up and cannot be
// opened again, as another user's. Any thread.
void WriteLineOrDrop(int fd, std::string_view line) noexcept;

// Writes "gradtap: MESSAGE" to standard error so.
void LogToStderr(const std::string& message);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_STANDARD_ERROR_H_
