// A schema that is kept beside the records that refer to it: the one among them
// may have been freed long ago, or be damaged.
//
// It is a segment of its own, which holds its parts alone (segment.h).
//
// Layer: agent/spool. This file: std, core. Pure: no file is touched.

#ifndef GRADTAP_AGENT_SPOOL_KEPT_SCHEMA_H_
#define GRADTAP_AGENT_SPOOL_KEPT_SCHEMA_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "agent/entry.h"
#include "agent/spool/segment.h"

namespace gradtap::agent {

struct KeptSchema {
  std::uint64_t first_seq = 0;       // 0: there is none.
  std::vector<std::string> records;  // In the parts that it travelled in.

  std::uint64_t next_seq() const { return first_seq + records.size(); }
  bool Has(std::uint64_t seq) const {
    return seq >= first_seq && seq < next_seq();
  }
  // The entry of a seq that it has.
  EntryView At(std::uint64_t seq) const;
  // How many of its seqs are in [first, next).
  std::uint64_t Within(std::uint64_t first, std::uint64_t next) const;
};

std::string EncodeKeptSchema(const SpoolIdentity& identity,
                             const KeptSchema& schema);

// What a file has. `*damage`: what is wrong with it, in words; the schema is
// empty then.
KeptSchema ParseKeptSchema(std::string_view bytes_untrusted,
                           std::uint64_t first_seq, SpoolIdentity* identity,
                           std::string* damage);

// The schemas among entries, oldest first. An entry may come again.
class SchemaNotes {
 public:
  void Note(const EntryView& entry);
  // Of records before `next_seq` nobody asks any more.
  void FreeBefore(std::uint64_t next_seq);
  const std::vector<KeptSchema>& whole() const { return whole_; }

 private:
  std::vector<KeptSchema> whole_;
  KeptSchema begun_;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_SPOOL_KEPT_SCHEMA_H_
