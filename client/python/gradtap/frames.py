"""Answers as pandas frames."""

import math

from gradtap.v1 import query_pb2, record_pb2

_MERGED_RANK = 4294967295
_MAX_FLOAT = (2 - 2**-23) * 2.0**127


def _pandas():
    try:
        import numpy  # pylint: disable=import-outside-toplevel
        import pandas  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise ImportError("gradtap answers with pandas frames: install pandas "
                          "(python3-pandas), or use Client.query") from error
    return numpy, pandas


def to_unix_ns(time):
    """None as 0; else what pandas.Timestamp takes, UTC if it has no zone."""
    if time is None:
        return 0
    _, pandas = _pandas()
    stamp = pandas.Timestamp(time)
    if stamp.tzinfo is None:
        stamp = stamp.tz_localize("UTC")
    return stamp.value


def _times(values):
    _, pandas = _pandas()
    return pandas.to_datetime(values, unit="ns", utc=True)


def _word(enum, value, prefix):
    """"grad_local" of ROLE_GRAD_LOCAL; "unknown" of one that is not known."""
    try:
        name = enum.Name(value)
    except ValueError:
        return "unknown"
    return name[len(prefix):].lower()


def _rank(rank):
    return "merged" if rank == _MERGED_RANK else rank


def of_runs(answer):
    _, pandas = _pandas()
    rows = [{
        "run": run.run,
        "state": _word(query_pb2.RunState, run.state, "RUN_STATE_"),
        "ranks": run.ranks,
        "world_size": run.world_size,
        "attempts": run.attempts,
        "first_step": run.first_step,
        "last_step": run.last_step,
        "stored_steps": run.stored_steps,
        "skipped_steps": run.skipped_steps,
        "lost_steps": run.lost_steps,
        "parameters": run.parameters,
        "started": _times(run.start_time_unix_ns),
        "last_seen": _times(run.last_seen_unix_ns),
        "overhead": run.overhead,
        "disk_bytes": run.disk_bytes,
        "pinned": run.pinned,
        "tags": {tag.key: tag.value for tag in run.tags},
    } for run in answer.runs]
    return pandas.DataFrame(rows, columns=[
        "run", "state", "ranks", "world_size", "attempts", "first_step",
        "last_step", "stored_steps", "skipped_steps", "lost_steps",
        "parameters", "started", "last_seen", "overhead", "disk_bytes",
        "pinned", "tags"])


def of_parameters(answer):
    _, pandas = _pandas()
    rows = [{
        "param": one.name,
        "kind": _word(record_pb2.Kind, one.kind, "KIND_"),
        "module": one.module_path,
        "module_type": one.module_type,
        "shape": tuple(one.shape),
        "dtype": one.dtype,
        "device": one.device,
        "layout": one.layout,
        "requires_grad": one.requires_grad,
        "numel": one.numel,
        "bytes": one.bytes,
        "aliases": list(one.aliases),
        "placement": _word(record_pb2.Placement, one.placement, "PLACEMENT_"),
        "roles": [_word(record_pb2.Role, role, "ROLE_") for role in one.roles],
        "unsupported": one.unsupported_reason,
    } for one in answer.parameters]
    return pandas.DataFrame(rows, columns=[
        "param", "kind", "module", "module_type", "shape", "dtype", "device",
        "layout", "requires_grad", "numel", "bytes", "aliases", "placement",
        "roles", "unsupported"])


def of_series(answer):
    numpy, pandas = _pandas()
    parts = []
    for series in answer.series:
        absent = numpy.zeros(len(series.step), dtype=bool)
        absent[list(series.absent)] = True
        parts.append(pandas.DataFrame({
            "run": series.run,
            "attempt": numpy.array(series.attempt, dtype=numpy.uint32),
            "rank": _rank(series.rank),
            "step": numpy.array(series.step, dtype=numpy.int64),
            "time": _times(numpy.array(series.time_unix_ns,
                                       dtype=numpy.int64)),
            "param": series.parameter,
            "stat": series.statistic,
            "value": numpy.array(series.value, dtype=numpy.float64),
            "absent": absent,
        }))
    if parts:
        return pandas.concat(parts, ignore_index=True)
    return pandas.DataFrame(columns=[
        "run", "attempt", "rank", "step", "time", "param", "stat", "value",
        "absent"])


