"""A peer that does not keep to the rules: HTTP/2 and gRPC by hand, over a plain
socket. What it sends is what it is told to send.

Standard library alone; one thread."""

import select
import socket
import struct
import time

DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SESSION = "/gradtap.v1.Telemetry/Session"


def frame(kind, flags, stream, payload=b""):
    return (struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) +
            struct.pack(">I", stream) + payload)


def literal(name, value):
    """A header without Huffman and without the table."""
    out = b"\x00"
    for text in (name.encode(), value.encode()):
        assert len(text) < 127
        out += bytes([len(text)]) + text
    return out


def headers(path, more=()):
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path),
              (":authority", "localhost"), ("te", "trailers"),
              ("content-type", "application/grpc"), *more]
    return b"".join(literal(name, value) for name, value in fields)


def message(payload, length=None, compressed=False):
    """gRPC's five bytes and the message; `length`: what it claims to be."""
    size = len(payload) if length is None else length
    return bytes([compressed]) + struct.pack(">I", size) + payload


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    """One field of a protobuf message: a number or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


class Gone(Exception):
    """The other side has closed."""


class Peer:
    """One HTTP/2 connection. Reads what comes in so far as it has to: windows,
    settings, pings; the rest is kept for whoever asks."""

    def __init__(self, address, greet=True):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.window = 65535
        self.streams = {}
        self.initial = 65535
        self.ended = {}  # By stream: how. 0: the connection.
        self.messages = {}
        if greet:
            self.send(PREFACE + frame(SETTINGS, 0, 0))

    def close(self):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error

    def open(self, stream, path, more=()):
        self.streams[stream] = self.initial
        self.send(frame(HEADERS, END_HEADERS, stream, headers(path, more)))

    def read(self, wait=0.0):
        """Takes what has come, or comes within `wait` seconds."""
        if not select.select([self.socket], [], [], wait)[0]:
            return
        try:
            data = self.socket.recv(1 << 18)
        except OSError as error:
            raise Gone(str(error)) from error
        if not data:
            raise Gone("closed")
        self.buffer += data
        while len(self.buffer) >= 9:
            size = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + size:
                break
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big")
            payload = self.buffer[9:9 + size]
            self.buffer = self.buffer[9 + size:]
            self._take(kind, flags, stream, payload)

    def _take(self, kind, flags, stream, payload):
        if kind == WINDOW:
            more = int.from_bytes(payload, "big")
            if stream == 0:
                self.window += more
            elif stream in self.streams:
                self.streams[stream] += more
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, at)
                if name == 4:
                    for of in self.streams:
                        self.streams[of] += value - self.initial
                    self.initial = value
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == DATA:
            self.messages[stream] = self.messages.get(stream, b"") + payload
            if payload:
                self.send(b"".join(
                    frame(WINDOW, 0, of, struct.pack(">I", len(payload)))
                    for of in (0, stream)))
        elif kind == GOAWAY:
            self.ended[0] = payload[8:].decode("ascii", "replace")
        elif kind == RST:
            self.ended[stream] = f"reset {int.from_bytes(payload, 'big')}"
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.ended.setdefault(stream, "ended")

    def send_data(self, stream, data, until, last=False):
        """As the windows let it, until that time. How much has left."""
        view, sent = memoryview(data), 0
        while sent < len(view) and time.monotonic() < until:
            room = min(self.window, self.streams[stream], 16384,
                       len(view) - sent)
            if room <= 0:
                self.read(0.2)
            else:
                end = last and sent + room == len(view)
                self.send(frame(DATA, END_STREAM if end else 0, stream,
                                bytes(view[sent:sent + room])))
                sent += room
                self.window -= room
                self.streams[stream] -= room
                self.read()
            if stream in self.ended or 0 in self.ended:
                break
        return sent

    def await_end(self, stream, until):
        """How the call ended; None: it has not."""
        try:
            while time.monotonic() < until:
                if stream in self.ended or 0 in self.ended:
                    break
                self.read(0.2)
        except Gone as gone:
            return f"connection {gone}"
        return self.ended.get(stream, self.ended.get(0))


def hello(run, rank, nonce):
    """AgentMessage.hello, as an agent says it."""
    return field(1, field(1, 1) + field(2, run.encode()) + field(3, b"launch") +
                 field(4, rank) + field(5, 1 << 16) + field(6, nonce) +
                 b"\x39" + struct.pack("<q", 1))


def batch(first_seq, count, frame_bytes):
    """AgentMessage.batch."""
    return field(2, field(1, first_seq) + field(2, count) +
                 field(3, frame_bytes))


def http(address, request, wait=10.0):
    """What comes back for the bytes of a request, until it is closed."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=wait) as conn:
        conn.sendall(request)
        answer = bytearray()
        while part := conn.recv(1 << 16):
            answer += part
        return bytes(answer)


def get(address, path, wait=10.0):
    return http(address, f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode(),
                wait)
