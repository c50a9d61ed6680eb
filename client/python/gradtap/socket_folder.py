"""Whether a socket is where nobody else can have put it (core/socket_folder.h
is the same for agents and the command line)."""

import os
import stat

from gradtap import errors

_ROOT = 0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def check(address):
    """Of an address that is no "unix:/PATH" nothing is asked.

    Raises:
      InvalidError: somebody else's socket could be there: a token is not to be
        sent to it.
      UnavailableError: its folder is not there, or cannot be looked at.
    """
    if not address.startswith("unix:/"):
        return
    # Of "//" and "///" dirname makes the same again.
    folder = os.path.dirname("/" + address[len("unix:"):].lstrip("/"))
    try:
        of = os.stat(folder)
    except (OSError, ValueError) as error:
        raise errors.UnavailableError(
            f"the folder of the socket {address!r} cannot be looked at: "
            f"{error}") from None
    if of.st_mode & _OTHERS_WRITE:
        why = f"others than its owner may write in {folder!r}"
    elif of.st_uid in (_ROOT, os.geteuid()) or _root_alone_places(folder):
        return
    else:
        why = (f"{folder!r} is of user {of.st_uid}, and others than root could "
               "have put it there")
    raise errors.InvalidError(
        f"a token is not sent to {address!r}: {why}, so that anybody's socket "
        "could be there; let the collector listen in a folder of mode 0700 "
        "that is its own, below /run for example")


def _root_alone_places(folder):
    above = folder
    while above != "/":
        above = os.path.dirname(above)
        try:
            of, link = os.stat(above), os.lstat(above)
        except OSError:
            return False
        if (of.st_uid, link.st_uid) != (_ROOT, _ROOT):
            return False
        if of.st_mode & _OTHERS_WRITE:
            return False
    return True
