// What killed processes have left, and that nothing of it is there once it is
// drained.

#ifndef GRADTAP_TESTS_FAULTS_LEFTOVERS_H_
#define GRADTAP_TESTS_FAULTS_LEFTOVERS_H_

#include <string>

namespace gradtap::testing {

// `gradtap drain` of all that is in the two folders, whomever it was for.
// Anything but success without a word fails the test.
void Drain(const std::string& collector, const std::string& spool,
           const std::string& rings);

// Fails the test if a record may be left in one of them.
void ExpectNothingLeft(const std::string& spool, const std::string& rings);

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_FAULTS_LEFTOVERS_H_
