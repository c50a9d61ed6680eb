// gradtap's agent: statistics of every parameter at every step of a LibTorch
// training loop, streamed to a collector.
//
//   gradtap::AgentOptions options;
//   options.run = "fashion-mnist";
//   auto tap = gradtap::Agent::Attach(*model, options);
//   ...
//   tap->Step(optimizer, {{"loss", loss}});   // instead of optimizer.step()
//
// A guest in the training job: nothing here waits for network or disk, and
// nothing throws but what your own optimizer throws.
//
// This header needs std only; torch types are named, not included.

#ifndef GRADTAP_AGENT_H_
#define GRADTAP_AGENT_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// Durations, std::function and smart pointers alone, where libstdc++ has them
// by themselves: with all of <chrono>, <functional> and <memory> a file that
// includes this takes twice as long as C++20.
#if defined(__GLIBCXX__) && __has_include(<bits/chrono.h>) && \
    __has_include(<bits/shared_ptr.h>) && \
    __has_include(<bits/std_function.h>) && \
    __has_include(<bits/unique_ptr.h>)
#include <bits/chrono.h>
#include <bits/shared_ptr.h>
#include <bits/std_function.h>
#include <bits/unique_ptr.h>
#else
#include <chrono>
#include <functional>
#include <memory>
#endif

#if defined(__GNUC__)
#define GRADTAP_EXPORT __attribute__((visibility("default")))
#else
#define GRADTAP_EXPORT
#endif

namespace at {
class Tensor;
}  // namespace at
namespace torch {
namespace nn {
class Module;
}  // namespace nn
namespace optim {
class Optimizer;
}  // namespace optim
}  // namespace torch

