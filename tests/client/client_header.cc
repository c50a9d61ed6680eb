// Compiles the public header as the first and only include, as C++17.

#include <gradtap/client.h>

// Everything a program touches is usable without another header.
bool UseTheClientHeader() {
  gradtap::client::ClientOptions options;
  options.collector = "127.0.0.1:1";
  gradtap::client::SeriesQuery series;
  series.runs = {"run"};
  gradtap::client::Result<int> result(1);
  return result.ok() && *result == 1 && series.runs.size() == 1;
}
