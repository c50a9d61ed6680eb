// Counts the allocations of a binary that links allocation_counter.cc.

#ifndef GRADTAP_TESTS_AGENT_CAPTURE_ALLOCATION_COUNTER_H_
#define GRADTAP_TESTS_AGENT_CAPTURE_ALLOCATION_COUNTER_H_

namespace gradtap::testing {

// Calls of operator new by any thread between the two.
void StartCountingAllocations();
int StopCountingAllocations();

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_CAPTURE_ALLOCATION_COUNTER_H_
