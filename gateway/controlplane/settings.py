"""What the doing half is told by configuration: small frozen values, one per part."""

from typing import Annotated, Literal

import msgspec

from gateway.routing.link import Entrance, PeerLimits
from gateway.routing.snapshot import Assignment

Batching = Literal["auto", "off"]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class WorkerSettings(msgspec.Struct, frozen=True):
    """How the workers of one version run."""

    instances: int = 1
    threads: int = 1
    max_batch_rows: int = 64
    batching: Batching = "auto"


class WorkerOverrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a more specific place says about workers; None: nothing. Also the schema of a version's `model.toml`."""

    instances: Positive | None = None
    threads: Positive | None = None
    max_batch_rows: Positive | None = None
    batching: Batching | None = None

    def over(self, base: WorkerSettings) -> WorkerSettings:
        """`base`, with what is said here in its place."""
        said = {key: value for key, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(base, **said)


class ProxySettings(msgspec.Struct, frozen=True):
    """How the proxies run. `port` is the reserved one, never 0."""

    host: str
    port: int
    count: int = 1
    reflection: bool = True
    """Clients may ask for the schema."""
    max_message_bytes: int = 2**31 - 1
    max_streams: int = 128
    max_in_flight: int = 8192
    max_queue: int = 1024
    max_shadow_queue: int = 4096
    worker_wait_s: float = 10.0
    worker_timeout_s: float = 60.0
    """How long a worker may take for one batch before it is replaced; 0: for ever."""
    max_connections: int = 4096
    max_header_bytes: int = 16_384
    upload_timeout_s: float = 30.0
    """How long a request may not make progress while it arrives; 0: for ever."""
    write_timeout_s: float = 30.0
    """How long a client may not read its replies; 0: for ever."""
    idle_timeout_s: float = 3600.0
    """How long a connection without calls stays; 0: for ever."""
    peers: PeerLimits = PeerLimits()
    entrance: Entrance = Entrance()
    drain_grace_s: float = 20.0
    ack_timeout_s: float = 2.0
    """A proxy that has not applied a snapshot after this long is replaced."""


class FleetSettings(msgspec.Struct, frozen=True):
    """Workers and assignment, in general and by model name."""

    workers: WorkerSettings = WorkerSettings()
    models: dict[str, WorkerOverrides] = {}
    assignments: dict[str, Assignment] = {}
    linger_s: float = 20.0
    """How long the workers of a version nobody is sent to any more stay for requests in flight."""
    keep_prepared_s: float = 60.0
    """How long a prepared version stays loaded while no release names it."""