def of_snapshot(answer):
    numpy, pandas = _pandas()
    statistics = list(answer.statistics)
    values = numpy.full((len(answer.rows), len(statistics)), numpy.nan)
    for i, row in enumerate(answer.rows):
        values[i, :] = row.value
        values[i, list(row.absent)] = numpy.nan
    frame = pandas.DataFrame(
        values, columns=statistics,
        index=pandas.Index([row.parameter for row in answer.rows],
                           name="param", dtype=object))
    frame.attrs.update(
        run=answer.run, attempt=answer.attempt, rank=_rank(answer.rank),
        step=answer.step, time=_times(answer.time_unix_ns),
        interval_steps=answer.interval_steps,
        scalars={scalar.name: scalar.value for scalar in answer.scalars})
    return frame


def of_heat_map(answer):
    numpy, pandas = _pandas()
    shape = (len(answer.rows), len(answer.buckets))
    worst = numpy.full(shape, numpy.nan, dtype=numpy.float32)
    flags = numpy.zeros(shape, dtype=numpy.uint8)
    for i, row in enumerate(answer.rows):
        worst[i, :] = row.worst
        if row.flags:
            flags[i, :] = numpy.frombuffer(row.flags, dtype=numpy.uint8)
    frame = pandas.DataFrame(
        worst,
        index=pandas.Index([row.parameter for row in answer.rows],
                           name="param", dtype=object),
        columns=pandas.Index([b.first_step for b in answer.buckets],
                             name="step", dtype="int64"))
    frame.attrs.update(
        run=answer.run, attempt=answer.attempt, rank=_rank(answer.rank),
        statistic=answer.statistic, bucket_steps=answer.bucket_steps,
        nonfinite=(flags & 1).astype(bool), absent=(flags & 2).astype(bool))
    return frame


def _bin_ends(number):
    """Between which values a bin's lie; see gradtap.v1.Histogram."""
    special = {
        0: (0.0, 0.0), 1: (math.nan, math.nan), 2: (math.inf, math.inf),
        3: (-math.inf, -math.inf), 4: (0.0, 2.0**-126),
        5: (-2.0**-126, 0.0)}
    if number in special:
        return special[number]
    negative = number >= 272
    exponent = number - (272 if negative else 16)
    lower = 2.0**(exponent - 127)
    upper = _MAX_FLOAT if exponent == 254 else 2.0**(exponent - 126)
    return (-upper, -lower) if negative else (lower, upper)


def of_histograms(answer):
    _, pandas = _pandas()
    rows = []
    for one in answer.histograms:
        role = _word(record_pb2.Role, one.role, "ROLE_")
        for number, count in zip(one.bin, one.count):
            lower, upper = _bin_ends(number)
            rows.append((one.parameter, role, lower, upper, count))
    frame = pandas.DataFrame(
        rows, columns=["param", "role", "lower", "upper", "count"])
    frame.attrs.update(
        run=answer.run, attempt=answer.attempt, rank=_rank(answer.rank),
        step=answer.step, time=_times(answer.time_unix_ns))
    return frame


def of_top(answer):
    _, pandas = _pandas()
    rows = [(row.parameter, math.nan if row.absent else row.value,
             row.nonfinite, math.nan if row.since_absent else row.since_value,
             row.score) for row in answer.rows]
    frame = pandas.DataFrame(
        rows, columns=["param", answer.statistic, "nonfinite", "since",
                       "score"])
    if not answer.HasField("since_step"):
        frame = frame.drop(columns=["since"])
    frame.attrs.update(
        run=answer.run, attempt=answer.attempt, rank=_rank(answer.rank),
        step=answer.step, ranked=answer.ranked,
        ranked_nonfinite=answer.ranked_nonfinite)
    return frame


def of_gaps(answer):
    _, pandas = _pandas()
    rows = [(one.attempt, _rank(one.rank), one.gap.first_step,
             one.gap.last_step, one.gap.steps,
             _word(record_pb2.GapCause, one.gap.cause, "GAP_CAUSE_"),
             one.lost, one.gap.detail) for one in answer.gaps]
    return pandas.DataFrame(rows, columns=[
        "attempt", "rank", "first_step", "last_step", "steps", "cause",
        "lost", "detail"])
