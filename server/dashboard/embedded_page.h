// The page's files, inside the program.
//
// Layer: server/dashboard. This file: std.

#ifndef GRADTAP_SERVER_DASHBOARD_EMBEDDED_PAGE_H_
#define GRADTAP_SERVER_DASHBOARD_EMBEDDED_PAGE_H_

#include <array>
#include <string_view>

namespace gradtap::server {

struct PageFile {
  std::string_view path;  // As it is asked for: "/page.js".
  std::string_view content_type;
  std::string_view bytes;  // Live as long as the program.
};

// What dist/ has. Thread-safe, allocates nothing.
const std::array<PageFile, 3>& EmbeddedPage();

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_DASHBOARD_EMBEDDED_PAGE_H_
