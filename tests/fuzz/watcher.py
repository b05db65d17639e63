"""Reads what a server writes as a strict client would: an assertion fails at the first thing a client may not get."""

from typing import Final

from hpack import Decoder

from gateway.transport.h2.errors import ErrorCode
from gateway.transport.h2.frames import ACK, END_HEADERS, END_STREAM, FrameType
from tests.unit.gateway.transport.h2.peer import Frame, split

MAX_FRAME_BYTES: Final = 1 << 16
SIZES: Final = {FrameType.RST_STREAM: 4, FrameType.PING: 8, FrameType.WINDOW_UPDATE: 4}
CONNECTION: Final = {FrameType.SETTINGS, FrameType.PING, FrameType.GOAWAY}


class Watcher:
    """One connection's output."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._begun = False
        self._over = False
        self._last_id = 2**31 - 1
        self.window_bytes: float = 65_535
        """DATA the connection's window allows, at most."""
        self._streams: dict[int, str] = {}
        """What was last said on a stream: "headers", "end" or "reset"."""

    def see(self, output: bytes) -> None:
        """Looks at the next output."""
        if not self._begun and output.startswith(b"HTTP/1.1 505 "):
            self._over = True
            return
        for frame in split(output):
            assert not self._over, f"{frame} after the last GOAWAY"
            assert self._begun or (frame.kind, frame.flags) == (FrameType.SETTINGS, 0), f"begins with {frame}"
            self._begun = True
            self._look(frame)

    def _look(self, frame: Frame) -> None:
        kind = FrameType(frame.kind)
        assert kind not in (FrameType.PRIORITY, FrameType.PUSH_PROMISE, FrameType.CONTINUATION), frame
        assert len(frame.payload) <= MAX_FRAME_BYTES
        assert len(frame.payload) == SIZES.get(kind, len(frame.payload)), frame
        if kind in CONNECTION:
            assert frame.stream_id == 0, frame
        elif kind != FrameType.WINDOW_UPDATE:
            assert frame.stream_id % 2 == 1, frame
        if kind == FrameType.GOAWAY:
            self._goodbye(frame)
        elif kind == FrameType.SETTINGS:
            assert len(frame.payload) % 6 == 0, frame
            assert not (frame.flags & ACK and frame.payload), frame
        elif kind == FrameType.WINDOW_UPDATE:
            assert 0 < int.from_bytes(frame.payload, "big") < 2**31, frame
            assert self._streams.get(frame.stream_id) != "reset", frame
        elif kind != FrameType.PING:
            self._answer(kind, frame)

    def _goodbye(self, frame: Frame) -> None:
        last_id = int.from_bytes(frame.payload[:4], "big")
        assert last_id <= self._last_id, frame
        self._last_id = last_id
        assert frame.code != ErrorCode.INTERNAL_ERROR, frame
        self._over = frame.code != ErrorCode.NO_ERROR

    def _answer(self, kind: FrameType, frame: Frame) -> None:
        """HEADERS, DATA, HEADERS with END_STREAM; or the latter alone; or RST_STREAM at any time, once."""
        before = self._streams.get(frame.stream_id)
        assert before != "reset", frame
        if kind == FrameType.RST_STREAM:
            assert before != "end" or frame.code == ErrorCode.NO_ERROR, frame
            self._streams[frame.stream_id] = "reset"
            return
        assert before != "end", frame
        if kind == FrameType.DATA:
            assert before == "headers", frame
            assert frame.flags == 0, frame
            self.window_bytes -= len(frame.payload)
            assert self.window_bytes >= 0, "more DATA than the connection's window allows"
            return
        assert frame.flags in (END_HEADERS, END_HEADERS | END_STREAM), frame
        names = [name for name, _ in self._decoder.decode(frame.payload)]
        ends = bool(frame.flags & END_STREAM)
        assert (":status" in names) == (before is None), names
        assert ("grpc-status" in names) == ends, names
        self._streams[frame.stream_id] = "end" if ends else "headers"