namespace gradtap {

// ---- Options -------------------------------------------------------------

// Which tensors of a parameter are recorded.
struct RoleOptions {
  bool weight = true;
  bool grad = true;
  // Needs a copy of the weights, allocated at the first step.
  bool update = true;
  bool buffer = true;
};

// Plain data. Each field has an environment variable, which wins, so that an
// operator can change a job without a rebuild. A value that does not parse is
// reported (status().problems, once on stderr) and the field keeps its value.
struct AgentOptions {
  // GRADTAP_COLLECTOR. "HOST:PORT" (":PORT" and "HOST" are completed).
  std::string collector = "127.0.0.1:7317";
  // GRADTAP_RUN. [A-Za-z0-9._-]{1,128}. Empty: the launcher's job id, else
  // PROGRAM-TIME-HOST.
  std::string run;
  // GRADTAP_RANK, GRADTAP_WORLD_SIZE. -1: from RANK and WORLD_SIZE, then
  // OpenMPI's, PMI's and Slurm's variables; else 0 and 1.
  int rank = -1;
  int world_size = -1;
  // GRADTAP_TAGS as "k=v,k2=v2" (added to these).
  std::map<std::string, std::string> tags;
  // GRADTAP_INCLUDE, GRADTAP_EXCLUDE, GRADTAP_SHARDED: one pattern each, in
  // place of the list. RE2, unanchored, over full names. A name is recorded if
  // it matches one of include (or include is empty) and none of exclude.
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  // Parameters of which each rank holds a disjoint part.
  std::vector<std::string> sharded;
  // GRADTAP_ROLES as "weight,grad,update,buffer".
  RoleOptions roles;
  // GRADTAP_INTERVAL. Statistics at steps divisible by it; others send their
  // scalars. Range: [1, 2^30].
  std::int64_t interval_steps = 1;
  // GRADTAP_HISTOGRAM_INTERVAL. Histograms (sign x binary exponent, see
  // core/histogram.h) of every record at steps divisible by it and captured.
  // 0: none. Range: [0, 2^30].
  std::int64_t histogram_interval_steps = 0;
  // GRADTAP_BUDGET. What statistics may take of step time on the training
  // thread: over it the interval widens in powers of two, and narrows again
  // when there is room. 0: no budget. Range: [0, 1].
  double overhead_budget = 0.05;
  // GRADTAP_AUDIT. Alternates blocks of so many steps with and without capture,
  // for `gradtap audit RUN`; there is no budget meanwhile. 0: off. Range: [0,
  // 2^20].
  std::int64_t audit_steps = 0;
  // GRADTAP_RING_BYTES. Records at hand until the collector has them. 0: the
  // larger of 64 MiB and 16 steps. Range otherwise: [1 MiB, 64 GiB].
  std::uint64_t ring_bytes = 0;
  // GRADTAP_SPOOL. The folder below which records wait on disk while the
  // collector is away, and after the process has ended: the next agent on this
  // host with the same collector delivers them, or `gradtap drain`. Made when
  // it is needed, private, on a local file system. "off": none. Empty:
  // gradtap/spool below $XDG_STATE_HOME, else below ~/.local/state.
  std::string spool;
  // GRADTAP_SPOOL_BYTES. What one process may have there. Range: [1 MiB, 1
  // TiB].
  std::uint64_t spool_bytes = std::uint64_t{1} << 30;
  // GRADTAP_MODE=offline. Dials nobody: everything goes to the spool, for
  // `gradtap drain` or `gradtap import`. A collector that is not the default
  // is noted there: they are for that one.
  bool offline = false;
  // GRADTAP_SHUTDOWN_MS. How long the destructor may try to deliver.
  std::chrono::milliseconds shutdown_deadline{5000};
  // GRADTAP_SIGTERM=1. SIGTERM ends the run as STOPPED: what was recorded is
  // delivered, for at most shutdown_deadline, while the loop waits in its next
  // Step; then the process ends by the signal, as it would have at once. A
  // handler of the program's own is called instead and decides (the run is
  // STOPPED when the agent goes); one that is installed later is not replaced.
  bool stop_on_sigterm = false;
  // GRADTAP_TLS=1, GRADTAP_TLS_CA (PEM; empty: the system's roots),
  // GRADTAP_TLS_CERT, GRADTAP_TLS_KEY (mutual TLS): read for each connection.
  bool tls = false;
  std::string tls_ca_file;
  std::string tls_cert_file;
  std::string tls_key_file;
  // GRADTAP_TOKEN. Without TLS it is sent to this machine alone (localhost,
  // 127.0.0.1, ::1, a socket); it is in no message and no file of the agent's.
  std::string token;
  // GRADTAP_TOKEN_FILE. Instead of the token: it is read again for each
  // connection, so that one that was refused can be put right meanwhile.
  std::string token_file;
  // GRADTAP_PROXY=1: let gRPC use http_proxy and its relatives.
  bool use_proxy = false;
  // Receives each message once instead of stderr (GRADTAP_LOG=off silences
  // both). [Threading] the training thread or the agent's own, one at a time.
  // [Locking] none held. [Exceptions] swallowed.
  std::function<void(const std::string& message)> log;
};

// ---- Values handed in ------------------------------------------------------

// A named number of a step. Of a tensor it holds a reference, as a copy of that
// tensor does: it may be a temporary, and its value is that of when the step
// ends. Allocates for a tensor, and for a name of more than 15 bytes.
class Scalar {
 public:
  template <
      typename Number,
      typename std::enable_if<std::is_arithmetic<Number>::value, int>::type = 0>
  Scalar(std::string name, Number value)
      : name_(std::move(name)), value_(static_cast<double>(value)) {}
  // A tensor of one element, of any dtype.
  GRADTAP_EXPORT Scalar(std::string name, const at::Tensor& tensor);

  const std::string& name() const { return name_; }
  double value() const { return value_; }
  const at::Tensor* tensor() const {  // Null: a number.
    return static_cast<const at::Tensor*>(tensor_.get());
  }

 private:
  std::string name_;
  double value_ = 0;
  std::shared_ptr<const void> tensor_;  // An at::Tensor.
};

// {"G", *generator}: parameters are named "G.conv.weight" and so on. An empty
// prefix adds nothing.
class NamedModule {
 public:
  NamedModule(std::string prefix, const torch::nn::Module& module)
      : prefix_(std::move(prefix)), module_(&module) {}
  const std::string& prefix() const { return prefix_; }
  const torch::nn::Module& module() const { return *module_; }

 private:
  std::string prefix_;
  const torch::nn::Module* module_;
};

// {"w", tensor}: for script modules and hand-made parameters. Holds a
// reference, as a copy of the tensor does: it may be a temporary.
class NamedTensor {
 public:
  GRADTAP_EXPORT NamedTensor(std::string name, const at::Tensor& tensor,
                             bool buffer = false);
  const std::string& name() const { return name_; }
  const at::Tensor& tensor() const {
    return *static_cast<const at::Tensor*>(tensor_.get());
  }
  bool buffer() const { return buffer_; }

