#include "tests/bench/drawn_steps.h"

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "core/codec.h"

namespace gradtap::bench {

Schema DrawnSchema(std::size_t parameters, const std::vector<Role>& roles) {
  Schema schema;
  schema.schema_id = 1;
  for (std::size_t i = 0; i < parameters; ++i) {
    Parameter p;
    p.name = "block" + std::to_string(i / 8) + ".layer" + std::to_string(i % 8);
    p.dtype = "float32";
    p.shape = {kNumel};
    p.numel = kNumel;
    p.roles = roles;
    schema.parameters.push_back(std::move(p));
  }
  return schema;
}

std::vector<Recorded::Series> AsIs(const Recorded& recorded,
                                   const std::string& of) {
  std::vector<Recorded::Series> series;
  for (const Recorded::Series& one : recorded.series()) {
    if (!of.empty() && one.run == (of == "gpt" ? 1U : 0U)) {
      series.push_back(one);
    }
  }
  return series;
}

RunWriter::RunWriter(server::Store* store, const std::string& run,
                     DrawnSteps* source)
    : store_(store), source_(source) {
  server::StreamHello hello;
  hello.run = run;
  hello.launch = "launch";
  hello.process_nonce = std::string(16, 'n');
  stream_ = store->OpenStream(hello, 1)->id;
}

double RunWriter::WriteTo(std::int64_t end, bool last,
                          const std::function<void(double)>& on_commit) {
  const std::string record = EncodeSchema(source_->schema());
  const std::string schema(ParseRecord(record)->body);
  double all = 0;
  while (step_ < end) {
    std::vector<std::string> bodies;
    server::StreamCommit commit;
    commit.stream = stream_;
    commit.first_seq = seq_ + 1;
    if (step_ == 0) commit.schemas.push_back({1, schema});
    const std::int64_t first = step_;
    std::size_t bytes = 0;
    while (step_ < end && bytes < (8u << 20)) {
      const StepData& data = source_->At(step_);
      std::string encoded(EncodedStepSize(data), '\0');
      EncodeStep(data, encoded);
      bodies.emplace_back(ParseRecord(encoded)->body);
      bytes += bodies.back().size();
      ++step_;
      ++seq_;
    }
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      commit.steps.push_back({0,
                              first + static_cast<std::int64_t>(i),
                              true,
                              source_->schema().parameters.size() *
                                  source_->schema().parameters[0].roles.size(),
                              bodies[i],
                              {}});
    }
    if (last && step_ == end) {
      commit.end = EndData{EndReason::kFinished, 1, seq_, seq_, 0, 0};
    }
    commit.last_seq = seq_;
    commit.bytes = bytes;
    commit.last_seen_unix_ns = source_->now_unix_ns();
    const auto begin = std::chrono::steady_clock::now();
    const absl::Status s = store_->Commit({&commit, 1});
    const std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - begin;
    if (!s.ok()) {
      std::fprintf(stderr, "%s\n", s.ToString().c_str());
      std::exit(1);
    }
    all += took.count();
    if (on_commit) on_commit(took.count());
  }
  return all;
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) +
           1e-6 * static_cast<double>(t.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

double ResidentMiB() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  long pages = 0, resident = 0;
  if (file == nullptr || std::fscanf(file, "%ld %ld", &pages, &resident) != 2) {
    resident = 0;
  }
  if (file != nullptr) std::fclose(file);
  return static_cast<double>(resident) * 4096 / (1 << 20);
}

}  // namespace gradtap::bench
