"""The client: questions in, pandas frames out."""

import os
import re

import grpc

from gradtap import errors, frames, socket_folder
from gradtap.v1 import (compare_pb2, heat_map_pb2, query_pb2, query_pb2_grpc,
                        record_pb2)

_MAX_ANSWER_BYTES = 256 << 20


def connect(address=None, *, token=None, tls=False, ca_file=None,
            cert_file=None, key_file=None, timeout=60.0):
    """A client of the collector at `address`.

    Dials with the first question; a collector that is not there is an
    UnavailableError then.

    Args:
      address: "HOST:PORT" or "unix:/PATH"; None: GRADTAP_COLLECTOR, else
        127.0.0.1:7317.
      token: sent as a bearer token; None: GRADTAP_TOKEN, else what is in the
        file GRADTAP_TOKEN_FILE. Wants TLS, unless the collector is on this
        machine.
      tls: with the system's certificates, unless ca_file (PEM) names others;
        cert_file and key_file are the client's own.
      timeout: seconds that an answer may take.

    Raises:
      InvalidError: a token for another machine without TLS, or for a socket
        that could be anybody's.
      UnavailableError: the folder of a socket that a token is for cannot be
        looked at.
    """
    address = address or os.environ.get("GRADTAP_COLLECTOR", "127.0.0.1:7317")
    if ":" not in address:
        address += ":7317"
    tls = tls or ca_file is not None or cert_file is not None
    if token is None:
        token = _token_around()
    if token is not None and not tls and not _stays_here(address):
        raise errors.InvalidError(
            f"a token would travel to {address!r} in the clear: connect with "
            "tls=True")
    if token is not None and not tls:
        socket_folder.check(address)
    options = [("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
               ("grpc.enable_http_proxy", 0)]
    if tls:
        credentials = grpc.ssl_channel_credentials(
            _read(ca_file), _read(key_file), _read(cert_file))
        channel = grpc.secure_channel(address, credentials, options)
    else:
        channel = grpc.insecure_channel(address, options)
    return Client(channel, address, token=token, timeout=timeout)


def _token_around():
    token = os.environ.get("GRADTAP_TOKEN")
    path = os.environ.get("GRADTAP_TOKEN_FILE")
    if token or not path:
        return token or None
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _stays_here(address):
    return re.fullmatch(
        r"unix:/.+|(localhost|127(\.[0-9]{1,3}){3}|\[::1\]):[0-9]+",
        address) is not None


def _read(path):
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


def _list(value):
    if value is None:
        return []
    return [value] if isinstance(value, (str, int)) else list(value)


def _set_steps(request, steps):
    """`steps`: None, a slice, or (begin, end) with None for an open side."""
    if steps is None:
        return
    if isinstance(steps, slice):
        if steps.step not in (None, 1):
            raise errors.InvalidError(f"bad steps {steps}: no stride")
        steps = (steps.start, steps.stop)
    begin, end = steps
    request.steps.SetInParent()
    if begin is not None:
        request.steps.begin = begin
    if end is not None:
        request.steps.end = end


def _set_ranks(request, ranks):
    """`ranks`: None for all, numbers, or "merged"."""
    for rank in _list(ranks):
        if rank == "merged":
            request.merged = True
        else:
            request.ranks.append(rank)


def _set_rank(request, rank):
    if rank == "merged":
        request.merged = True
    else:
        request.rank = rank


class Client:
    """Any thread may use it. Each call raises the errors of gradtap.errors.

    Attributes:
      query: the stub of gradtap.v1.Query; its failures are grpc.RpcError.
    """

    def __init__(self, channel, address, *, token=None, timeout=60.0):
        self.query = query_pb2_grpc.QueryStub(channel)
        self._channel = channel
        self._address = address
        self._timeout = timeout
        self._metadata = (
            [] if token is None else [("authorization", f"Bearer {token}")])

    def close(self):
        self._channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _call(self, method, request):
        try:
            return method(request, timeout=self._timeout,
                          metadata=self._metadata)
        except grpc.RpcError as error:
            raise errors.from_call(error, self._address) from None

    def runs(self, *, tags=None):
        """One row a run, newest start first. `tags`: {key: value}, all equal."""
        request = query_pb2.ListRunsRequest()
        for key, value in (tags or {}).items():
            request.tags.add(key=key, value=value)
        return frames.of_runs(self._call(self.query.ListRuns, request))

    def parameters(self, run, *, match="", attempt=0, rank=0):
        """One row a parameter. `match`: RE2, unanchored, over the full name."""
        request = query_pb2.ListParametersRequest(
            run=run, match=match, attempt=attempt, rank=rank)
        return frames.of_parameters(
            self._call(self.query.ListParameters, request))

    def series(self, runs, statistics, *, match="", steps=None, since=None,
               until=None, points=0, ranks=None, attempt=0, merge=None):
        """Statistics over steps, one row a value.

        Args:
          runs: a run's name, or several.
          statistics: such as "grad.l2", "scalar.loss", "grad.p50"; or several.
          match: RE2, unanchored, over parameter names.
          steps: a slice or (begin, end), half-open, negative from the end.
          since, until: of the steps' wall time; what pandas.Timestamp takes.
          points: about so many of each series; extremes and non-finite values
            survive, at their steps. 0: all.
          ranks: None for all, numbers, or "merged".
          attempt: 0: the canonical line.
          merge: patterns; instead of a series a parameter one a group.

        Returns:
          Columns run, attempt, rank, step (int64), time (UTC), param, stat,
          value (float64), absent (bool).
        """
        request = query_pb2.GetSeriesRequest(
            runs=_list(runs), statistics=_list(statistics), match=match,
            max_points=points, attempt=attempt, merge_match=_list(merge))
        _set_steps(request, steps)
        _set_ranks(request, ranks)
        request.since_unix_ns = frames.to_unix_ns(since)
        request.until_unix_ns = frames.to_unix_ns(until)
        return frames.of_series(self._call(self.query.GetSeries, request))

    def snapshot(self, run, step=None, *, statistics=None, match="", rank=0,
                 attempt=0, merge=None):
        """Statistics of all parameters at one step.

        Args:
          step: None: the last one; negative from the end.
          statistics: None: a useful choice.
          rank: a number, or "merged".

        Returns:
          A row a parameter (index `param`), a float64 column a statistic,
          absent as NaN. frame.attrs has run, attempt, rank, step, time and
          scalars (a dict).
        """
        request = query_pb2.GetSnapshotRequest(
            run=run, statistics=_list(statistics), match=match,
            attempt=attempt, merge_match=_list(merge))
        if step is not None:
            request.step = step
        _set_rank(request, rank)
        return frames.of_snapshot(self._call(self.query.GetSnapshot, request))

    def heat_map(self, run, statistic, *, match="", steps=None, buckets=0,
                 rank=0, attempt=0):
        """The worst of a statistic: parameters x buckets of steps, float32.

        `rank` is a number, or "merged".

        The columns are the buckets' first steps. What is NaN or infinite
        somewhere in a bucket stands in frame.attrs["nonfinite"], a bool array
        of the same shape.
        """
        request = heat_map_pb2.GetHeatMapRequest(
            run=run, statistic=statistic, match=match, max_buckets=buckets,
            attempt=attempt)
        _set_rank(request, rank)
        _set_steps(request, steps)
        return frames.of_heat_map(self._call(self.query.GetHeatMap, request))

    def histograms(self, run, step=None, *, match="", role=None, rank=0,
                   attempt=0):
        """One row a bin that is not empty: param, role, lower, upper, count.

        Bins are powers of two; NaN and infinities have rows of their own,
        whose ends say so. `step`: None: the last one that has histograms.
        """
        request = query_pb2.GetHistogramsRequest(
            run=run, match=match, attempt=attempt)
        if step is not None:
            request.step = step
        if role is not None:
            name = f"ROLE_{str(role).upper()}"
            if name not in record_pb2.Role.keys():
                raise errors.InvalidError(f"bad role {role!r}: one of weight, "
                                          "grad, grad_local, update, buffer")
            request.role = record_pb2.Role.Value(name)
        _set_rank(request, rank)
        return frames.of_histograms(
            self._call(self.query.GetHistograms, request))

    def top(self, run, statistic="grad.l2", *, step=None, since_step=None,
            match="", limit=20, rank=0, attempt=0):
        """Parameters by a statistic; with `since_step` by how far it moved."""
        request = compare_pb2.GetTopRequest(
            run=run, statistic=statistic, match=match, limit=limit,
            attempt=attempt)
        if step is not None:
            request.step = step
        if since_step is not None:
            request.since_step = since_step
        _set_rank(request, rank)
        return frames.of_top(self._call(self.query.GetTop, request))

    def gaps(self, run, *, steps=None, attempt=0, ranks=None):
        """One row a gap: attempt, rank, first_step, last_step, cause, lost."""
        request = query_pb2.ListGapsRequest(
            run=run, attempt=attempt, ranks=_list(ranks))
        _set_steps(request, steps)
        return frames.of_gaps(self._call(self.query.ListGaps, request))

    def watch(self, run, statistics=None, *, match="", ranks=None):
        """Snapshots as they are stored, beginning with the newest one.

        Yields frames as snapshot() gives them; frame.attrs["conflated_steps"]
        says how many steps before it this reader was too slow for. Ends when
        the run has, and when the caller closes the generator.
        """
        request = query_pb2.WatchRequest(
            run=run, statistics=_list(statistics), match=match,
            ranks=_list(ranks))
        call = self.query.Watch(request, metadata=self._metadata)
        over = False  # Had ended before: its newest step comes all the same.
        first = True
        try:
            for event in call:
                if event.HasField("snapshot"):
                    frame = frames.of_snapshot(event.snapshot)
                    frame.attrs["conflated_steps"] = event.conflated_steps
                    yield frame
                    if over:
                        return
                elif event.HasField("run") and event.run.state in (
                        query_pb2.RUN_STATE_FINISHED,
                        query_pb2.RUN_STATE_STOPPED):
                    over = True
                    if not first or event.run.last_step < 0:
                        return
                first = False
        except grpc.RpcError as error:
            raise errors.from_call(error, self._address) from None
        finally:
            call.cancel()
