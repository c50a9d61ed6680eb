// The sessions that are recorded of each release: what happens in them.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_SESSIONS_RECIPES_H_
#define GRADTAP_TESTS_SESSIONS_RECIPES_H_

#include <string>
#include <vector>

#include "sessions/recorded_agent.h"

namespace gradtap::testing {

struct Recipe {
  std::string name;  // Of the file, and of the run unless `run` is another.
  std::string run;
  void (*play)(RecordedAgent* agent);
};

const std::vector<Recipe>& Recipes();

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SESSIONS_RECIPES_H_
