#include "server/dashboard/embedded_page.h"

#include <cstddef>

// CMake says where dist/ is, and makes this file depend on what is in it.
#define GRADTAP_EMBED(name, file)                                \
  __asm__(                                                       \
      ".pushsection .rodata\n"                                   \
      ".hidden gradtap_page_" #name                              \
      "\n"                                                       \
      ".hidden gradtap_page_" #name                              \
      "_end\n"                                                   \
      ".global gradtap_page_" #name                              \
      "\n"                                                       \
      ".global gradtap_page_" #name                              \
      "_end\n"                                                   \
      "gradtap_page_" #name                                      \
      ":\n"                                                      \
      ".incbin \"" GRADTAP_PAGE_DIR "/" file                     \
      "\"\n"                                                     \
      "gradtap_page_" #name                                      \
      "_end:\n"                                                  \
      ".byte 0\n"                                                \
      ".popsection\n");                                          \
  extern "C" {                                                   \
  extern const char gradtap_page_##name[];                       \
  extern const char gradtap_page_##name##_end[];                 \
  }                                                              \
  static std::string_view name##_bytes() {                       \
    return {gradtap_page_##name,                                 \
            static_cast<std::size_t>(gradtap_page_##name##_end - \
                                     gradtap_page_##name)};      \
  }

GRADTAP_EMBED(html, "index.html")
GRADTAP_EMBED(script, "page.js")
GRADTAP_EMBED(style, "page.css")

namespace gradtap::server {

const std::array<PageFile, 3>& EmbeddedPage() {
  static const std::array<PageFile, 3> files = {{
      {"/", "text/html; charset=utf-8", html_bytes()},
      {"/page.js", "text/javascript; charset=utf-8", script_bytes()},
      {"/page.css", "text/css; charset=utf-8", style_bytes()},
  }};
  return files;
}

}  // namespace gradtap::server
