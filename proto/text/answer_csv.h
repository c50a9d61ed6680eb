// Answers as CSV (core/csv.h), one value or one parameter a row; and what a
// reader of an answer needs to know of its shape.
//
// Layer: proto. This file: std, core, gradtap_proto. Pure functions; any thread
// may call them.

#ifndef GRADTAP_PROTO_TEXT_ANSWER_CSV_H_
#define GRADTAP_PROTO_TEXT_ANSWER_CSV_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/csv.h"
#include "gradtap/v1/query.pb.h"

namespace gradtap {

// "3", or "merged".
std::string RankText(std::uint32_t rank);

// Points that all columns of the series have.
int PointCount(const v1::Series& series);
// Of a point; nothing: it is absent. `*absent` is 0 before the first point and
// goes along with them.
std::optional<double> PointValue(const v1::Series& series, int point,
                                 int* absent);
// Of a row's statistic; nothing: it is absent.
std::optional<double> RowValue(const v1::SnapshotRow& row, int column);

// Takes one row, or the header, with its line end. False: no more, please.
using CsvSink = std::function<bool(const std::string& row)>;

// run, attempt, rank, step, time, param, stat, value: one value a row.
void WriteCsv(const v1::GetSeriesResponse& answer, CsvOptions options,
              const CsvSink& sink);
// run, attempt, rank, step, time, param, kind and a column for each statistic:
// one parameter a row.
void WriteCsv(const v1::GetSnapshotResponse& answer, CsvOptions options,
              const CsvSink& sink);

}  // namespace gradtap

#endif  // GRADTAP_PROTO_TEXT_ANSWER_CSV_H_