 private:
  std::string name_;
  std::shared_ptr<const void> tensor_;  // An at::Tensor.
  bool buffer_;
};

// ---- The parameter table ---------------------------------------------------

struct ParameterDescription {
  std::string name;         // Full path: "encoder.layers.0.weight".
  bool buffer = false;      // Else a parameter.
  std::string module_path;  // "encoder.layers.0"; empty for the root.
  std::string module_type;  // "Linear", as a person would write it.
  std::string dtype;        // "float32", ...
  std::vector<std::int64_t> shape;
  std::string device;  // "cpu", "cuda:0", ...
  std::string layout;  // "strided", ...
  bool requires_grad = false;
  std::uint64_t numel = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> aliases;  // Other names of the same tensor.
  std::string unsupported_reason;    // Not empty: it cannot be recorded.
};

struct ParameterTable {
  std::vector<ParameterDescription> parameters;  // In walking order.
  // Totals; tied tensors count once, buffers apart.
  std::uint64_t parameter_count = 0;
  std::uint64_t parameter_numel = 0;
  std::uint64_t parameter_bytes = 0;
  std::uint64_t trainable_numel = 0;
  std::uint64_t buffer_count = 0;
  std::uint64_t buffer_numel = 0;
  std::uint64_t buffer_bytes = 0;

  // The table as text: aligned columns, one row each, and a line of totals.
  GRADTAP_EXPORT std::string ToString() const;
};

GRADTAP_EXPORT std::ostream& operator<<(std::ostream& out,
                                        const ParameterTable& table);

// The model's parameters and buffers, with no collector, no agent, no network.
// `include` and `exclude` as in AgentOptions; a bad pattern throws
// std::invalid_argument that names it.
GRADTAP_EXPORT ParameterTable
DescribeParameters(const torch::nn::Module& model,
                   const std::vector<std::string>& include = {},
                   const std::vector<std::string>& exclude = {});

// ---- Status ----------------------------------------------------------------

enum class AgentState {
  kDisabled,    // GRADTAP_DISABLED=1, bad options, or a forked child.
  kIdle,        // No step yet: nothing has been dialled.
  kConnecting,  // Steps are kept in the ring.
  kStreaming,   // The collector takes them.
  kStopped,     // Shut down.
  kOffline,     // Steps go to the spool.
};

// Books balance: steps_seen = steps_recorded + steps_skipped + steps_lost, and
// steps_recorded = steps_acknowledged + steps_at_hand. A step whose results are
// still on another device is seen when they are here: at the next step.
struct AgentStatus {
  AgentState state = AgentState::kIdle;
  std::string run;
  std::string collector;
  std::uint64_t steps_seen = 0;
  std::uint64_t steps_recorded = 0;
  std::uint64_t steps_skipped = 0;
  std::uint64_t steps_lost = 0;
  std::uint64_t steps_acknowledged = 0;
  std::uint64_t steps_at_hand = 0;
  // "interval", "loop", "ring_full", ... -> steps.
  std::map<std::string, std::uint64_t> skipped_by_cause;
  std::map<std::string, std::uint64_t> lost_by_cause;
  std::uint64_t bytes_recorded = 0;
  std::uint64_t bytes_acknowledged = 0;
  std::uint64_t ring_bytes = 0;  // Capacity.
  // "/dev/shm/...ring, survives the process", or "memory only: WHY": then a
  // step that has reached neither collector nor spool dies with the process.
  std::string ring;
  std::string spool;                    // Its folder, or "off".
  std::uint64_t weight_copy_bytes = 0;  // For observing updates.
  std::uint64_t parameters = 0;         // In the newest schema.
  std::uint32_t schemas = 0;
  // On the training thread: all calls together, and the newest step's. Waiting
  // for results from another device is not among it.
  std::chrono::nanoseconds own_time{0};
  std::chrono::nanoseconds own_time_last_step{0};
  // Own time over all time of the newest 64 steps, on the training thread; in
  // place of own time what another device took for it, if that is more and can
  // be measured (on CUDA). NaN: none yet.
  double overhead = std::numeric_limits<double>::quiet_NaN();
  std::int64_t interval_steps = 1;  // In force: what the budget made of it.
  // What went wrong, newest last, each once; at most 64 lines.
  std::vector<std::string> problems;
};

struct FlushResult {
  bool delivered = false;  // Everything that was recorded is acknowledged.
  std::uint64_t undelivered_steps = 0;
  std::uint64_t undelivered_bytes = 0;
};

// ---- The agent -------------------------------------------------------------

// [Threading] One thread at a time calls the recording methods: the training
// loop's. status() and Flush() may be called by any thread. In a forked child
// every call does nothing.
class GRADTAP_EXPORT Agent {
 public:
  // Never throws, never null. With bad options it returns an agent that
  // records nothing, and says why in status() and once on stderr; a collector
  // that is away only delays. The module must outlive the agent.
  static std::unique_ptr<Agent> Attach(const torch::nn::Module& model,
                                       AgentOptions options = {}) noexcept;
  static std::unique_ptr<Agent> Attach(std::vector<NamedModule> modules,
                                       AgentOptions options = {}) noexcept;
  static std::unique_ptr<Agent> Attach(std::vector<NamedTensor> tensors,
                                       AgentOptions options = {}) noexcept;

