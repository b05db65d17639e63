from collections.abc import Iterator

import pytest

from gateway.dataplane import health as module
from gateway.dataplane import plane as planes
from gateway.dataplane.health import MAX_LISTED, MAX_NAME_CHARS, Health
from gateway.dataplane.plane import Plane, Settings
from gateway.errors import Code, NotFound, TooMany
from gateway.routing.snapshot import Policy, Pool, Release, Snapshot
from protos import health_pb2 as pb
from tests.unit.gateway.dataplane.fake_stream import FakeStream
from tests.unit.gateway.dataplane.fakes import FakeWorker, ManualLoop, pool

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING
UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN
REFUSED = pb.HealthCheckResponse.UNKNOWN


class HealthBench:
    """Health over a plane whose workers come and go by hand."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.plane = Plane(Settings(), self.loop.real)
        self.health = Health(self.plane, self.loop.real)
        self.plane.on_change = self.health.changed
        self.epoch = 0

    def apply(self, *models: str, state: str = "ready") -> None:
        self.epoch += 1
        releases = tuple(Release(model, self.epoch, Policy(1)) for model in models)
        pools = tuple(pool(model=model, state=state) for model in models)
        self.plane.apply(Snapshot(epoch=self.epoch, releases=releases, pools=pools))
        self.loop.run()

    def worker(self, model: str, *, up: bool) -> None:
        """The model's only worker comes or goes."""
        lane = self.plane._lanes[model, 1, False]
        found = FakeWorker(lane.schedule, lambda _: None)
        lane.update(lane.pool, (found.channel,) if up else ())
        self.plane.on_change()
        self.loop.run()

    def watch(self, service: str, room: int = 100) -> FakeStream:
        stream = FakeStream(room=room)
        self.health.watch(stream, pb.HealthCheckRequest(service=service).SerializeToString())
        return stream


@pytest.fixture
def bench() -> Iterator[HealthBench]:
    made = HealthBench()
    yield made
    assert made.health._count == sum(map(len, made.health._watches.values()))


def told(stream: FakeStream) -> list[int]:
    return [pb.HealthCheckResponse.FromString(message).status for message in stream.sent]


def test_a_watcher_hears_at_once_and_whenever_it_changes(bench: HealthBench) -> None:
    stream = bench.watch("m")
    assert told(stream) == [UNKNOWN]
    bench.apply("m")
    bench.worker("m", up=True)
    bench.worker("m", up=False)
    bench.worker("m", up=True)
    bench.apply()
    assert told(stream) == [UNKNOWN, NOT_SERVING, SERVING, NOT_SERVING, SERVING, UNKNOWN]
    assert stream.code is None


def test_what_did_not_change_is_not_said_again(bench: HealthBench) -> None:
    bench.apply("m", "n")
    streams = [bench.watch(service) for service in ("liveness", "n", "")]
    bench.worker("m", up=True)
    bench.worker("m", up=True)
    bench.plane.on_change()
    bench.loop.run()
    assert [told(stream) for stream in streams] == [[SERVING], [NOT_SERVING], [NOT_SERVING, SERVING]]


@pytest.mark.parametrize("service", ["", "readiness", "inference.GRPCInferenceService"])
def test_the_proxy_as_a_whole_has_several_names(bench: HealthBench, service: str) -> None:
    stream = bench.watch(service)
    bench.apply()
    assert told(stream) == [NOT_SERVING, SERVING], "nothing is released: nothing is missing"


