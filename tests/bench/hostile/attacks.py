"""The attacks: each is a function that goes on until a time, in a process of
its own, and returns what it has done and how it was answered.

`prepare` is what can be made beforehand. All are bounded in what they open and
in how long they take; none reaches further than the addresses it is given."""

import ctypes
import ctypes.util
import functools
import os
import random
import socket
import threading
import time
import zlib

import peer
from peer import Gone, Peer, SESSION, field, message

MIB = 1 << 20
QUERY = "/gradtap.v1.Query/"
ZSTD_LOCK = threading.Lock()


@functools.lru_cache(maxsize=None)
def _zstd():
    lib = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    lib.ZSTD_createCCtx.restype = ctypes.c_void_p
    for name in ("ZSTD_compressBound", "ZSTD_compress2",
                 "ZSTD_CCtx_setParameter"):
        getattr(lib, name).restype = ctypes.c_size_t
    lib.ZSTD_compressBound.argtypes = [ctypes.c_size_t]
    lib.ZSTD_CCtx_setParameter.argtypes = [ctypes.c_void_p, ctypes.c_int,
                                           ctypes.c_int]
    lib.ZSTD_compress2.argtypes = [ctypes.c_void_p, ctypes.c_char_p,
                                   ctypes.c_size_t, ctypes.c_char_p,
                                   ctypes.c_size_t]
    context = lib.ZSTD_createCCtx()
    lib.ZSTD_CCtx_setParameter(context, 201, 1)  # ZSTD_c_checksumFlag
    return lib, context


def zstd_frame(content):
    """One frame with size and checksum, as an agent makes it."""
    with ZSTD_LOCK:
        lib, context = _zstd()
        room = lib.ZSTD_compressBound(len(content))
        out = ctypes.create_string_buffer(room)
        size = lib.ZSTD_compress2(context, out, room, content, len(content))
    return out.raw[:size]


def _gzip_zeros(mib):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(MIB)
    return b"".join(packer.compress(zeros) for _ in range(mib)) + packer.flush()


def session(address, run="hostile", greet=True, nonce=None):
    """A session that has been let in, of a new process unless told; its stream
    is 1."""
    one = Peer(address)
    one.open(1, SESSION)
    if greet:
        one.send_data(1, message(peer.hello(run, 0, nonce or os.urandom(16))),
                      time.monotonic() + 5)
        until = time.monotonic() + 5
        while 1 not in one.messages and time.monotonic() < until:
            one.read(0.2)
    return one


def _tally(into, what):
    into[what] = into.get(what, 0) + 1


