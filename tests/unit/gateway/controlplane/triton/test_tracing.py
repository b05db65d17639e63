import asyncio
import json
from pathlib import Path

import pytest
import structlog

from gateway.controlplane.triton.tracing import Tracer
from gateway.errors import Forbidden, InvalidRequest, NotFound, NotReady
from gateway.routing.link import Errand, Tracing
from gateway.routing.outcome import Trace
from protos import inference_pb2 as pb

Settings = dict[str, list[str]]
ON: Settings = {"trace_level": ["TIMESTAMPS"], "trace_rate": ["1"]}


class Bench:
    """A tracer whose proxies note what they are told; model `m` is released."""

    def __init__(self, file: str, *, may_change: bool = True) -> None:
        self.told: list[Tracing] = []
        self.late = False
        self.stopped = asyncio.Event()
        self.unreported: list[Trace] = []
        self.tracer = Tracer(file, self, lambda: {"m"}, may_change=may_change)

    async def survey(self) -> None:
        found, self.unreported = self.unreported, []
        self.tracer.heard(found)

    async def tell(self, tracing: Tracing) -> None:
        self.told.append(tracing)
        if not tracing.rate:
            self.stopped.set()
        if self.late:
            raise NotReady("proxy 0 does not report in time")

    async def ask(self, model: str = "", settings: Settings | None = None) -> dict[str, list[str]]:
        request = pb.TraceSettingRequest(model_name=model)
        for name, values in (settings or {}).items():
            request.settings[name].value.extend(values)
        answer = pb.TraceSettingResponse.FromString(
            await self.tracer.errand(Errand(1, "", request.SerializeToString(), "ada"))
        )
        return {name: list(value.value) for name, value in answer.settings.items()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(str(tmp_path / "t.json"))


async def test_the_answer_comes_when_every_proxy_has_been_told(bench: Bench) -> None:
    with structlog.testing.capture_logs() as logged:
        answer = await bench.ask(settings=ON)
        await bench.ask("m", {"trace_rate": ["5"]})
        await bench.ask()
    assert (answer["trace_level"], answer["trace_rate"]) == (["TIMESTAMPS"], ["1"])
    assert bench.told == [Tracing(1), Tracing(1, {"m": 5})]
    assert [(line["model"], line["peer"]) for line in logged] == [("all", "ada"), ("m", "ada")]


async def test_proxies_are_not_told_what_they_know(bench: Bench) -> None:
    await bench.ask(settings={"trace_rate": ["9"]})
    assert bench.told == []


async def test_what_is_wrong_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidRequest):
        await bench.ask(settings={"trace_level": ["TENSORS"]})
    with pytest.raises(NotFound, match="'x' is not served here"):
        await bench.ask("x")
    assert bench.told == []


@pytest.mark.parametrize(
    ("file", "may_change", "text"),
    [
        ("", True, "set trace_file"),
        ("t.json", False, "set change_settings = true"),
        ("", False, "set trace_file .* and change_settings = true"),
    ],
)
async def test_without_leave_settings_can_only_be_read(file: str, may_change: bool, text: str) -> None:
    bench = Bench(file, may_change=may_change)
    assert (await bench.ask())["trace_level"] == ["OFF"]
    with pytest.raises(Forbidden, match=text):
        await bench.ask(settings=ON)
    assert bench.told == []


async def test_traces_are_written_as_far_as_they_are_wanted(bench: Bench, tmp_path: Path) -> None:
    await bench.ask(settings={**ON, "trace_count": ["2"]})
    traces = [Trace("m", 1, name, 1, 2, 3, 4, 5) for name in "abc"]
    bench.late = True  # who is told to stop and is late will be told all the same
    bench.tracer.heard(traces[:1])
    bench.tracer.heard(traces[1:])
    bench.tracer.heard(traces)
    await bench.stopped.wait()
    await bench.tracer.close()
    written = json.loads((tmp_path / "t.json").read_text())
    assert [entry["request_id"] for entry in written if "request_id" in entry] == ["a", "b"]
    assert bench.told == [Tracing(1), Tracing(0)]


async def test_what_was_traced_before_a_change_is_kept(bench: Bench, tmp_path: Path) -> None:
    await bench.ask(settings=ON)
    bench.unreported = [Trace("m", 1, "a", 1, 2, 3, 4, 5)]
    await bench.ask(settings={"trace_level": ["OFF"]})
    await bench.tracer.close()
    assert json.loads((tmp_path / "t.json").read_text())[0]["request_id"] == "a"


async def test_traces_of_a_gateway_without_a_file_are_dropped() -> None:
    bench = Bench("")
    bench.tracer.heard([Trace("m", 1, "a", 1, 2, 3, 4, 5)])
    await bench.tracer.close()
