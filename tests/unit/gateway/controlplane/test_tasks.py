import asyncio

import structlog

from gateway.controlplane.tasks import Bell, Tasks


async def test_a_failed_task_is_logged_under_its_name_and_goes_no_further() -> None:
    async def fail() -> None:
        raise RuntimeError("no")

    tasks = Tasks()
    with structlog.testing.capture_logs() as logged:
        await asyncio.wait([tasks.start(fail(), "doomed")])
        await asyncio.sleep(0)
    assert [(line["event"], line["task"]) for line in logged] == [("background task failed", "doomed")]


async def test_close_ends_every_task_and_may_be_called_from_one_of_them() -> None:
    tasks = Tasks()
    sleeping = tasks.start(asyncio.sleep(3600, None), "sleeper")

    async def close() -> None:
        await tasks.close()

    closing = tasks.start(close(), "closer")
    await closing
    assert sleeping.cancelled()


async def test_a_bell_wakes_only_those_for_whom_it_became_true() -> None:
    bell, state = Bell(), {"value": 0}
    one = asyncio.get_running_loop().create_task(bell.until(lambda: state["value"] >= 1))
    two = asyncio.get_running_loop().create_task(bell.until(lambda: state["value"] >= 2))
    await asyncio.sleep(0)
    state["value"] = 1
    bell.ring()
    await one
    assert not two.done()
    state["value"] = 2
    bell.ring()
    await two


async def test_what_already_holds_is_not_waited_for() -> None:
    await Bell().until(lambda: True)