def declared(grpc, _http, until, _prepared):
    """Messages that say they have 4 GiB, sent as fast as they are taken."""
    sent, answers, chunk = 0, {}, bytes(MIB)
    for path in _cycle([SESSION, QUERY + "GetRun", SESSION,
                        QUERY + "TestRules"]):
        if time.monotonic() >= until:
            break
        try:
            one = Peer(grpc)
            one.open(1, path)
            one.send_data(1, message(b"", length=0xFFFFFFFF), until)
            while time.monotonic() < until and not one.ended:
                sent += one.send_data(1, chunk, until)
            _tally(answers, one.await_end(1, time.monotonic()) or "open")
            one.close()
        except (Gone, OSError) as error:
            _tally(answers, _short(error))
            time.sleep(0.01)
    return {"MiB sent": sent // MIB, "answers": answers}


def prepare_bomb():
    return {"gzip": _gzip_zeros(1024), "zstd": zstd_frame(bytes(512 * MIB))}


def bomb(grpc, _http, until, prepared):
    """gRPC messages of 1 MB that inflate to 1 GiB; batches that do to 512 MiB."""
    sent, answers = 0, {}
    while time.monotonic() < until:
        for path in (QUERY + "GetRun", SESSION):
            try:
                one = Peer(grpc)
                one.open(1, path, [("grpc-encoding", "gzip")])
                one.send_data(1, message(prepared["gzip"], compressed=True),
                              until, last=True)
                end = one.await_end(1, until)
                _tally(answers, f"gzip: {end}")
                sent += 1
                one.close()
            except (Gone, OSError) as error:
                _tally(answers, f"gzip: {_short(error)}")
        try:
            one = session(grpc)
            one.send_data(1, message(peer.batch(1, 1, prepared["zstd"])), until)
            _tally(answers, f"zstd: {one.await_end(1, until)}")
            one.close()
        except (Gone, OSError) as error:
            _tally(answers, f"zstd: {_short(error)}")
        time.sleep(0.02)
    return {"bombs": sent, "answers": answers}


def prepare_names():
    """A table of a million parameters, in parts, as batches."""
    names = b"".join(
        field(2, field(1, b"layer%d" % i) + field(2, 1) + field(5, b"float32"))
        for i in range(1_000_000))
    record = field(1, field(1, 1) + names + b"\x19" + b"\1" * 8)
    size = 512 * 1024
    parts = [record[at:at + size] for at in range(0, len(record), size)]
    return [message(peer.batch(i + 1, 1, zstd_frame(
        field(1, field(6, field(1, i) + field(2, len(parts)) +
                       field(3, part))))))
        for i, part in enumerate(parts)]


def names(grpc, _http, until, prepared):
    """A million parameter names, again and again, each time as another run."""
    tables, answers, run = 0, {}, 0
    while time.monotonic() < until:
        run = (run + 1) % 20
        try:
            one = session(grpc, f"hostile-{run}")
            for part in prepared:
                one.send_data(1, part, until)
            one.messages.clear()
            wait = min(until, time.monotonic() + 2)
            while time.monotonic() < wait and b"parameters" not in \
                    one.messages.get(1, b""):
                one.read(0.1)
            refused = b"1000000 parameters" in one.messages.get(1, b"")
            _tally(answers, "refused" if refused else "no answer yet")
            tables += 1
            one.close()
        except (Gone, OSError) as error:
            _tally(answers, _short(error))
    return {"tables": tables, "answers": answers}


def connections(grpc, http, until, _prepared):
    """10,000 connections: to gRPC with a preface and without, some to HTTP."""
    held, refused = [], 0
    for i in range(10_000):
        if time.monotonic() >= until:
            break
        try:
            if i % 20 == 0:
                host, port = http.rsplit(":", 1)
                held.append(socket.create_connection((host, int(port)), 1))
            elif i % 2 == 0:
                held.append(Peer(grpc).socket)
            else:
                held.append(Peer(grpc, greet=False).socket)
        except (Gone, OSError):
            refused += 1
    while time.monotonic() < until:
        time.sleep(0.05)
    open_now = 0
    for one in held:
        one.setblocking(False)
        try:
            if one.recv(1 << 16) != b"":
                open_now += 1
        except BlockingIOError:
            open_now += 1
        except OSError:
            pass
    return {"tried": len(held) + refused, "open": open_now}


def drip(grpc, http, until, _prepared):
    """300 connections that send a byte a second: of HTTP/2's preface, of
    headers, of a message; of a request's head and of its body."""
    host, port = http.rsplit(":", 1)
    call = peer.frame(peer.HEADERS, peer.END_HEADERS, 1, peer.headers(SESSION))
    whole = peer.PREFACE + peer.frame(peer.SETTINGS, 0, 0)
    kinds = [
        (grpc, b"", peer.PREFACE),
        (grpc, whole, call),
        (grpc, whole + call,
         peer.frame(peer.DATA, 0, 1, message(b"", length=1000)) + bytes(900)),
        (http, b"", b"GET /api/v1/ListRuns HTTP/1.1\r\n" + b"X: y\r\n" * 999),
        (http, b"POST /api/v1/ListRuns HTTP/1.1\r\nHost: %b\r\n"
         b"Content-Type: application/json\r\nContent-Length: 999\r\n\r\n" %
         http.encode(), b" " * 999),
    ]
    dripping, cut = [], 0
    while time.monotonic() < until:
        while len(dripping) < 300:
            address, first, rest = kinds[len(dripping) % len(kinds)]
            host, port = address.rsplit(":", 1)
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((host, int(port)))
            dripping.append([one, first, rest, 0])
        time.sleep(min(1, max(0, until - time.monotonic())))
        kept = []
        for one, first, rest, at in dripping:
            try:
                if at == 0 and first:
                    one.send(first)
                one.send(rest[at % len(rest):][:1])
                kept.append([one, first, rest, at + 1])
            except BlockingIOError:  # It waits to be let in.
                kept.append([one, first, rest, at])
            except OSError:
                cut += 1
                one.close()
        dripping = kept
    return {"dripping": len(dripping), "cut off": cut}


def pings(grpc, _http, until, _prepared):
    """Nothing but pings; on a new connection when one is closed."""
    many = peer.frame(peer.PING, 0, 0, b"pingping") * 4096
    sent, answers = 0, {}
    while time.monotonic() < until:
        try:
            one = Peer(grpc)
            one.socket.settimeout(2)
            while time.monotonic() < until:
                one.send(many)
                sent += 4096
                one.read()
                if 0 in one.ended:
                    break
            _tally(answers, one.ended.get(0, "open"))
            one.close()
        except (Gone, OSError) as error:
            _tally(answers, _short(error))
            time.sleep(0.001)
    return {"pings": sent, "answers": answers}


def malformed(grpc, _http, until, _prepared):
    """Random and mutated messages, to all that takes one, at full speed."""
    chance = random.Random(8)
    good = [peer.hello("hostile", 0, bytes(16)),
            peer.batch(1, 1, zstd_frame(field(1, field(2, bytes(200))))),
            field(3, field(1, 1)), field(4, field(1, 1))]
    paths = [SESSION, QUERY + "GetSeries", QUERY + "Watch",
             QUERY + "GetHeatMap", "/grpc.health.v1.Health/Check",
             "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
             "/gradtap.v1.Upkeep/Nothing"]
    sent, answers = 0, {}
    while time.monotonic() < until:
        try:
            one = Peer(grpc)
            for n in range(200):
                if time.monotonic() >= until:
                    break
                data = bytearray(chance.choice(good))
                if chance.random() < 0.3:
                    data = bytearray(chance.randbytes(chance.randrange(300)))
                for _ in range(chance.randrange(1, 8)):
                    if data:
                        data[chance.randrange(len(data))] = chance.randrange(256)
                stream = 2 * n + 1
                one.open(stream, chance.choice(paths))
                length = None if chance.random() < 0.9 else chance.randrange(600)
                one.send_data(stream, message(bytes(data), length), until,
                              last=chance.random() < 0.9)
                sent += 1
                one.read()
                if 0 in one.ended:
                    break
                if stream > 100 and stream - 100 not in one.ended:
                    one.send(peer.frame(peer.RST, 0, stream - 100, bytes(4)))
            if chance.random() < 0.2:
                one.send(peer.frame(chance.randrange(12), chance.randrange(256),
                                    chance.randrange(9), chance.randbytes(40)))
            _tally(answers, "went on")
            one.close()
        except (Gone, OSError) as error:
            _tally(answers, _short(error))
    return {"messages": sent, "answers": answers}


def queries(_grpc, http, until, _prepared):
    """16 at a time, over HTTP, by one client: the dearest that there are."""
    answers, lock = {}, threading.Lock()
    paths = ["/api/v1/GetSeries?runs=good&statistics=grad.std"
             "&statistics=grad.l2&statistics=grad.min",
             "/api/v1/GetHeatMap?run=good&statistic=grad.l2",
             "/metrics", "/csv/GetSeries?runs=good&statistics=grad.mean"]

    def ask(first):
        at = first
        while time.monotonic() < until:
            at += 1
            try:
                answer = peer.get(http, paths[at % len(paths)], 5)[9:12]
                what = answer.decode("ascii", "replace") or "closed"
            except OSError as error:
                what = _short(error)
            with lock:
                _tally(answers, what)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"queries": sum(answers.values()), "answers": answers}


def _cycle(things):
    while True:
        yield from things


def _short(error):
    text = str(error)
    for known in ("Broken pipe", "reset by peer", "closed", "timed out",
                  "refused"):
        if known in text:
            return known
    return text[:40]


# Name, what, what is made beforehand.
ATTACKS = {
    "declared": (declared, None),
    "bomb": (bomb, prepare_bomb),
    "names": (names, prepare_names),
    "connections": (connections, None),
    "drip": (drip, None),
    "pings": (pings, None),
    "malformed": (malformed, None),
    "queries": (queries, None),
}
