// What the doors of the collector have in common against those who ask for too
// much.
//
// Layer: server/limits. This file: std.

#ifndef GRADTAP_SERVER_LIMITS_GUARDS_H_
#define GRADTAP_SERVER_LIMITS_GUARDS_H_

#include "server/limits/answer_room.h"
#include "server/limits/connection_table.h"
#include "server/limits/limit_counters.h"
#include "server/limits/request_rate.h"

namespace gradtap::server {

// Pointers to what outlives whoever has this. Null: nobody counts, any rate is
// taken, connections are not known, there is room for any answer.
struct Guards {
  LimitCounters* refused = nullptr;
  RequestRate* rate = nullptr;
  ConnectionTable* connections = nullptr;
  AnswerRoom* answers = nullptr;

  void Refused(Limit limit) const {
    if (refused != nullptr) refused->Refused(limit);
  }
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_LIMITS_GUARDS_H_
