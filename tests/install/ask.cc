// The query library, in somebody else's program. Nobody answers: the error says
// so.

#include <gradtap/client.h>

#include <iostream>

int main() {
  gradtap::client::ClientOptions options;
  options.collector = "127.0.0.1:1";
  options.connect_deadline = std::chrono::milliseconds(500);
  auto client = gradtap::client::Client::Connect(options);
  if (!client.ok()) {
    std::cout << client.error().message << "\n";
    return 0;
  }
  auto runs = client.value().Runs();
  if (runs.ok()) return 1;
  std::cout << runs.error().message << "\n";
  return 0;
}
