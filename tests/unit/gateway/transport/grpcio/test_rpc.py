import grpc
import pytest

from gateway.errors import Code
from gateway.transport.call import Trailers
from gateway.transport.grpcio import rpc as module
from gateway.transport.grpcio.rpc import STATUSES, Backlog, Caller
from tests.unit.gateway.transport.grpcio.fake import Context, rpc


def test_every_code_has_its_status() -> None:
    assert {code: STATUSES[code].name for code in Code} == {code: code.name for code in Code}


def test_a_caller_may_owe_one_message_of_any_size_or_several_up_to_the_bound() -> None:
    caller = Caller()
    caller.owe(500, 100)
    with pytest.raises(Backlog):
        caller.owe(1, 100)
    caller.backlog_bytes = 60
    caller.owe(40, 100)
    assert caller.backlog_bytes == 100


async def test_messages_until_there_are_no_more() -> None:
    asked = rpc(Context(b"", b"a"))
    assert [await asked.read() for _ in range(3)] == [b"", b"a", None]


async def test_only_what_shall_be_compressed_is() -> None:
    context = Context()
    await rpc(context).write(b"a", compress=True)
    await rpc(context).write(b"b", compress=False)
    assert context.sent == [b"a", "plain", b"b"]


def test_an_error_has_a_code_a_text_and_trailers() -> None:
    context = Context()
    rpc(context).refuse(Code.NOT_FOUND, "no model", Trailers(("a", "b")))
    assert (context.code, context.details, context.trailers) == (grpc.StatusCode.NOT_FOUND, "no model", (("a", "b"),))


async def test_what_cannot_be_sent_waits_for_the_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAREWELL_S", 0.0)
    context = Context()
    context.gone = True
    await rpc(context).write(b"a", compress=True)
    await rpc(context).send_headers(())
    assert context.sent == []
