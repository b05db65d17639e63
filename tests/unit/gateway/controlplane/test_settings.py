import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.settings import TritonSettings, WorkerOverrides, WorkerSettings, read_overrides, share
from gateway.routing.snapshot import Queueing


def test_only_what_is_said_replaces_the_base() -> None:
    base = WorkerSettings(instances=2, threads=4)
    assert WorkerOverrides().over(base) == base
    assert WorkerOverrides(instances=3, batching="off").over(base) == WorkerSettings(3, 4, 64, "off")


def test_a_version_says_durations_and_sizes_with_their_units() -> None:
    found = read_overrides({"max_queue_delay": "5ms", "max_memory": "1GiB", "preferred_batch_sizes": [8, 4, 8]})
    settings = found.over(WorkerSettings())
    assert (settings.max_queue_delay, settings.max_memory) == (0.005, 1 << 30)
    assert settings.queueing() == Queueing(max_queue_delay_s=0.005, preferred_batch_sizes=(4, 8))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settings.queueing()), type=Queueing) == settings.queueing()


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ({"max_queue_delay": 5}, "units ms, s, m, h"),
        ({"max_memory": "1GB"}, "units B, KiB, MiB, GiB"),
        ({"priority_levels": 17}, "<= 16"),
        ({"preferred_batch_sizes": [0]}, ">= 1"),
    ],
)
def test_what_a_version_says_wrongly_is_refused_with_the_remedy(written: dict[str, object], error: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=error):
        read_overrides(written)


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
