"""Our server core and the server side of `h2` get the same frames, right and wrong.

After each frame both have the same complaint (none, a stream error or a connection error, and its code), have read the
same requests and DATA, and believe in the same streams and windows; or `reference.differences` has a name for it.
"""

import re

import pytest
from hypothesis import given, settings

from tests.properties.reference.differences import DIFFERENCES
from tests.properties.reference.examples import EXAMPLES, FIRST, OPEN, data
from tests.properties.reference.pair import Pair
from tests.properties.reference.script import LATEST, STREAMING, UNARY, Answer, Headers, Step, run, steps
from tests.unit.gateway.transport.h2.peer import message


@given(steps)
@settings(deadline=None, max_examples=100)
def test_both_servers_make_the_same_of_it(todo: list[Step]) -> None:
    run(todo)


@given(steps)
@settings(deadline=None, max_examples=10)
def test_so_they_do_without_the_first_settings(todo: list[Step]) -> None:
    run(todo, greet=False)


@pytest.mark.parametrize("name", [*EXAMPLES, *FIRST])
def test_a_named_difference(name: str) -> None:
    """It is met as the only one, and just once."""
    pair = run(EXAMPLES[name]) if name in EXAMPLES else run(FIRST[name], greet=False)
    assert pair.named == {name: 1}


def test_every_difference_has_its_example_and_its_section() -> None:
    assert set(DIFFERENCES) == {*EXAMPLES, *FIRST}
    assert all(re.search(r"\d\.\d", difference.why) for difference in DIFFERENCES.values())


def test_what_is_compared() -> None:
    """Requests, DATA, ends and windows of streams: the comparison sees what it is to see."""
    pair = run([OPEN, data(message(b"one"), 0), Answer(LATEST, 7), Headers(-1, UNARY, 4), data(message(b"two"))])
    state = pair.theirs.state()
    assert (state.send_window_bytes, state.receive_window_bytes) == (65_535 - 12, 65_535 - 16)
    stream, call = state.live[1], state.live[3]
    assert (stream.path, stream.body, stream.ended) == ("/stream", message(b"one"), False)
    assert (stream.send_window_bytes, stream.receive_window_bytes) == (65_535 - 12, 65_535 - 8)
    assert (call.path, call.body, call.ended) == ("/unary", message(b"two"), True)
    assert dict(call.values)["content-type"] == "application/grpc"
    assert not pair.named


def test_a_difference_without_a_name_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(DIFFERENCES, "malformed")
    with pytest.raises(AssertionError, match="no name"):
        run(EXAMPLES["malformed"])


def test_refusals_are_not_resets() -> None:
    """What is HTTP but no call we serve is answered; the reference follows."""
    refused = Headers(-1, [(b":method", b"GET"), *STREAMING[1:]], 5)
    pair: Pair = run([refused, refused, OPEN, data(b"\0\0\0\0\x09cut off")])
    assert (pair.refusals, pair.named) == (3, {})
