// In the place of postgres_peer.cc where CMake has found no libpq.

#include <stdexcept>
#include <string>

#include "bench/peers/peer.h"

namespace gradtap::bench {
namespace {

class NoPostgresPeer : public Peer {
 public:
  std::string name() const override { return "postgresql"; }
  std::string Missing() const override {
    return "apt-get install postgresql-15 libpq-dev, then run cmake again and "
           "build peers_benchmark";
  }
  std::string Settings() const override { return ""; }
  void Start(const std::string&) override { Fail(); }
  void Stop() override {}
  void Prepare(const DataSet&, const std::string&) override { Fail(); }
  double Load(const DataSet&) override { Fail(); }
  void Settle() override {}
  std::uint64_t DiskBytes(const std::string&) const override { return 0; }
  std::function<Answer()> Ask(const DataSet&, const Question&) override {
    Fail();
  }

 private:
  [[noreturn]] static void Fail() {
    throw std::runtime_error("built without libpq");
  }
};

}  // namespace

std::unique_ptr<Peer> MakePostgresPeer() {
  return std::make_unique<NoPostgresPeer>();
}

}  // namespace gradtap::bench
