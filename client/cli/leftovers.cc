#include "client/cli/leftovers.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/delivery/grpc_transport.h"
#include "agent/delivery/leftover_drive.h"
#include "client/cli/leftover_rows.h"
#include "core/names.h"

namespace gradtap::client {
namespace {

using agent::Leftover;
using agent::LeftoverDrive;
using agent::LeftoverOutcome;
using agent::LeftoverPlace;
using agent::SpoolUse;

std::string Quoted(const std::string& path) {
  return absl::StrCat("'", EscapeForTerminal(path), "'");
}

bool IsUnreachable(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

class Delivery {
 public:
  Delivery(const LeftoverOptions& options, std::string collector,
           Context& context)
      : options_(options),
        use_(options.use),
        collector_(std::move(collector)),
        context_(context) {}

  // False: there is no sense in going on.
  bool Deliver(const LeftoverPlace& place) {
    row_ = LeftoverRow();
    row_.folder = place.path();
    const std::string name =
        std::filesystem::path(place.path()).stem().string();
    if (name.size() == 32) row_.process = name;
    const absl::Status status = TryToDeliver(place);
    if (!row_.folder.empty()) Take(status);
    // One that refuses for now was asked for as long as patience lasts.
    return !IsUnreachable(status) && !absl::IsResourceExhausted(status) &&
           !absl::IsAborted(status);
  }

  absl::Status Write() {
    switch (context_.format()) {
      case Format::kJson:
        return context_.Write(LeftoverJson(rows_));
      case Format::kCsv:
        return context_.Write(LeftoverCsv(rows_, context_.csv_options()));
      case Format::kTable:
        break;
    }
    if (rows_.empty()) return context_.Write("Nothing is left.\n");
    return context_.Write(LeftoverTable(rows_, context_.table_style()));
  }

  // What the command comes to.
  absl::Status Result() const {
    if (failed_ == 0) return absl::OkStatus();
    const std::string message =
        failed_ == 1 ? first_failure_
                     : absl::StrCat(failed_, " of ", rows_.size(),
                                    " were not delivered: ", first_failure_);
    const absl::StatusCode code = IsUnreachable(first_status_)
                                      ? first_status_.code()
                                      : absl::StatusCode::kFailedPrecondition;
    return absl::Status(code, message);
  }

 private:
  absl::Status TryToDeliver(const LeftoverPlace& place) {
    if (place.set_aside && use_ == SpoolUse::kTakeOver) {
      row_.state = LeftoverRow::State::kSetAside;
      row_.problems.push_back(
          "nothing more of it can be read: look at the .bad files, or delete "
          "the folder");
      return absl::OkStatus();
    }
    auto leftover = Leftover::Open(place, use_);
    if (!leftover.ok()) return NotOpened(place, leftover.status());
    const agent::SpoolIdentity& identity = (*leftover)->identity();
    row_.process = absl::BytesToHexString(identity.process_nonce);
    row_.run = identity.run;
    row_.rank = identity.rank;
    row_.pid = identity.pid;
    row_.collector = identity.collector;
    if (use_ == SpoolUse::kTakeOver && !options_.any_collector &&
        !agent::IsFor(identity, collector_)) {
      return ForAnother(leftover->get());
    }
    if (absl::Status dialled = Dial(); !dialled.ok()) return dialled;
    if (options_.without_spool) (*leftover)->GiveUpUnseenSpool();
    if (options_.without_schema) (*leftover)->GiveUpStepsWithoutSchema();
    return Drive(leftover->get());
  }

  // There it would be missing.
  absl::Status ForAnother(Leftover* leftover) {
    row_.state = LeftoverRow::State::kForAnother;
    row_.problems = leftover->TakeProblems();
    const std::string& collector = leftover->identity().collector;
    return absl::FailedPreconditionError(absl::StrCat(
        "what ", leftover->Description(), " has left is for the collector ",
        EscapeForTerminal(collector), ", not for ", collector_, ": `",
        agent::DrainCommand(collector, options_.folder),
        "` delivers it there; --any-collector delivers it here"));
  }

  absl::Status NotOpened(const LeftoverPlace& place,
                         const absl::Status& status) {
    if (const auto owner = agent::LiveOwner(status)) {
      row_.state = LeftoverRow::State::kRunning;
      row_.pid = *owner;
      if (use_ == SpoolUse::kTakeOver) return absl::OkStatus();
      return absl::FailedPreconditionError(absl::StrCat(
          std::string(status.message()),
          ", which delivers it by itself: import a copy of the folder"));
    }
    std::error_code error;
    if (absl::IsNotFound(status) && use_ == SpoolUse::kTakeOver &&
        !std::filesystem::exists(place.path(), error)) {
      row_.folder.clear();  // Nothing was in it, and now it is gone.
      return absl::OkStatus();
    }
    return absl::FailedPreconditionError(status.message());
  }

  absl::Status Dial() {
    if (transport_) return absl::OkStatus();
    const ChannelOptions options = context_.channel_options();
    auto channel = context_.Connect(v1::GetStatusRequest());
    if (!channel.ok()) return channel.status();
    agent::GrpcTransportOptions transport;
    transport.collector = (*channel)->address();
    transport.tls = options.tls;
    transport.token = options.token;
    transport.use_proxy = options.use_proxy;
    agent::TlsFiles& files = transport.tls_files;
    for (const auto& [file, pem] :
         {std::pair(&options.tls_ca_file, &files.ca_pem),
          std::pair(&options.tls_cert_file, &files.cert_pem),
          std::pair(&options.tls_key_file, &files.key_pem)}) {
      if (!options.tls || file->empty()) continue;
      auto text = ReadPemFile(*file);
      if (!text.ok()) return text.status();
      *pem = *std::move(text);
    }
    transport_ = std::move(transport);
    return absl::OkStatus();
  }

  absl::Status Drive(Leftover* leftover) {
    agent::LeftoverDriveOptions options;
    options.collector = transport_->collector;
    options.hurry = true;
    options.patience = context_.channel_options().deadline;
    LeftoverDrive drive(leftover, std::move(options),
                        agent::MakeGrpcTransport(*transport_), &RealClock());
    drive.Run([this] { return context_.interrupted(); });
    const LeftoverOutcome& outcome = drive.outcome();
    row_.attempt = outcome.attempt;
    row_.records_sent = outcome.records_sent;
    row_.steps_sent = outcome.steps_sent;
    row_.records_there = outcome.records_there;
    row_.steps_there = outcome.steps_there;
    row_.steps_refused = outcome.steps_refused;
    row_.problems = outcome.problems;
    const std::uint64_t refused =
        outcome.steps_refused - outcome.steps_given_up;
    if (outcome.status.ok() && refused > 0) {
      row_.state = LeftoverRow::State::kRefused;
      return absl::FailedPreconditionError(absl::StrCat(
          "the collector has refused ", refused,
          " steps for good: they are lost; what was wrong with the first is "
          "said above"));
    }
    if (outcome.status.ok()) {
      row_.state = outcome.records_sent > 0 ? LeftoverRow::State::kDelivered
                                            : LeftoverRow::State::kUpToDate;
    }
    return outcome.status;
  }

  void Take(const absl::Status& status) {
    for (const std::string& problem : row_.problems) {
      context_.Note(absl::StrCat(Quoted(row_.folder), ": ", problem));
    }
    if (!status.ok()) {
      const std::string message(status.message());
      row_.problems.push_back(message);
      const bool named = message.find(row_.folder) != std::string::npos;
      const std::string line =
          named ? message : absl::StrCat(Quoted(row_.folder), ": ", message);
      if (failed_ == 0) {
        first_status_ = status;
        first_failure_ = line;
      } else {
        context_.Note(line);
      }
      ++failed_;
    }
    rows_.push_back(row_);
  }

  const LeftoverOptions& options_;
  const SpoolUse use_;
  const std::string collector_;  // HOST:PORT.
  Context& context_;
  std::optional<agent::GrpcTransportOptions> transport_;
  LeftoverRow row_;
  std::vector<LeftoverRow> rows_;
  std::size_t failed_ = 0;
  absl::Status first_status_;
  std::string first_failure_;
};

}  // namespace

absl::Status DeliverLeftovers(const std::vector<LeftoverPlace>& places,
                              const LeftoverOptions& options,
                              Context& context) {
  auto collector = CompleteAddress(context.channel_options().collector);
  if (!collector.ok()) return collector.status();
  context.io().catch_interrupts();
  Delivery delivery(options, *std::move(collector), context);
  for (const LeftoverPlace& place : places) {
    if (!delivery.Deliver(place)) break;
  }
  if (absl::Status written = delivery.Write(); !written.ok()) return written;
  return delivery.Result();
}

}  // namespace gradtap::client
