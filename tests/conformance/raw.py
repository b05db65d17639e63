"""A client on a bare socket: one request of any form, and what came back."""

import socket
import struct
from dataclasses import dataclass
from typing import Final

import hpack

from gateway.transport.h2.frames import ACK, END_HEADERS, END_STREAM, PREFACE, FrameType, frame
from tests.conformance.calls import PATIENCE_S, PREFIX
from tests.unit.gateway.transport.h2.peer import REQUEST, SETTINGS_ACK, Pairs, data, message, settings

STREAM: Final = 1


@dataclass(frozen=True)
class Asked:
    """One request: REQUEST with some fields replaced or added, some left out, and DATA.

    body: None ends the stream with HEADERS.
    """

    method: str = "Echo"
    fields: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()
    body: bytes | None = message(b"hi")
    ended: bool = True

    def frames(self) -> bytes:
        """What is sent."""
        changed = {":path": PREFIX + self.method, **dict(self.fields)}
        pairs: Pairs = [(name, changed.pop(name, value)) for name, value in REQUEST if name not in self.without]
        pairs += [(name, value) for name, value in changed.items() if name not in self.without]
        flags = END_HEADERS | (END_STREAM if self.body is None else 0)
        sent = frame(FrameType.HEADERS, flags, STREAM, hpack.Encoder().encode(pairs))
        return sent if self.body is None else sent + data(STREAM, self.body, end=self.ended)


@dataclass(frozen=True)
class Answered:
    """How the stream ended: HTTP status, grpc-status and grpc-message; or the error code of a reset."""

    http: str = "200"
    status: str = "0"
    text: str = ""
    reset: int | None = None


def ask_raw(port: int, asked: Asked) -> tuple[Answered, list[bytes], dict[str, str]]:
    """Sends a request; how it ended, the messages as they came (prefix included), and all headers and trailers."""
    decoder, fields, body = hpack.Decoder(), dict[str, str](), b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock, sock.makefile("rb") as reader:
        sock.sendall(PREFACE + settings() + asked.frames())
        while True:
            head = reader.read(9)
            assert len(head) == 9, "the server hung up"
            payload = reader.read(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == FrameType.SETTINGS and not flags & ACK:
                sock.sendall(SETTINGS_ACK)
            elif kind == FrameType.RST_STREAM:
                return Answered(reset=int.from_bytes(payload, "big")), _messages(body), fields
            elif stream == STREAM and kind == FrameType.DATA:
                body += payload
            elif stream == STREAM and kind == FrameType.HEADERS:
                fields |= {str(name): str(value) for name, value in decoder.decode(payload)}
                if flags & END_STREAM:
                    answered = Answered(fields[":status"], fields["grpc-status"], fields.get("grpc-message", ""))
                    return answered, _messages(body), fields


def _messages(body: bytes) -> list[bytes]:
    found = []
    while body:
        end = 5 + struct.unpack_from(">L", body, 1)[0]
        found.append(body[:end])
        body = body[end:]
    return found