def test_a_service_is_looked_at_once_for_all_who_watch_it(bench: HealthBench, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [bench.watch("m") for _ in range(10)]
    asked: list[str] = []
    status = bench.health.status

    def noting(service: str) -> int:
        asked.append(service)
        return status(service)

    monkeypatch.setattr(bench.health, "status", noting)
    bench.plane.on_change()
    bench.apply("m")
    assert asked == ["m"], "and once for all changes of one turn"
    assert all(told(stream) == [UNKNOWN, NOT_SERVING] for stream in streams)


def test_who_does_not_read_gets_the_newest_status_only(bench: HealthBench) -> None:
    stream = bench.watch("m", room=0)
    bench.apply("m")
    bench.worker("m", up=True)
    assert told(stream) == [UNKNOWN]
    stream.read()
    assert told(stream) == [UNKNOWN, SERVING]
    bench.worker("m", up=False)
    bench.worker("m", up=True)
    stream.read()
    assert told(stream) == [UNKNOWN, SERVING], "what it knows is what is"


def test_a_watcher_that_leaves_is_forgotten(bench: HealthBench) -> None:
    first, second = bench.watch("m"), bench.watch("m")
    first.cancel()
    assert first.released
    bench.apply("m")
    assert (told(first), told(second)) == ([UNKNOWN], [UNKNOWN, NOT_SERVING])
    second.cancel()
    assert bench.health._watches == {}


def test_a_drain_is_told_before_it_ends_the_watches(bench: HealthBench) -> None:
    bench.apply("m")
    bench.worker("m", up=True)
    streams = [bench.watch(service) for service in ("", "m", "liveness", "nobody")]
    bench.health.drain()
    assert [told(stream) for stream in streams] == [[SERVING, NOT_SERVING]] * 2 + [[SERVING], [UNKNOWN]]
    assert {stream.code for stream in streams} == {Code.UNAVAILABLE}
    late = bench.watch("m")
    assert (told(late), late.code) == ([NOT_SERVING], Code.UNAVAILABLE)
    assert bench.health._watches == {}


def test_who_is_out_of_date_is_not_serving_until_it_is_told_otherwise(
    bench: HealthBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.apply("m")
    bench.worker("m", up=True)
    streams = [bench.watch(service) for service in ("", "m", "liveness", "nobody")]
    now_s = [100.0]
    monkeypatch.setattr(planes, "monotonic", lambda: now_s[0])
    bench.plane.lease(101.0)
    for now_s[0] in (100.5, 101.0, 102.0):
        bench.plane.sweep()
        bench.loop.run()
    assert [bench.health.status(service) for service in ("", "m", "liveness")] == [NOT_SERVING, NOT_SERVING, SERVING]
    for until_s in (103.0, 104.0, 102.0, None):
        bench.plane.lease(until_s)
        bench.loop.run()
    back_and_forth = [SERVING, NOT_SERVING] * 2 + [SERVING]
    assert [told(stream) for stream in streams] == [back_and_forth] * 2 + [[SERVING], [UNKNOWN]]


def test_a_lease_that_lapsed_between_two_looks_is_seen_by_who_asks(
    bench: HealthBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.apply()
    monkeypatch.setattr(planes, "monotonic", lambda: 100.0)
    bench.plane.lease(101.0)
    assert bench.health.status("") == SERVING
    monkeypatch.setattr(planes, "monotonic", lambda: 101.0)
    assert bench.health.status("") == NOT_SERVING


def test_a_stream_that_breaks_while_it_is_told_does_no_harm(bench: HealthBench) -> None:
    class Breaking(FakeStream):
        def send(self, message: bytes, *, compress: bool = False) -> bool:
            if self.sent:
                self.cancel()
            return super().send(message)

    broken = Breaking()
    bench.health.watch(broken, pb.HealthCheckRequest(service="m").SerializeToString())
    other = bench.watch("m")
    bench.apply("m")
    assert broken.released
    assert told(other) == [UNKNOWN, NOT_SERVING]


def test_watches_are_bounded(bench: HealthBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WATCHES", 2)
    first = bench.watch("a")
    bench.watch("b")
    refused = bench.watch("c")
    assert (refused.code, refused.sent) == (Code.RESOURCE_EXHAUSTED, [])
    assert refused.trailers["grpc-retry-pushback-ms"]
    first.cancel()
    assert bench.watch("c").code is None


def test_a_name_as_long_as_a_message_is_not_kept(bench: HealthBench) -> None:
    assert bench.watch("x" * MAX_NAME_CHARS).code is None
    assert bench.watch("x" * (MAX_NAME_CHARS + 1)).code == Code.INVALID_ARGUMENT
    broken = FakeStream()
    bench.health.watch(broken, b"\x0a\x05x")
    assert (broken.code, broken.text) == (Code.INVALID_ARGUMENT, "the message is not a HealthCheckRequest")


def test_check_knows_no_unknown_service(bench: HealthBench) -> None:
    bench.apply("m")
    assert bench.health.check(pb.HealthCheckRequest(service="m")).status == NOT_SERVING
    with pytest.raises(NotFound, match="model 'n' is not served here"):
        bench.health.check(pb.HealthCheckRequest(service="n"))


def test_a_list_has_every_service(bench: HealthBench) -> None:
    bench.apply("m", "n")
    bench.worker("n", up=True)
    found = {name: each.status for name, each in bench.health.list(pb.HealthListRequest()).statuses.items()}
    overall = dict.fromkeys(("", "readiness", "liveness", "inference.GRPCInferenceService"), SERVING)
    assert found == {**overall, "m": NOT_SERVING, "n": SERVING}
    assert REFUSED not in found.values()


def test_a_list_has_its_bound(bench: HealthBench) -> None:
    bench.apply(*[f"m{number}" for number in range(MAX_LISTED)])
    with pytest.raises(TooMany, match="check them one by one"):
        bench.health.list(pb.HealthListRequest())


def test_a_version_that_loads_is_not_serving(bench: HealthBench) -> None:
    bench.epoch += 1
    loading = Pool("m", 1, shadow=False, state="loading")
    bench.plane.apply(Snapshot(epoch=1, releases=(Release("m", 1, Policy(1)),), pools=(loading,)))
    assert [bench.health.status(service) for service in ("m", "")] == [NOT_SERVING, NOT_SERVING]
