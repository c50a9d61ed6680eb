// Floating point as IEEE says while a kernel runs.
//
// Training programs may flush subnormals to zero (torch::set_flush_denormal);
// a record tells them from zeros.
//
// Layer: core.

#ifndef GRADTAP_CORE_KERNEL_CONTROL_H_
#define GRADTAP_CORE_KERNEL_CONTROL_H_

namespace gradtap::kernel {

#if defined(__x86_64__) || defined(__i386__)

// Clears flush-to-zero and denormals-are-zero of the calling thread, if they
// are set, until destroyed. What runs in between must be a call that is not
// inlined.
class FullSubnormals {
 public:
  FullSubnormals() : saved_(__builtin_ia32_stmxcsr()) {
    if (saved_ & kFlush) __builtin_ia32_ldmxcsr(saved_ & ~kFlush);
  }
  ~FullSubnormals() {
    if (saved_ & kFlush) __builtin_ia32_ldmxcsr(saved_);
  }
  FullSubnormals(const FullSubnormals&) = delete;
  FullSubnormals& operator=(const FullSubnormals&) = delete;

 private:
  static constexpr unsigned kFlush = 0x8040;  // Both bits of MXCSR.

  const unsigned saved_;
};

#else

// Elsewhere the thread's setting stands.
class FullSubnormals {
 public:
  FullSubnormals() {}
};

#endif

}  // namespace gradtap::kernel

#endif  // GRADTAP_CORE_KERNEL_CONTROL_H_
