// Recorded sessions of an agent and a collector, as files.
//
//   file  = "gradtap-session 1\n" entry*
//   entry = kind (a byte of SessionEntry::Kind), length (4 bytes,
//   little-endian), bytes
//
// Existing kinds never change their meaning: files of old releases stay.
//
// Layer: tests. std alone.

#ifndef GRADTAP_TESTS_SESSIONS_SESSION_FILE_H_
#define GRADTAP_TESTS_SESSIONS_SESSION_FILE_H_

#include <ostream>
#include <string>
#include <vector>

namespace gradtap::testing {

struct SessionEntry {
  enum class Kind : char {
    kAgent = 'A',          // An encoded gradtap.v1.AgentMessage.
    kAgentLost = 'a',      // One that was sent and did not arrive.
    kCollector = 'C',      // An encoded gradtap.v1.CollectorMessage.
    kCollectorLost = 'c',  // One that was sent and did not arrive.
    kHalfClose = 'H',      // The agent sends no more in this call. No bytes.
    kEnd = 'E',            // The collector has ended the call well. No bytes.
    kCut = 'X',            // The call is lost. No bytes.
  };
  Kind kind = Kind::kCut;
  std::string bytes;
};

// Throws std::runtime_error, naming the file, if it is none.
std::vector<SessionEntry> ReadSession(const std::string& path);
void WriteSession(const std::string& path,
                  const std::vector<SessionEntry>& entries);

// A file in the folder of recorded sessions: DIR/RELEASE/NAME.session, and
// NAME.stored beside it.
struct RecordedSession {
  std::string release;
  std::string name;
  std::string path;  // Without ".session".
};

inline void PrintTo(const RecordedSession& session, std::ostream* out) {
  *out << session.path << ".session";
}

// All of them, by release and name. Throws if there is none.
std::vector<RecordedSession> RecordedSessions();

std::string ReadWholeFile(const std::string& path);

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SESSIONS_SESSION_FILE_H_
