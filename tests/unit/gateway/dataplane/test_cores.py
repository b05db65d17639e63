import os
from pathlib import Path

import pytest

from gateway.dataplane import cores as module
from gateway.dataplane.cores import Cores

HERTZ = os.sysconf("SC_CLK_TCK")


class Machine:
    """A machine of two cores of four, as /proc and the control groups tell it; its clocks go when told to."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, priority: int = 0) -> None:
        self.proc, self.groups = folder / "proc", folder / "groups"
        (self.proc / "self").mkdir(parents=True)
        self.now_s = self.ran_s = 50.0
        monkeypatch.setattr(module, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(module, "thread_time", lambda: self.ran_s)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3})
        monkeypatch.setattr(os, "cpu_count", lambda: 4)
        monkeypatch.setattr(os, "getpriority", lambda *_: priority)

    def spend(self, nice_s: float, idle_s: float, disk_s: float) -> None:
        """Sums of the cores 1 and 3; the others are always idle."""
        ticks = [round(each * HERTZ / 2) for each in (nice_s, idle_s, disk_s)]
        ours = f"{round(self.now_s * HERTZ)} {ticks[0]} 30 {ticks[1]} {ticks[2]} 0 5 2 0 0"
        theirs = f"0 0 0 {round(self.now_s * HERTZ)} 0 0 0 0 0 0"
        lines = [f"cpu  {theirs}", f"cpu0 {theirs}", f"cpu1 {ours}", f"cpu2 {theirs}", f"cpu3 {ours}"]
        (self.proc / "stat").write_text("\n".join([*lines, "intr 12345 " + "0 " * 9999, "ctxt 1", ""]))

    def throttle(self, times: int, group: str = "unit", controllers: str = "") -> None:
        (self.proc / "self" / "cgroup").write_text(f"9:memory:/other\n0:{controllers}:/{group}\n")
        folder = self.groups / controllers / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.stat").write_text(f"usage_usec 1\nnr_periods 7\nnr_throttled {times}\nthrottled_usec 3\n")

    def cores(self) -> Cores:
        return Cores(self.proc, self.groups)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_free_is_what_is_idle_or_nice_on_our_cores(machine: Machine) -> None:
    machine.spend(10, 100, 5)
    cores = machine.cores()
    assert cores.look(queued=False) is None, "there is nothing to compare with"
    machine.spend(10.4, 100.2, 5.2)
    machine.now_s, machine.ran_s = 50.5, 50.1
    sample = cores.look(queued=True)
    assert sample is not None
    assert sample.free_cores == pytest.approx(1.6)
    assert sample.loop == pytest.approx(0.2)
    assert (sample.cores, sample.queued, sample.throttled) == (2, True, False)


def test_a_gateway_that_is_nice_itself_counts_nice_as_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch, priority=5)
    machine.spend(10, 100, 5)
    cores = machine.cores()
    cores.look(queued=False)
    machine.spend(10.4, 100.2, 5.2)
    machine.now_s = 50.5
    sample = cores.look(queued=False)
    assert sample is not None
    assert sample.free_cores == pytest.approx(0.8)


def test_what_was_long_ago_says_nothing(machine: Machine) -> None:
    machine.spend(0, 100, 0)
    cores = machine.cores()
    cores.look(queued=False)
    machine.now_s += 1.5
    assert cores.look(queued=False) is None
    assert cores.look(queued=False) is None, "no time has passed"
    machine.now_s += 0.1
    machine.spend(0, 100, 0)
    sample = cores.look(queued=False)
    assert sample is not None
    assert sample.free_cores == 0


def test_cores_that_are_numbered_otherwise_are_unknown(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    machine.spend(0, 100, 0)
    cores = machine.cores()
    cores.look(queued=False)
    machine.now_s += 0.1
    machine.spend(0, 101, 0)
    sample = cores.look(queued=False)
    assert sample is not None
    assert sample.free_cores is None


def test_numbers_that_never_change_say_nothing(machine: Machine) -> None:
    zeros = "".join(f"cpu{core} 0 0 0 0 0 0 0 0 0 0\n" for core in ("", *range(4)))
    (machine.proc / "stat").write_text(zeros)
    cores = machine.cores()
    cores.look(queued=False)
    machine.now_s += 0.1
    sample = cores.look(queued=False)
    assert sample is not None
    assert sample.free_cores is None


def test_time_that_linux_takes_back_is_none(machine: Machine) -> None:
    machine.spend(0, 100, 5)
    cores = machine.cores()
    cores.look(queued=False)
    machine.now_s += 0.1
    machine.spend(0, 100, 4)
    sample = cores.look(queued=False)
    assert sample is not None
    assert sample.free_cores == 0


@pytest.mark.parametrize("controllers", ["", "cpu", "cpu,cpuacct"])
def test_a_limit_that_stops_the_container_is_noticed(machine: Machine, controllers: str) -> None:
    machine.spend(0, 100, 0)
    machine.throttle(3, controllers=controllers)
    cores = machine.cores()
    cores.look(queued=False)
    noticed = []
    for times in (3, 4, 4):
        machine.throttle(times, controllers=controllers)
        machine.now_s += 0.1
        sample = cores.look(queued=False)
        assert sample is not None
        noticed.append(sample.throttled)
    assert noticed == [False, True, False]


def test_a_group_without_a_limit_is_none(machine: Machine) -> None:
    machine.spend(0, 100, 0)
    machine.throttle(3)
    (machine.groups / "unit" / "cpu.stat").write_text("usage_usec 1\n")
    cores = machine.cores()
    cores.look(queued=False)
    machine.throttle(9)
    machine.now_s += 0.1
    sample = cores.look(queued=False)
    assert sample is not None
    assert not sample.throttled


@pytest.mark.parametrize("text", [None, "", "cpu1 1 2\n", "cpu1 a b c d e f g\n"])
def test_a_system_that_tells_nothing_is_no_error(machine: Machine, text: str | None) -> None:
    cores = machine.cores()
    if text is not None:
        (machine.proc / "stat").write_text(text)
    cores.look(queued=False)
    machine.now_s += 0.1
    sample = cores.look(queued=False)
    assert sample is not None
    assert sample.free_cores is None


def test_this_machine_is_looked_at() -> None:
    cores = Cores()
    cores.look(queued=False)
    sample = cores.look(queued=False)
    assert sample is None or sample.cores == len(os.sched_getaffinity(0))
