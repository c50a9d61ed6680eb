// An event file that grows.
//
// Layer: client/tensorboard. This file: std, absl.

#ifndef GRADTAP_CLIENT_TENSORBOARD_EVENT_FILE_H_
#define GRADTAP_CLIENT_TENSORBOARD_EVENT_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/tensorboard/event_record.h"

namespace gradtap::client {

// What was written is whole records at any time: TensorBoard may read it while
// it grows. One thread.
class EventFile {
 public:
  // Makes the folders, too; a file of that name is replaced. TensorBoard takes
  // files for its own by "tfevents" in their name. kFailedPrecondition says
  // what cannot be made, and why.
  static absl::StatusOr<std::unique_ptr<EventFile>> Create(
      const std::string& folder, std::int64_t time_unix_ns);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  // To add to.
  EventRecords& records() { return records_; }
  // Writes what has been added if it is much, or in any case.
  absl::Status WriteSome();
  absl::Status Flush();

  const std::string& path() const { return path_; }

 private:
  EventFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  const std::string path_;
  const int fd_;
  EventRecords records_;
};

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_TENSORBOARD_EVENT_FILE_H_
