"""A client on a bare socket that asks for much and does not read: others are served, and it gets all once it reads."""

import socket

import grpc

from gateway.transport.h2.frames import PREFACE, FrameType
from tests.conformance.calls import MIB, ask
from tests.conformance.conftest import Process
from tests.unit.gateway.transport.h2.peer import Peer, data, message, settings, split, window_update

CALLS = 500
"""Their answers, 30 MB, are more than the kernel's buffers take."""


def read_frame(stream: socket.SocketIO) -> bytes:
    head = read_exactly(stream, 9)
    return head + read_exactly(stream, int.from_bytes(head[:3], "big"))


def read_exactly(stream: socket.SocketIO, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.read(size - len(data))
        assert piece, "the server hung up"
        data += piece
    return data


def request(peer: Peer, stream_id: int, body: bytes) -> bytes:
    """A call whose answer is to be this body; small itself, so that it fits the windows of any server."""
    wanted = message(b"%d %d" % (len(body), body[0]))
    return peer.headers(stream_id, (":path", "/test.Conformance/Fill")) + data(stream_id, wanted, end=True)


def test_who_does_not_read_waits_alone(server: Process) -> None:
    peer = Peer(greet=False)
    bodies = {2 * index + 1: bytes([index % 251]) * 60_000 for index in range(CALLS)}
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.sendall(PREFACE + settings(initial_window_size=2**31 - 1) + window_update(0, 2**30))
        for stream_id, body in bodies.items():
            sock.sendall(request(peer, stream_id, body))
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert ask(channel, "Echo", bytes(MIB)) == bytes(MIB)
        stream = sock.makefile("rb", buffering=0)
        got: dict[int, bytes] = dict.fromkeys(bodies, b"")
        ended = 0
        while ended < len(bodies):
            (found,) = split(read_frame(stream))
            assert found.kind not in (FrameType.RST_STREAM, FrameType.GOAWAY)
            if found.kind == FrameType.DATA:
                got[found.stream_id] += found.payload
            ended += found.kind == FrameType.HEADERS and found.flags & 1
        stream.close()
    assert got == {stream_id: message(body) for stream_id, body in bodies.items()}
