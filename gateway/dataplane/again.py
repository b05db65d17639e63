"""What is run again: requests whose batch failed or whose worker died, so that the one that is to blame fails alone.

A batch that failed cost nobody anything but time: its halves are run, and the halves of those that fail again, until
the culprit is alone. A death costs every proxy a worker: whoever was there is run alone, with nothing else of this
proxy in flight, and the worker says when it begins. A request that had begun, alone, when its worker died is to blame.
One that had not may have died with the requests of another proxy, and has more chances.
"""

from collections.abc import Callable, Sequence
from typing import Final

from gateway.dataplane.job import Job

MAX_LOSSES: Final = 8
"""How often a request may come to nothing before its turn comes."""


class Party:
    """Jobs that are run together, and with nobody else. `suspect`: its worker died with one of them."""

    __slots__ = ("jobs", "suspect")

    def __init__(self, jobs: list[Job], *, suspect: bool) -> None:
        self.jobs = jobs
        self.suspect = suspect


class Again:
    """What of one lane is run again. It comes before what has not been run yet."""

    __slots__ = ("parties",)

    def __init__(self) -> None:
        self.parties: list[Party] = []
        """The next one last; none is empty. Public, for a lane asks again and again whether there is one."""

    def __len__(self) -> int:
        """Jobs that wait."""
        return sum(len(party.jobs) for party in self.parties)

    def halves(self, jobs: Sequence[Job]) -> None:
        """Their batch failed: each half is run before everything else."""
        middle = (len(jobs) + 1) // 2
        for half in (jobs[middle:], jobs[:middle]):
            if half:
                self.parties.append(Party(list(half), suspect=False))

    def singles(self, jobs: Sequence[Job]) -> None:
        """Their worker died: each is run alone, before everything else."""
        for job in reversed(jobs):
            self.parties.append(Party([job], suspect=True))

    def together(self, jobs: Sequence[Job]) -> None:
        """Nothing happened to them yet: they are run as they were, before everything else."""
        if jobs:
            self.parties.append(Party(list(jobs), suspect=False))

    def sift(self, waits: Callable[[Job], bool]) -> None:
        """Forgets every job for which `waits` is false."""
        for party in self.parties:
            party.jobs = [job for job in party.jobs if waits(job)]
        self.parties = [party for party in self.parties if party.jobs]
