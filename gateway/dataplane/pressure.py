"""Whether production leaves copies the CPU that they need. Pure: the clock and what was seen are arguments.

Idle priority alone does not keep production safe: where no core was free, copies of everything for a slow shadow were
measured to cost production a fifth of its throughput and to double its p99.
"""

from typing import Final, NamedTuple

SMOOTHING: Final = 0.3
"""Weight of the newest of the samples, of which there are ten a second."""
QUICK: Final = 0.4
"""The same of free cores that become fewer: a shortage is to be met at once."""
PLENTY: Final = 1.5
"""More free cores than so many times what copies need are not remembered, as they would hide a sudden shortage."""
TIGHT_CORES, CALM_CORES = 0.85, 1.1
"""Of the cores that copies need: with fewer free they are held, with more they go on. Production that copies slow down
uses less, so that even then half a core and more looks free.
"""
TIGHT_QUEUE, CALM_QUEUE = 0.5, 0.2
"""Share of samples in which a request of this proxy waited for a worker."""
TIGHT_LOOP, CALM_LOOP = 0.9, 0.75
"""Share of its time for which this proxy's only thread ran: making copies is its work, too."""
HOLD_S: Final = 1.0
MAX_HOLD_S: Final = 30.0
"""How long copies are held at least: twice as long each time that they were wrong to go on."""
RELAPSE_S: Final = 10.0
"""Going on was wrong when production was short of CPU again so soon."""


class Sample(NamedTuple):
    """What was seen since the last sample.

    free_cores: idle, or at work for nobody but the low-priority; None: unknown. cores: that this process may use.
    loop: share of the time for which this proxy's thread ran. queued: a request waited for a worker.
    throttled: the processes used up what their container may use, and stood still.
    """

    free_cores: float | None
    cores: int
    loop: float
    queued: bool
    throttled: bool


class Pressure:
    """`high`: production needs the CPU, so copies are held. With hysteresis, so that it does not flutter."""

    __slots__ = ("_free", "_hold_s", "_loop", "_queue", "_resumed_s", "_until_s", "high")

    def __init__(self) -> None:
        self.high = False
        self._free = PLENTY
        """Free cores, as a share of those that copies need; PLENTY where nobody tells."""
        self._queue = 0.0
        self._loop = 0.0
        self._hold_s = HOLD_S
        self._until_s = 0.0
        self._resumed_s: float | None = None

    def add(self, sample: Sample, now_s: float) -> bool:
        """Takes a sample; whether `high` has changed."""
        free = PLENTY  # a shortage that nobody tells of any more must not hold copies for ever
        if sample.free_cores is not None:
            free = min(sample.free_cores / needed_cores(sample.cores), PLENTY)
        self._free += (QUICK if free < self._free else SMOOTHING) * (free - self._free)
        self._queue += SMOOTHING * (sample.queued - self._queue)
        self._loop += SMOOTHING * (sample.loop - self._loop)
        if self.high:
            if sample.throttled:
                self._until_s = now_s + self._hold_s
            if now_s < self._until_s or not self._calm:
                return False
            self._resumed_s = now_s
        elif sample.throttled or self._tight:
            relapsed = self._resumed_s is not None and now_s - self._resumed_s < RELAPSE_S
            self._hold_s = min(2 * self._hold_s, MAX_HOLD_S) if relapsed else HOLD_S
            self._until_s = now_s + self._hold_s
        else:
            return False
        self.high = not self.high
        return True

    @property
    def _tight(self) -> bool:
        return self._free < TIGHT_CORES or self._queue > TIGHT_QUEUE or self._loop > TIGHT_LOOP

    @property
    def _calm(self) -> bool:
        return self._free > CALM_CORES and self._queue < CALM_QUEUE and self._loop < CALM_LOOP

    def __str__(self) -> str:
        return (
            f"{self._free:.2f} of the free cores needed, requests queue {self._queue:.0%}, loop busy {self._loop:.0%}"
        )


def needed_cores(cores: int) -> float:
    """The free cores with which copies harm nobody: one; of a single core half, of many a sixteenth."""
    return max(min(1.0, cores / 2), cores / 16)
