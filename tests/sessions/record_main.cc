// Records sessions of this version's agent with a collector that runs:
//
//   gradtap_record_sessions HOST:PORT FOLDER
//
// makes FOLDER/NAME.session of each recipe. tools/sessions starts the collector
// and writes down what it has stored.

#include <exception>
#include <iostream>

#include "sessions/recipes.h"
#include "sessions/recorded_agent.h"
#include "sessions/session_file.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: gradtap_record_sessions HOST:PORT FOLDER\n";
    return 2;
  }
  for (const auto& recipe : gradtap::testing::Recipes()) {
    try {
      gradtap::testing::RecordedAgent agent(argv[1], recipe.run);
      recipe.play(&agent);
      gradtap::testing::WriteSession(
          std::string(argv[2]) + "/" + recipe.name + ".session",
          agent.entries());
    } catch (const std::exception& error) {
      std::cerr << "gradtap_record_sessions: " << recipe.name << ": "
                << error.what() << "\n";
      return 1;
    }
  }
  return 0;
}
