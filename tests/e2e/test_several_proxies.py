"""Several proxies behave as one gateway: its limits, its numbers, its end; and one that dies takes nobody along."""

import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from protos.inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.calls import Askers, open_channel, request
from tests.e2e.waiting import eventually
from tests.serving import Gateway, serving

PROXIES = 3
LIMIT = 18
CALLS = 3 * LIMIT
THREADS = LIMIT // PROXIES
"""However the kernel spreads their connections, no proxy refuses any of their calls."""


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that takes LIMIT requests at once; its models are `stuck` and `number`."""
    folder = tmp_path_factory.mktemp("several")
    config = folder / "config.toml"
    config.write_text(f"[limits]\nmax_in_flight = {LIMIT}\n")
    for model in ("stuck", "number"):
        models.save(folder / "models", model, 1, models.constant(1))
    with serving(folder / "models", folder / "state", "--proxies", str(PROXIES), "--config", str(config)) as gateway:
        yield gateway


class Waiting:
    """Calls that wait for their answers, each on a connection of its own. A context manager."""

    def __init__(self, target: str, model: str, count: int) -> None:
        self._channels = ExitStack()
        stubs = [GRPCInferenceServiceStub(self._channels.enter_context(open_channel(target))) for _ in range(count)]
        self.calls = [stub.ModelInfer.future(request(model), timeout=60) for stub in stubs]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channels.close()

    def refused(self) -> int:
        """Calls that have ended with RESOURCE_EXHAUSTED."""
        return sum(call.done() and call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED for call in self.calls)

    def codes(self) -> Counter[str]:
        """How every call ended; waits for it."""
        return Counter(call.code().name for call in self.calls)


def by_proxy(gateway: Gateway, metric: str) -> list[int]:
    """A metric of each proxy."""
    return [round(gateway.metric(metric, proxy=str(index))) for index in range(PROXIES)]


def answered(gateway: Gateway, model: str) -> int:
    """OK answers of a model, as the gateway counts them."""
    return round(gateway.metric("cutover_requests_total", model=model, code="OK"))


def test_all_proxies_together_never_take_more_than_the_limit(shared_out: Gateway) -> None:
    (worker,) = shared_out.workers("stuck")
    os.kill(worker, signal.SIGSTOP)
    try:
        with Waiting(shared_out.target, "stuck", CALLS) as waiting:

            def settled() -> bool:
                taken = by_proxy(shared_out, "cutover_proxy_in_flight_requests")
                assert max(taken) <= LIMIT // PROXIES
                assert sum(taken) <= LIMIT
                return sum(taken) + waiting.refused() == CALLS

            eventually(settled)
            refused = waiting.refused()
            os.kill(worker, signal.SIGCONT)
            assert waiting.codes() == {"OK": CALLS - refused, "RESOURCE_EXHAUSTED": refused}
            assert CALLS - LIMIT <= refused < CALLS
    finally:
        os.kill(worker, signal.SIGCONT)


def test_a_killed_proxy_takes_only_its_own_connections_along_and_the_numbers_go_on(shared_out: Gateway) -> None:
    with Askers(shared_out.target, "number", THREADS) as askers:
        askers.wait_more(100)
    first = len(askers.answers)
    assert [answer.error for answer in askers.answers if answer.error] == []
    assert shared_out.wait_metric("cutover_requests_total", first, model="number", code="OK") == first
    totals = [first]
    eventually(lambda: sum(by_proxy(shared_out, "cutover_proxy_connections")) == 0)
    with Askers(shared_out.target, "number", THREADS) as askers:
        askers.wait_more(100)
        eventually(lambda: sum(by_proxy(shared_out, "cutover_proxy_connections")) == THREADS)
        connections = by_proxy(shared_out, "cutover_proxy_connections")
        busiest = connections.index(max(connections))
        (killed,) = (pid for pid in shared_out.proxies() if _index(pid) == busiest)
        totals.append(answered(shared_out, "number"))
        os.kill(killed, signal.SIGKILL)
        killed_s = time.monotonic()
        askers.wait_more(100)
        totals.append(answered(shared_out, "number"))
        eventually(lambda: killed not in shared_out.proxies() and shared_out.metric("cutover_proxies") == PROXIES)
        eventually(lambda: _served_since(askers, killed_s) == askers.users)
    failed = [answer for answer in askers.answers if answer.error]
    # Where the kernel closes the listening socket last, who comes back at once is reset again, and waits a second.
    assert len({answer.user for answer in failed}) <= connections[busiest]
    assert {answer.error.partition(":")[0] for answer in failed} <= {"UNAVAILABLE"}
    right = [answer for answer in askers.answers if not answer.error]
    # What the killed one had not reported yet died with it; a reply that got lost with it may have been counted.
    unreported = sum(answer.came_s <= killed_s for answer in right) - (totals[1] - first) + THREADS
    eventually(lambda: answered(shared_out, "number") >= first + len(right) - unreported)
    totals.append(answered(shared_out, "number"))
    assert totals == sorted(totals)
    assert totals[-1] <= first + len(right) + connections[busiest]


def test_the_proxies_requests_add_up_to_all_of_them(shared_out: Gateway) -> None:
    """Read from one scrape: reports come in between two."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(shared_out.metrics()):
        for sample in family.samples:
            found[sample.name] += round(sample.value)
    assert found["cutover_proxy_requests_total"] == found["cutover_requests_total"] > 0


@pytest.mark.slow
def test_old_connections_come_back_and_spread_anew_without_an_error(
    models_dir: Path, state_dir: Path, tmp_path: Path
) -> None:
    models.save(models_dir, "number", 1, models.constant(1))
    config = tmp_path / "config.toml"
    config.write_text('[limits]\nmax_age = "500ms"\n')
    threads = 16
    with serving(models_dir, state_dir, "--proxies", "2", "--config", str(config)) as gateway:
        with Askers(gateway.target, "number", threads) as askers:
            aged = gateway.wait_metric("cutover_transport_refusals_total", 2 * threads, reason="age")
        served = [gateway.metric("cutover_proxy_requests_total", proxy=index) for index in "01"]
    assert aged >= 2 * threads, "connections were closed again and again"
    assert [answer.error for answer in askers.answers if answer.error] == []
    assert min(served) > 0


def test_at_the_end_every_proxy_answers_what_is_in_flight(models_dir: Path, state_dir: Path) -> None:
    models.save(models_dir, "number", 1, models.constant(1))
    with serving(models_dir, state_dir, "--proxies", str(PROXIES)) as gateway:
        (worker,) = gateway.workers("number")
        os.kill(worker, signal.SIGSTOP)
        try:
            with Waiting(gateway.target, "number", 12) as waiting:
                assert gateway.wait_metric("cutover_in_flight_requests", 12) == 12
                gateway.process.send_signal(signal.SIGTERM)
                eventually(lambda: not _listens(gateway.grpc))
                os.kill(worker, signal.SIGCONT)
                assert waiting.codes() == {"OK": 12}
        finally:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)
        assert gateway.process.wait(timeout=60) == 0


def _served_since(askers: Askers, then_s: float) -> set[str]:
    """Users who have asked since that moment and were answered."""
    return {answer.user for answer in tuple(askers.answers) if answer.asked_s > then_s and not answer.error}


def _index(pid: int) -> int:
    """The number that the proxy of this process has."""
    arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return int(arguments[arguments.index("--index") + 1])


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
