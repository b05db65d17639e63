import asyncio

import pytest

from gateway.controlplane.linkserver import ProxyLink
from gateway.controlplane.surveys import Surveys
from gateway.errors import NotReady
from gateway.routing import link


class FakeLink(ProxyLink):
    """Notes the numbers of the surveys it is sent."""

    def __init__(self) -> None:
        super().__init__(lambda *_: None, lambda _: None)
        self.asked: list[int] = []

    def send(self, message: bytes) -> None:
        (body,) = link.Frames().feed(message)
        survey = link.from_control.decode(body)
        assert isinstance(survey, link.Survey)
        self.asked.append(survey.number)


class Bench:
    def __init__(self, count: int, timeout_s: float = 60.0) -> None:
        self.surveys = Surveys(timeout_s)
        self.links = [FakeLink() for _ in range(count)]
        for index, source in enumerate(self.links):
            self.surveys.joined(source, index)

    async def asked(self) -> asyncio.Task[None]:
        """A survey that is under way."""
        before = [len(source.asked) for source in self.links]
        task = asyncio.get_running_loop().create_task(self.surveys.ask())
        while [len(source.asked) for source in self.links] == before:  # noqa: ASYNC110 - it needs a few turns of the loop
            await asyncio.sleep(0)
        return task


async def test_it_is_over_when_everybody_has_answered() -> None:
    bench = Bench(2)
    task = await bench.asked()
    bench.surveys.answered(bench.links[0], 1)
    bench.surveys.answered(bench.links[1], 0)
    await asyncio.sleep(0)
    assert not task.done(), "a report that came by itself answers nothing"
    bench.surveys.answered(bench.links[1], 1)
    await task


async def test_nobody_is_nothing_to_wait_for() -> None:
    await Bench(0).surveys.ask()


async def test_who_leaves_or_comes_meanwhile_is_not_waited_for() -> None:
    bench = Bench(2)
    task = await bench.asked()
    bench.surveys.joined(FakeLink(), 2)
    bench.surveys.answered(bench.links[0], 1)
    bench.surveys.left(bench.links[1])
    bench.surveys.answered(bench.links[1], 1)
    await task


async def test_who_is_late_is_named() -> None:
    bench = Bench(3, timeout_s=0.02)
    task = await bench.asked()
    bench.surveys.answered(bench.links[1], 1)
    with pytest.raises(NotReady, match="proxy 0, 2 does not report in time"):
        await task
    bench.surveys._timeout_s = 60.0
    again = await bench.asked()
    for source in bench.links:
        bench.surveys.answered(source, 2)
    await again


async def test_those_who_ask_meanwhile_share_the_next() -> None:
    bench = Bench(1)
    (source,) = bench.links
    first = await bench.asked()
    others = [asyncio.get_running_loop().create_task(bench.surveys.ask()) for _ in range(5)]
    await asyncio.sleep(0)
    assert source.asked == [1]
    bench.surveys.answered(source, 1)
    await first
    while source.asked != [1, 2]:  # noqa: ASYNC110 - it needs a few turns of the loop
        await asyncio.sleep(0)
    assert not any(task.done() for task in others), "what was counted since the first began is not in its answer"
    bench.surveys.answered(source, 2)
    await asyncio.gather(*others)


async def test_who_gives_up_does_not_end_it_for_the_others() -> None:
    bench = Bench(1)
    task = await bench.asked()
    other = asyncio.get_running_loop().create_task(bench.surveys.ask())
    await asyncio.sleep(0)
    task.cancel()
    bench.surveys.answered(bench.links[0], 1)
    while bench.links[0].asked != [1, 2]:  # noqa: ASYNC110 - it needs a few turns of the loop
        await asyncio.sleep(0)
    bench.surveys.answered(bench.links[0], 2)
    await other
