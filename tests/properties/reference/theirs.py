"""The server side of the `h2` package as the other of two that get the same frames."""

import copy
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived
from h2.exceptions import ProtocolError
from h2.stream import H2Stream, StreamClosedBy, StreamState
from hpack import Decoder

from gateway.transport.h2.frames import END_HEADERS, END_STREAM, PREFACE, FrameType, frame
from tests.properties.reference.ours import LIMITS, Live, State, Verdict, judge
from tests.unit.gateway.transport.h2.peer import Frame, split

Pairs = list[tuple[bytes, bytes]]

VALID_BLOCK: Final = bytes.fromhex("83860402 2f780101 68")
"""POST, http, /x, authority h: opens a stream and leaves the HPACK table as it is."""
CLOSED_BY: Final = {
    StreamClosedBy.SEND_RST_STREAM: "reset by us",
    StreamClosedBy.RECV_RST_STREAM: "reset by the peer",
    StreamClosedBy.SEND_END_STREAM: "finished",
    StreamClosedBy.RECV_END_STREAM: "finished",
    None: "skipped",
}


class Theirs:
    """An H2Connection, and what it said of the requests it got."""

    def __init__(self) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.h2.decoder.max_header_list_size = 4 * LIMITS.max_header_list_bytes
        self.h2.initiate_connection()
        self.h2.receive_data(PREFACE)
        self.h2.clear_outbound_data_buffer()
        self.requests: dict[int, Pairs] = {}
        self.bodies: dict[int, bytes] = {}

    def copy(self) -> "Theirs":
        return copy.deepcopy(self)

    def feed(self, data: bytes) -> tuple[Verdict, list[Frame]]:
        try:
            events = self.h2.receive_data(data)
        except ProtocolError as error:
            return Verdict("connection", int(error.error_code), type(error).__name__), []
        for event in events:
            self._note(event)
        output = split(self.h2.data_to_send())
        for item in output:  # h2 opens the connection's window by itself after DATA on closed streams: we do, for both
            if item.kind == FrameType.WINDOW_UPDATE:
                self.h2._inbound_flow_control_window_manager.current_window_size -= int.from_bytes(item.payload, "big")
        return judge(output), output

    def _note(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            assert event.stream_id is not None
            self.requests[event.stream_id] = [(bytes(name), bytes(value)) for name, value in event.headers]
            self.bodies[event.stream_id] = b""
        elif isinstance(event, DataReceived):
            assert event.stream_id is not None
            self.bodies[event.stream_id] += event.data or b""

    def phase(self, stream_id: int) -> str:
        """The state of a stream by RFC 9113 section 5.1, closed ones by how that came about."""
        stream = self.h2.streams.get(stream_id)
        if stream is not None and stream.open:
            return "half-closed" if stream.state_machine.state == StreamState.HALF_CLOSED_REMOTE else "open"
        if stream_id % 2 == 0 or stream_id > self.h2.highest_inbound_stream_id:
            return "idle"
        return CLOSED_BY[self.h2._stream_closed_by(stream_id)]

    def repeat(self, sent: list[Frame], decoder: Decoder) -> None:
        """Does what we wrote: whatever we may not write in this state of the connection, h2 refuses."""
        for item in sent:
            if item.kind == FrameType.HEADERS:
                pairs = decoder.decode(item.payload, raw=True)
                self.h2.send_headers(item.stream_id, pairs, end_stream=bool(item.flags & END_STREAM))
            elif item.kind == FrameType.DATA:
                self.h2.send_data(item.stream_id, item.payload)
            elif item.kind == FrameType.WINDOW_UPDATE:
                increment_bytes = int.from_bytes(item.payload, "big")
                self.h2.increment_flow_control_window(increment_bytes, item.stream_id or None)
            elif item.kind == FrameType.RST_STREAM and not item.code:
                self.h2.reset_stream(item.stream_id, 0)
        self.h2.clear_outbound_data_buffer()

    def reset(self, stream_id: int, code: int) -> None:
        """We reset the stream where h2 did something else; opens it, should it never have been."""
        if self.phase(stream_id) == "idle":
            self.feed(frame(FrameType.HEADERS, END_HEADERS, stream_id, VALID_BLOCK))
        if self.phase(stream_id) in ("open", "half-closed"):
            self.h2.reset_stream(stream_id, code)
        self.h2.clear_outbound_data_buffer()

    def take_over(self, failed: "Theirs") -> None:
        """Takes over what another copy, which failed, has read of HPACK."""
        self.h2.decoder = failed.h2.decoder
        self.h2.incoming_buffer._headers_buffer = []

    def spend(self, size: int) -> None:
        """DATA of so many bytes came, whatever it was worth."""
        self.h2._inbound_flow_control_window_manager.window_consumed(size)

    def state(self) -> State:
        live = {stream_id: self._live(stream_id, item) for stream_id, item in self.h2.streams.items() if item.open}
        return State(live, self.h2.outbound_flow_control_window, self.h2.inbound_flow_control_window)

    def _live(self, stream_id: int, stream: H2Stream) -> Live:
        path, values = read(self.requests[stream_id])
        ended = self.phase(stream_id) == "half-closed"
        window_bytes = None if ended else stream._inbound_window_manager.current_window_size
        return Live(path, values, self.bodies[stream_id], ended, stream.outbound_flow_control_window, window_bytes)


def read(pairs: Pairs) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Path and metadata of a header list: repeated fields joined (RFC 9110 section 5.3), cookies their way."""
    path, values = "", dict[str, str]()
    for name, value in pairs:
        key, text = name.decode(), _text(value)
        if key == ":path":
            path = text
        elif not key.startswith(":"):
            glue = "; " if key == "cookie" else ","
            values[key] = f"{values[key]}{glue}{text}" if key in values else text
    return path, tuple(sorted(values.items()))


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
