// Which ATen operations a thread calls.

#ifndef GRADTAP_TESTS_AGENT_CAPTURE_RECORDING_H_
#define GRADTAP_TESTS_AGENT_CAPTURE_RECORDING_H_

#include <ATen/record_function.h>

#include <map>
#include <memory>
#include <string>

namespace gradtap::testing {

inline std::map<std::string, int>* recorded = nullptr;

// The ATen operations of this thread while it lives.
class Recording {
 public:
  Recording() {
    recorded = &operations;
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback([](const at::RecordFunction& f)
                                       -> std::unique_ptr<at::ObserverContext> {
          ++(*recorded)[f.name()];
          return nullptr;
        }).scopes({at::RecordScope::FUNCTION}));
  }
  ~Recording() {
    at::removeCallback(handle_);
    recorded = nullptr;
  }

  std::map<std::string, int> operations;

 private:
  at::CallbackHandle handle_ = 0;
};

// Each of these waits for the device, or asks it how large its result is.
inline constexpr const char* kWaiting[] = {"aten::item",
                                           "aten::_local_scalar_dense",
                                           "aten::is_nonzero",
                                           "aten::nonzero",
                                           "aten::masked_select",
                                           "aten::equal",
                                           "aten::unique",
                                           "aten::_unique2",
                                           "aten::bincount",
                                           "aten::coalesce",
                                           "aten::_coalesce",
                                           "aten::index",
                                           "aten::repeat_interleave",
                                           "aten::to_dense",
                                           "aten::allclose",
                                           "aten::unique_consecutive",
                                           "aten::unique_dim"};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_CAPTURE_RECORDING_H_
