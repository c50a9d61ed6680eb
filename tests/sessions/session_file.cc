#include "sessions/session_file.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string_view>
#include <tuple>

namespace gradtap::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHead = "gradtap-session 1\n";
constexpr std::string_view kKinds = "AaCcHEX";
constexpr std::string_view kExtension = ".session";

}  // namespace

std::string ReadWholeFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<SessionEntry> ReadSession(const std::string& path) {
  const std::string content = ReadWholeFile(path);
  std::string_view rest = content;
  if (rest.substr(0, kHead.size()) != kHead) {
    throw std::runtime_error(path + " is no recorded session");
  }
  rest.remove_prefix(kHead.size());
  std::vector<SessionEntry> entries;
  while (!rest.empty()) {
    std::size_t length = 0;
    for (std::size_t i = 4; i >= 1 && rest.size() >= 5; --i) {
      length = length << 8 | static_cast<unsigned char>(rest[i]);
    }
    if (rest.size() < 5 || rest.size() - 5 < length ||
        kKinds.find(rest[0]) == std::string_view::npos) {
      throw std::runtime_error(path + " is damaged at entry " +
                               std::to_string(entries.size()));
    }
    entries.push_back({static_cast<SessionEntry::Kind>(rest[0]),
                       std::string(rest.substr(5, length))});
    rest.remove_prefix(5 + length);
  }
  return entries;
}

void WriteSession(const std::string& path,
                  const std::vector<SessionEntry>& entries) {
  std::string content(kHead);
  for (const SessionEntry& entry : entries) {
    content.push_back(static_cast<char>(entry.kind));
    for (int i = 0; i < 4; ++i) {
      content.push_back(static_cast<char>(entry.bytes.size() >> (8 * i)));
    }
    content.append(entry.bytes);
  }
  std::ofstream out(path, std::ios::binary);
  out << content;
  if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

std::vector<RecordedSession> RecordedSessions() {
  std::vector<RecordedSession> sessions;
  for (const auto& file : fs::recursive_directory_iterator(SESSIONS_DIR)) {
    if (file.path().extension() != kExtension) continue;
    fs::path path = file.path();
    sessions.push_back({path.parent_path().filename().string(),
                        path.stem().string(),
                        path.replace_extension().string()});
  }
  if (sessions.empty()) {
    throw std::runtime_error("no recorded session in " SESSIONS_DIR);
  }
  std::sort(sessions.begin(), sessions.end(), [](const auto& a, const auto& b) {
    return std::tie(a.release, a.name) < std::tie(b.release, b.name);
  });
  return sessions;
}

}  // namespace gradtap::testing
