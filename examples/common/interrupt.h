// Ctrl-C ends the training loop, not the process.
//
// Layer: examples.

#ifndef GRADTAP_EXAMPLES_COMMON_INTERRUPT_H_
#define GRADTAP_EXAMPLES_COMMON_INTERRUPT_H_

namespace examples {

// From here on the first SIGINT or SIGTERM makes Interrupted() true; a second
// one of the same kind ends the process as usual.
void CatchInterrupts();

// True once a signal has come. Any thread; costs one read.
bool Interrupted();

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_COMMON_INTERRUPT_H_
