"""What can go wrong with a question."""

import grpc


class Error(Exception):
    """Any failure of a call; the message says what to do."""


class NotFoundError(Error, LookupError):
    """No such run, parameter, statistic or step; names the nearest ones."""


class InvalidError(Error, ValueError):
    """The question makes no sense: a pattern, a range, a statistic."""


class RefusedError(Error):
    """Too large, not allowed, or not in this state."""


class UnavailableError(Error, ConnectionError):
    """No collector there, or it did not answer in time."""


_KINDS = {
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RefusedError,
    grpc.StatusCode.FAILED_PRECONDITION: RefusedError,
    grpc.StatusCode.PERMISSION_DENIED: RefusedError,
    grpc.StatusCode.UNAUTHENTICATED: RefusedError,
}


def from_call(error, address):
    """The Error that stands for a grpc.RpcError of a call to `address`."""
    kind = _KINDS.get(error.code(), Error)
    message = error.details() or error.code().name
    if kind is UnavailableError:
        message = f"no answer from a collector at {address}: {message}"
    return kind(message)
