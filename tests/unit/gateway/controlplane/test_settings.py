import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.settings import FleetSettings, TritonSettings, WorkerOverrides, WorkerSettings, share
from gateway.routing.snapshot import Queueing


def test_only_what_is_said_replaces_the_base() -> None:
    base = WorkerSettings(instances=2, threads=4)
    assert WorkerOverrides().over(base) == base
    assert WorkerOverrides(instances=3, batching="off").over(base) == WorkerSettings(3, 4, 64, "off")


def test_proxies_are_told_each_preferred_size_once() -> None:
    settings = WorkerSettings(max_queue_delay=0.005, preferred_batch_sizes=(8, 4, 8))
    assert settings.queueing() == Queueing(max_queue_delay_s=0.005, preferred_batch_sizes=(4, 8))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settings.queueing()), type=Queueing) == settings.queueing()


def test_a_preferred_size_fits_into_a_batch() -> None:
    assert WorkerSettings(max_batch_size=8, preferred_batch_sizes=(4, 8)).mistake() == ""
    assert WorkerSettings(preferred_batch_sizes=(64, 128)).mistake() == (
        "preferred_batch_sizes: 128 is more than max_batch_size, 64; raise that or leave 128 out"
    )


def test_the_more_specific_place_wins() -> None:
    fleet = FleetSettings(WorkerSettings(2, 2, 2), {"m": WorkerOverrides(threads=3, max_batch_size=3)})
    assert fleet.workers_of("other") == WorkerSettings(2, 2, 2)
    assert fleet.workers_of("m", WorkerOverrides(max_batch_size=4)) == WorkerSettings(2, 3, 4)


def test_extensions_are_what_is_served() -> None:
    always = {"binary_tensor_data", "model_configuration", "statistics", "trace", "logging"}
    always |= {"classification", "parameters", "schedule_policy"}
    assert set(TritonSettings().extensions()) == always
    assert set(TritonSettings(model_control="explicit").extensions()) == always | {"model_repository"}
    assert set(TritonSettings(shared_memory=True).extensions()) == always | {"system_shared_memory"}


@given(st.integers(1, 100_000), st.integers(1, 256))
def test_shares_are_even_and_add_up_to_the_limit(limit: int, count: int) -> None:
    shares = [share(limit, index, count) for index in range(count)]
    assert min(shares) >= 1
    assert max(shares) - min(shares) <= 1
    assert sum(shares) == max(limit, count)