  // Delivers what is left for at most options.shutdown_deadline.
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Records gradients, calls optimizer.step(), records weights, updates and
  // buffers. What the optimizer throws passes through, and the step is a gap.
  void Step(torch::optim::Optimizer& optimizer,
            std::initializer_list<Scalar> scalars = {});
  void Step(torch::optim::Optimizer& optimizer,
            const std::vector<Scalar>& scalars);

  // The same for optimizers that evaluate the loss themselves (LBFGS). Returns
  // what the optimizer returns. Gradients are those of the first evaluation: of
  // the point where the step starts. What the closure throws passes through
  // too. An optimizer that does not evaluate it makes a gap.
  at::Tensor Step(torch::optim::Optimizer& optimizer,
                  const std::function<at::Tensor()>& closure,
                  std::initializer_list<Scalar> scalars = {});
  at::Tensor Step(torch::optim::Optimizer& optimizer,
                  const std::function<at::Tensor()>& closure,
                  const std::vector<Scalar>& scalars);

  // The same in pieces, for loops that call the optimizer themselves. Called
  // again within a step, Before records all gradients again.
  void BeforeOptimizerStep() noexcept;
  // For steps with several optimizers: records the gradients of this one's
  // parameters alone, as it is about to consume them. Call it before each one's
  // step(); the calls add up, and AfterOptimizerStep() ends the step of all.
  // Parameters of none of them have no gradient in this step.
  //
  //   tap->BeforeOptimizerStep(d_optimizer);
  //   d_optimizer.step();
  //   ...  // The generator's backward(): it adds to D's gradients, too late.
  //   tap->BeforeOptimizerStep(g_optimizer);
  //   g_optimizer.step();
  //   tap->AfterOptimizerStep({{"d_loss", d_loss}, {"g_loss", g_loss}});
  void BeforeOptimizerStep(torch::optim::Optimizer& optimizer) noexcept;
  void AfterOptimizerStep(std::initializer_list<Scalar> scalars = {}) noexcept;
  void AfterOptimizerStep(const std::vector<Scalar>& scalars) noexcept;
  // The loop did not take this step; `reason` is stored with the gap. Gradients
  // that were recorded for it are dropped.
  void StepSkipped(const std::string& reason,
                   std::initializer_list<Scalar> scalars = {}) noexcept;

  // The loss was multiplied by `scale`, and gradients still are when they are
  // recorded: what is stored is gradient / scale, and the scalar "loss_scale"
  // unless the loop gives one of that name. Call it before the gradients are
  // recorded; it holds until the next call; 1 ends it. A loop that unscales
  // gradients before its optimizer's step does not call this. Not finite or not
  // above 0: reported, and the scale stays.
  void SetLossScale(double scale) noexcept;

  // Optional, before the loop's own all-reduce: records grad_local; of one
  // optimizer's parameters alone as above.
  void AfterBackward() noexcept;
  void AfterBackward(torch::optim::Optimizer& optimizer) noexcept;

  // The next step is n. Going back opens a new branch of the history. A job
  // that goes on from a checkpoint calls it before its first step: else it
  // begins at 0, and is warned once if the run has steps already.
  void SetStep(std::int64_t n) noexcept;

  // Walks the modules again at the next step.
  void Refresh() noexcept;

  // Waits until everything recorded so far is acknowledged, at most `deadline`.
  // A step whose results are on another device still is among it if the
  // training thread calls.
  FlushResult Flush(std::chrono::milliseconds deadline) noexcept;

  AgentStatus status() const;

 private:
  class Impl;
  explicit Agent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gradtap

#endif  // GRADTAP_AGENT_H_
