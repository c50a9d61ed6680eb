#include "server/service/query_service.h"

#include <chrono>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "server/query/compare_query.h"
#include "server/query/gaps.h"
#include "server/query/heat_map_query.h"
#include "server/query/histogram_query.h"
#include "server/query/series_query.h"
#include "server/query/snapshot_query.h"
#include "server/query/top_query.h"
#include "server/service/grpc_status.h"

namespace gradtap::server {
namespace {

// Only memory that is not there is expected to throw.
absl::Status RunTask(const std::function<absl::Status(const Cancelled&)>& task,
                     const Cancelled& cancelled) {
  try {
    return task(cancelled);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        "out of memory; ask for less (--steps A:B, --points N, --match)");
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

}  // namespace

QueryService::QueryService(QueryEnvironment environment,
                           const QueryServiceOptions& options)
    : environment_(std::move(environment)) {
  SetMessageAllocatorFor_ListParameters(&parameter_messages_);
  SetMessageAllocatorFor_GetSeries(&series_messages_);
  SetMessageAllocatorFor_GetSnapshot(&snapshot_messages_);
  SetMessageAllocatorFor_GetHeatMap(&heat_map_messages_);
  SetMessageAllocatorFor_GetHistograms(&histogram_messages_);
  environment_.open_watches = [this] { return hub_->open(); };
  environment_.calls = [this] {
    CallsFigures calls;
    calls.methods = meter_.Figures(std::chrono::steady_clock::now());
    calls.running = running_;
    calls.waiting = static_cast<std::uint32_t>(pool_->queued());
    return calls;
  };
  hub_ = std::make_unique<WatchHub>(&environment_, &overheads_,
                                    options.max_watches);
  pool_ = std::make_unique<WorkerPool>(options.threads, options.max_queued);
}

QueryService::~QueryService() = default;

void QueryService::Shutdown(std::chrono::steady_clock::time_point deadline) {
  stopping_ = true;
  hub_->Shutdown(deadline);
  pool_->WaitIdle(deadline);
}

grpc::ServerUnaryReactor* QueryService::Submit(
    grpc::CallbackServerContext* context, const char* method, Task task) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto arrived = std::chrono::steady_clock::now();
  const auto finish = [this, reactor, method,
                       arrived](const absl::Status& status) {
    meter_.Ended(method, arrived, std::chrono::steady_clock::now(),
                 status.ok());
    reactor->Finish(ToGrpcStatus(status));
  };
  if (stopping_) {
    finish(absl::UnavailableError("the collector is shutting down"));
    return reactor;
  }
  const bool queued =
      pool_->TrySubmit([this, context, finish, task = std::move(task)] {
        const Cancelled cancelled = [this, context] {
          return stopping_ || context->IsCancelled();
        };
        ++running_;
        absl::Status status = RunTask(task, cancelled);
        --running_;  // Before its caller has the answer, and may ask again.
        if (stopping_ && absl::IsCancelled(status)) {
          status = absl::UnavailableError("the collector is shutting down");
        }
        finish(status);
      });
  if (!queued) {
    finish(absl::ResourceExhaustedError(
        "too many queries are waiting; try again"));
  }
  return reactor;
}

grpc::ServerUnaryReactor* QueryService::ListRuns(
    grpc::CallbackServerContext* context, const v1::ListRunsRequest* request,
    v1::ListRunsResponse* response) {
  return Submit(context, "ListRuns", [=, this](const Cancelled& cancelled) {
    return server::ListRuns(environment_, *request, cancelled, &overheads_,
                            response);
  });
}

grpc::ServerUnaryReactor* QueryService::GetRun(
    grpc::CallbackServerContext* context, const v1::GetRunRequest* request,
    v1::GetRunResponse* response) {
  return Submit(context, "GetRun", [=, this](const Cancelled& cancelled) {
    return server::GetRun(environment_, *request, cancelled, &overheads_,
                          response);
  });
}

grpc::ServerUnaryReactor* QueryService::ListParameters(
    grpc::CallbackServerContext* context,
    const v1::ListParametersRequest* request,
    v1::ListParametersResponse* response) {
  return Submit(context, "ListParameters", [=, this](const Cancelled&) {
    return server::ListParameters(environment_, *request, response);
  });
}

grpc::ServerUnaryReactor* QueryService::GetSeries(
    grpc::CallbackServerContext* context, const v1::GetSeriesRequest* request,
    v1::GetSeriesResponse* response) {
  return Submit(context, "GetSeries", [=, this](const Cancelled& cancelled) {
    return server::GetSeries(environment_, *request, cancelled, response);
  });
}

grpc::ServerUnaryReactor* QueryService::GetSnapshot(
    grpc::CallbackServerContext* context, const v1::GetSnapshotRequest* request,
    v1::GetSnapshotResponse* response) {
  return Submit(context, "GetSnapshot", [=, this](const Cancelled& cancelled) {
    return server::GetSnapshot(environment_, *request, cancelled, response);
  });
}

grpc::ServerUnaryReactor* QueryService::GetHeatMap(
    grpc::CallbackServerContext* context, const v1::GetHeatMapRequest* request,
    v1::GetHeatMapResponse* response) {
  return Submit(context, "GetHeatMap", [=, this](const Cancelled& cancelled) {
    return server::GetHeatMap(environment_, *request, cancelled, response);
  });
}

grpc::ServerUnaryReactor* QueryService::GetHistograms(
    grpc::CallbackServerContext* context,
    const v1::GetHistogramsRequest* request,
    v1::GetHistogramsResponse* response) {
  return Submit(context, "GetHistograms",
                [=, this](const Cancelled& cancelled) {
                  return server::GetHistograms(environment_, *request,
                                               cancelled, response);
                });
}

grpc::ServerUnaryReactor* QueryService::GetTop(
    grpc::CallbackServerContext* context, const v1::GetTopRequest* request,
    v1::GetTopResponse* response) {
  return Submit(context, "GetTop", [=, this](const Cancelled& cancelled) {
    return server::GetTop(environment_, *request, cancelled, response);
  });
}

grpc::ServerUnaryReactor* QueryService::CompareRuns(
    grpc::CallbackServerContext* context, const v1::CompareRunsRequest* request,
    v1::CompareRunsResponse* response) {
  return Submit(context, "CompareRuns", [=, this](const Cancelled& cancelled) {
    return server::CompareRuns(environment_, *request, cancelled, response);
  });
}

grpc::ServerUnaryReactor* QueryService::ListGaps(
    grpc::CallbackServerContext* context, const v1::ListGapsRequest* request,
    v1::ListGapsResponse* response) {
  return Submit(context, "ListGaps", [=, this](const Cancelled& cancelled) {
    return server::ListGaps(environment_, *request, cancelled, response);
  });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* QueryService::Watch(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return hub_->Open(context, request);
}

grpc::ServerUnaryReactor* QueryService::DeleteRun(
    grpc::CallbackServerContext* context, const v1::DeleteRunRequest* request,
    v1::DeleteRunResponse* response) {
  return Submit(context, "DeleteRun", [=, this](const Cancelled&) {
    return server::DeleteRun(environment_, *request, &overheads_, response);
  });
}

grpc::ServerUnaryReactor* QueryService::PinRun(
    grpc::CallbackServerContext* context, const v1::PinRunRequest* request,
    v1::PinRunResponse* response) {
  return Submit(context, "PinRun", [=, this](const Cancelled&) {
    return server::PinRun(environment_, *request, response);
  });
}

grpc::ServerUnaryReactor* QueryService::GetStatus(
    grpc::CallbackServerContext* context,
    const v1::GetStatusRequest* /*request*/, v1::GetStatusResponse* response) {
  return Submit(context, "GetStatus", [=, this](const Cancelled&) {
    return server::GetStatus(environment_, response);
  });
}

}  // namespace gradtap::server
