// Linked into every test: no agent that a test makes, or a program that it
// starts, leaves records below the home of whoever runs the tests or in shared
// memory, nor delivers what it finds there.
//
// Layer: tests.

#include <cstdlib>

namespace {

[[maybe_unused]] const int kSpoolIsOff =
    ::setenv("GRADTAP_SPOOL", "off", /*overwrite=*/1);
[[maybe_unused]] const int kRingIsMemory =
    ::setenv("GRADTAP_RING_FOLDER", "off", /*overwrite=*/1);

}  // namespace
