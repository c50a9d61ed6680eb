// Prints what a data folder that no collector has open has of a run:
//
//   gradtap_stored_text FOLDER RUN

#include <exception>
#include <iostream>

#include "server/store/store.h"
#include "sessions/stored_text.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: gradtap_stored_text FOLDER RUN\n";
    return 2;
  }
  gradtap::server::StoreOptions options;
  options.data_dir = argv[1];
  options.seal = false;
  const auto store = gradtap::server::OpenRocksdbStore(options);
  if (!store.ok()) {
    std::cerr << "gradtap_stored_text: " << store.status().ToString() << "\n";
    return 1;
  }
  try {
    std::cout << gradtap::server::testing::StoredText(store->get(), argv[2]);
  } catch (const std::exception& error) {
    std::cerr << "gradtap_stored_text: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
