"""What the deciding half of the control plane asks of the doing half, and what both know of a version."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from gateway.routing.snapshot import Release, Tensor


class VersionStatus(msgspec.Struct, frozen=True):
    """One version found in the models directory, and its live pool if it has one, else its shadow pool."""

    model: str
    version: int
    digest: str
    """SHA-256 over the version's files, hex."""
    state: str
    """`found`, `loading`, `ready`, `failed`, `missing` (named by a release, folder gone), `unloading` or `unloaded`."""
    error: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    batched: bool = False
    instances_ready: int = 0
    instances: int = 0
    restarts: int = 0
    """Of both pools."""


class Applied(msgspec.Struct, frozen=True):
    """One proxy that serves a snapshot, or was replaced because it did not say so in time: `fenced`."""

    proxy: int
    took_ms: float
    """From sending the snapshot."""
    fenced: bool = False
    gateway: str = ""
    """Empty: this one."""


class Fleet(Protocol):
    """Worker pools and proxies, as the release logic sees them."""

    async def prepare(self, model: str, version: int, *, shadow: bool) -> None:
        """Returns when the version's pool is loaded, warmed and healthy; starts it if need be.

        The pool is kept for at least a minute even if no release names it yet.
        Raises NotFound (no such model or version) or Refused (it cannot be loaded; the message says why).
        """

    async def check(self, model: str, version: int, *, shadow: bool) -> None:
        """Raises what `prepare` would, as far as that can be told without loading anything."""

    def keep(self, model: str, version: int, keep_s: float) -> None:
        """The version's pool, if there is one, stays for at least so long, whether a release names it or not."""

    async def serve(self, releases: Mapping[str, Release]) -> tuple[Applied, ...]:
        """Makes pools match what the releases (policies and rollback policies) name, and publishes a snapshot.

        Returns when every proxy has applied it or was replaced: no proxy admits a request under an older release then.
        Proxies that ended meanwhile, and those that have not been given a snapshot yet, are not named.
        """

    def statuses(self) -> list[VersionStatus]:
        """Every known version, ordered by model and version."""

    def problems(self) -> list[str]:
        """One line per file or folder in the models directory that is not a version, with the remedy."""
