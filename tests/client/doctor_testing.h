// What the doctor's tests share: one examination, and what was found in it.

#ifndef GRADTAP_TESTS_CLIENT_DOCTOR_TESTING_H_
#define GRADTAP_TESTS_CLIENT_DOCTOR_TESTING_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/cli/doctor.h"
#include "client/cli/doctor_rows.h"
#include "client/fake_world.h"

namespace gradtap::client::testing {

class DoctorTest : public ::testing::Test {
 protected:
  using Level = Finding::Level;

  // Everything that is no OK, as text: "level check: what -> advice".
  std::vector<std::string> Complaints() {
    findings_ = Examine(&world_, options_);
    std::vector<std::string> complaints;
    for (const Finding& finding : findings_) {
      if (finding.level == Level::kOk) continue;
      complaints.push_back(
          std::string(finding.level == Level::kNote ? "note " : "problem ") +
          finding.check + ": " + finding.what + " -> " + finding.advice);
    }
    return complaints;
  }
  std::string Everything() const { return DoctorText(findings_, {}); }
  void Tls() {
    world_.env["GRADTAP_TLS"] = "1";
    world_.env["GRADTAP_COLLECTOR"] = "gpu7";
  }

  FakeWorld world_;
  DoctorOptions options_;
  std::vector<Finding> findings_;
};

}  // namespace gradtap::client::testing

#endif  // GRADTAP_TESTS_CLIENT_DOCTOR_TESTING_H_
