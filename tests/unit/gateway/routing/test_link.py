import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing import link
from gateway.routing.outcome import Report
from gateway.routing.snapshot import Policy, Release, Snapshot
from gateway.routing.update import Update

CONFIGURE = link.Configure(
    host="127.0.0.1", port=8001, max_message_bytes=1 << 20, max_streams=100, max_in_flight=10, max_queue=5,
    max_shadow_queue=3, worker_wait_ms=100, server_name="cutover", server_version="1",
)  # fmt: skip
TO_PROXY: list[link.FromControl] = [
    CONFIGURE,
    Update(1, 2, releases=(Release("m", 2, Policy(2)),), pools_gone=(("m", 1, True),)),
    link.Publish(Snapshot(epoch=1, releases=(Release("m", 1, Policy(1)),))),
    link.Lease(until_s=1234.000_000_1),
    link.Lease(),
    link.Drain(grace_ms=5),
]
TO_CONTROL: list[link.FromProxy] = [
    link.Hello(index=0, pid=1),
    link.Listening(port=2),
    link.Applied(epoch=3),
    link.ProxyFailed(error="port 8001 is taken"),
    Report(in_flight=4),
]


def bodies(stream: bytes, size: int) -> list[bytes]:
    frames = link.Frames()
    return [body for at in range(0, len(stream), size) for body in frames.feed(stream[at : at + size])]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200))
def test_messages_arrive_over_any_chunks(size: int) -> None:
    stream = b"".join(map(link.encode, TO_PROXY))
    assert [link.from_control.decode(body) for body in bodies(stream, size)] == TO_PROXY
    stream = b"".join(map(link.encode, TO_CONTROL))
    assert [link.from_proxy.decode(body) for body in bodies(stream, size)] == TO_CONTROL


def test_several_messages_in_one_chunk() -> None:
    assert len(bodies(b"".join(map(link.encode, TO_CONTROL)), 1 << 20)) == len(TO_CONTROL)


def test_a_body_may_be_empty() -> None:
    assert bodies(link.LENGTH.pack(0) * 2, 3) == [b"", b""]


def test_a_length_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="link frame of 268435457 bytes"):
        list(link.Frames().feed(link.LENGTH.pack(link.MAX_FRAME_BYTES + 1)))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", b"\x81\xa4type\xa5hello", link.encode(TO_CONTROL[0])[4:]])
def test_what_is_no_message_for_this_side_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        link.from_control.decode(body)
