from gateway.errors import Code
from gateway.transport.call import Stream
from gateway.transport.one_request import one_request
from tests.unit.gateway.dataplane.fake_stream import FakeStream


def started() -> tuple[FakeStream, list[bytes]]:
    seen: list[bytes] = []

    def serve(stream: Stream, message: bytes) -> None:
        seen.append(message)
        stream.finish()

    stream = FakeStream()
    one_request(serve)(stream)
    return stream, seen


def test_the_method_begins_when_its_one_request_is_whole() -> None:
    stream, seen = started()
    stream.push(b"x")
    assert not seen, "another may follow"
    stream.end()
    assert (seen, stream.code) == ([b"x"], Code.OK)


def test_an_empty_message_is_a_message() -> None:
    stream, seen = started()
    stream.push(b"")
    stream.end()
    assert seen == [b""]


def test_none_is_too_few() -> None:
    stream, seen = started()
    stream.end()
    assert (stream.code, seen) == (Code.UNIMPLEMENTED, [])
    assert stream.text == "the method takes exactly one request message; none was sent"


def test_two_are_too_many() -> None:
    stream, seen = started()
    stream.push(b"x", b"y", b"z")
    stream.end()
    assert (stream.code, seen) == (Code.UNIMPLEMENTED, [])
    assert stream.text == "the method takes exactly one request message; several were sent"


def test_who_leaves_before_holds_no_place() -> None:
    stream, seen = started()
    stream.push(b"x")
    stream.cancel()
    assert stream.released
    assert not seen
