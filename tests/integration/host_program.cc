// A training program with protos and a gRPC server of its own, and the agent
// beside them. Prints "host: WORDS STEPS" and exits 0 if all of it worked.
//
// usage: host_program COLLECTOR RUN

#include <grpcpp/grpcpp.h>

#include <iostream>
#include <memory>
#include <string>

#include "host/v1/host.grpc.pb.h"
#include "integration/coexist_agent.h"

namespace {

class EchoService : public host::v1::Echo::Service {
 public:
  grpc::Status Say(grpc::ServerContext*, const host::v1::Words* request,
                   host::v1::Words* response) override {
    *response = *request;
    response->add_word("again");
    return grpc::Status::OK;
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: host_program COLLECTOR RUN\n";
    return 2;
  }
  EchoService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  const auto stub = host::v1::Echo::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));

  int echoed = 0;
  const auto trained =
      gradtap::testing::TrainWithAgent(argv[1], argv[2], 30, [&] {
        grpc::ClientContext context;
        host::v1::Words words, answer;
        words.add_word("step");
        if (stub->Say(&context, words, &answer).ok()) {
          echoed += answer.word_size();
        }
      });
  server->Shutdown();
  std::cout << "host: " << echoed << ' ' << trained.acknowledged << std::endl;
  return trained.delivered && echoed == 60 ? 0 : 1;
}
