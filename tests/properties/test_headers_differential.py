"""Random header lists, right and wrong, on our server core and on h2's: they agree, or the difference has a name."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transport.h2.frames import END_HEADERS, END_STREAM
from tests.properties.reference.script import LATEST, NEW, STREAMING, UNARY, Headers, Plain, Step, run, words
from tests.properties.reference.theirs import Pairs

NAMES = (
    *(
        b":method",
        b":scheme",
        b":path",
        b":authority",
        b":status",
        b":protocol",
        b":x",
        b":",
        b"",
        b"X-A",
        b"x:a",
        b"x a",
    ),
    *(b"te", b"host", b"connection", b"upgrade", b"transfer-encoding", b"keep-alive", b"proxy-connection"),
    *(b"content-length", b"content-type", b"cookie", b"grpc-timeout", b"x-a", b"x-b", b"user-agent", b"trailer"),
)
VALUES = (
    *(b"", b"POST", b"GET", b"CONNECT", b"http", b"/x", b"localhost", b"localhos\xc3\xa9", b"localhos\xe9", b"*"),
    *(b"trailers", b"Trailers", b"gzip", b"close", b"10", b"010", b"+10", b"1 0", b"9" * 25, b"\xc2\xb2", b"\x85"),
    *(b"application/grpc", b"text/plain", b"1S", b"soon", b"a=1", b" x", b"x\t", b"x\ry", b"x\0", b"x y", b"\x7f"),
)
names = st.sampled_from(NAMES) | st.binary(max_size=6)
values = st.sampled_from(VALUES) | st.binary(max_size=6)
pairs = st.tuples(names, values)
STARTS: list[Pairs] = [STREAMING, UNARY, STREAMING[:3] + STREAMING[4:], [*STREAMING, (b"host", b"localhost")]]
CHANGES = ["add", "add", "front", "replace", "replace", "remove", "repeat", "swap"]
changes = st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 7), pairs), max_size=3)


def changed(start: Pairs, todo: list[tuple[str, int, tuple[bytes, bytes]]]) -> Pairs:
    """A header list with some things wrong, perhaps."""
    found = list(start)
    for how, index, pair in todo:
        where = index % len(found) if found else 0
        match how:
            case "add":
                found.append(pair)
            case "front":
                found.insert(where, pair)
            case "replace":
                found[where : where + 1] = [(found[where][0] if found else pair[0], pair[1])]
            case "remove":
                del found[where : where + 1]
            case "repeat":
                found.append(found[where] if found else pair)
            case _:
                found[where:] = found[where:][::-1]
    return found


lists = st.builds(changed, st.sampled_from(STARTS), changes)
trailers = st.builds(changed, st.just([(b"x-a", b"1")]), changes)
RESET = Plain(3, 0, LATEST, words(8))


@given(st.lists(st.tuples(lists, st.booleans(), st.booleans()), min_size=1, max_size=8))
@settings(deadline=None, max_examples=100)
def test_requests(todo: list[tuple[Pairs, bool, bool]]) -> None:
    """Several on one connection: header blocks are remembered, and must say the same the next time."""
    script: list[Step] = []
    for fields, huffman, again in todo:
        block = Headers(NEW, fields, END_HEADERS, huffman=huffman)
        script += [block, RESET] * (3 if again else 1)
    run(script)


@given(st.lists(trailers, min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_trailers(todo: list[Pairs]) -> None:
    script: list[Step] = []
    for number, fields in enumerate(todo):
        start = STREAMING if number % 2 else UNARY
        script += [Headers(NEW, start, END_HEADERS), Headers(LATEST, fields, END_HEADERS | END_STREAM), RESET]
    run(script)
