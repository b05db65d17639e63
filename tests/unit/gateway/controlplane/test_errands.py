import asyncio

import pytest
import structlog

from gateway.controlplane.errands import Errands
from gateway.errors import Code, NotFound
from gateway.oip import status
from gateway.routing import link


async def answered(errands: Errands, errand: link.Errand) -> link.ErrandDone:
    answer: asyncio.Future[link.ErrandDone] = asyncio.get_running_loop().create_future()
    errands.take(errand, answer.set_result)
    return await asyncio.wait_for(answer, 20)


async def echo(errand: link.Errand) -> bytes:
    return errand.message + errand.peer.encode()


async def test_each_kind_has_its_handler() -> None:
    errands = Errands()
    errands.add("Echo", echo)
    assert await answered(errands, link.Errand(3, "Echo", b"hello ", "ada")) == link.ErrandDone(3, b"hello ada")


async def test_a_request_error_becomes_the_status_of_the_call() -> None:
    error = NotFound("no such thing")

    async def fail(_: link.Errand) -> bytes:
        raise error

    errands = Errands()
    errands.add("Fail", fail)
    done = await answered(errands, link.Errand(1, "Fail", b""))
    assert done == link.ErrandDone(1, b"", Code.NOT_FOUND, "no such thing", status.details(error))


async def test_what_nobody_expected_is_logged_and_not_told() -> None:
    async def fail(_: link.Errand) -> bytes:
        raise ZeroDivisionError("secret")

    errands = Errands()
    errands.add("Fail", fail)
    with structlog.testing.capture_logs() as logged:
        done = await answered(errands, link.Errand(1, "Fail", b""))
    assert (done.code, "secret" in done.text) == (Code.INTERNAL, False)
    assert [line["event"] for line in logged] == ["errand failed"]


async def test_a_kind_that_nobody_answers_is_unavailable() -> None:
    assert (await answered(Errands(), link.Errand(1, "Nothing", b""))).code == Code.UNAVAILABLE


async def test_the_end_ends_what_is_under_way() -> None:
    errands = Errands()
    begun = asyncio.Event()

    async def wait(_: link.Errand) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    errands.add("Wait", wait)
    answers: list[link.ErrandDone] = []
    errands.take(link.Errand(1, "Wait", b""), answers.append)
    await begun.wait()
    await errands.close()
    assert answers == []


@pytest.mark.parametrize("message", [link.Errand(1, "K", b"\0\xff", "p"), link.Errand(2, "K", b"")])
def test_errands_survive_the_link(message: link.Errand) -> None:
    (body,) = link.Frames().feed(link.encode(message))
    assert link.from_proxy.decode(body) == message
