"""What the doing half is told by configuration: small frozen values, one per part."""

from typing import Final, Literal

import msgspec

from gateway.oip.reserved import SHARED_MEMORY
from gateway.routing.link import Entrance, PeerLimits
from gateway.routing.snapshot import Assignment, Queueing

Batching = Literal["auto", "off"]


class WorkerSettings(msgspec.Struct, frozen=True):
    """How the workers of one version run, and how requests for it wait. 0 of a time or size: without."""

    instances: int = 1
    threads: int = 1
    max_batch_size: int = 64
    batching: Batching = "auto"
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay: float = 0.0
    pad_ragged: bool = False
    queue_timeout: float = 0.0
    max_queue_wait: float = 10.0
    priority_levels: int = 0
    max_memory: int = 0

    def queueing(self) -> Queueing:
        """What proxies are told of it."""
        return Queueing(
            max_queue_delay_s=self.max_queue_delay,
            preferred_batch_sizes=tuple(sorted(set(self.preferred_batch_sizes))),
            pad_ragged=self.pad_ragged,
            queue_timeout_s=self.queue_timeout,
            max_queue_wait_s=self.max_queue_wait,
            priority_levels=self.priority_levels,
        )

    def mistake(self) -> str:
        """What does not go together, in one line that begins with the setting; "": nothing."""
        beyond = [str(size) for size in self.preferred_batch_sizes if size > self.max_batch_size]
        if not beyond:
            return ""
        sizes, are = ", ".join(beyond), "is" if len(beyond) == 1 else "are"
        limit = f"max_batch_size, {self.max_batch_size}"
        return f"preferred_batch_sizes: {sizes} {are} more than {limit}; raise that or leave {sizes} out"


class WorkerOverrides(msgspec.Struct, frozen=True):
    """What a more specific place says about workers; None: nothing."""

    instances: int | None = None
    threads: int | None = None
    max_batch_size: int | None = None
    batching: Batching | None = None
    preferred_batch_sizes: tuple[int, ...] | None = None
    max_queue_delay: float | None = None
    pad_ragged: bool | None = None
    queue_timeout: float | None = None
    max_queue_wait: float | None = None
    priority_levels: int | None = None
    max_memory: int | None = None

    def over(self, base: WorkerSettings) -> WorkerSettings:
        """`base`, with what is said here in its place."""
        said = {key: value for key, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(base, **said)


NOTHING_SAID: Final = WorkerOverrides()


class TritonSettings(msgspec.Struct, frozen=True):
    """What Triton's clients may do besides asking."""

    model_control: Literal["none", "explicit"] = "none"
    """Whether they may load and unload models."""
    trace_file: str = ""
    """Where traces go; "": there are none."""
    change_settings: bool = False
    """Whether they may change trace and log settings."""
    metric_aliases: bool = False
    """Whether metrics have Triton's names, too."""
    shared_memory: bool = False
    """Whether they may register regions of shared memory."""

    def extensions(self) -> tuple[str, ...]:
        """What ServerMetadata says is served, in Triton's words."""
        found = ["binary_tensor_data", "model_configuration", "statistics", "trace", "logging"]
        found += ["classification", "parameters", "schedule_policy"]
        if self.model_control == "explicit":
            found.append("model_repository")
        if self.shared_memory:
            found.append(SHARED_MEMORY)
        return tuple(found)


class ProxySettings(msgspec.Struct, frozen=True):
    """How the proxies run. `port` is the reserved one, never 0. Each proxy gets its `share` of the limits on work."""

    host: str
    port: int
    count: int = 1
    reflection: bool = True
    """Clients may ask for the schema."""
    max_message_bytes: int = 2**31 - 1
    max_streams: int = 128
    max_in_flight: int = 8192
    """Of all proxies together, like the two that follow."""
    max_queue: int = 1024
    max_shadow_queue: int = 4096
    worker_wait_s: float = 10.0
    worker_timeout_s: float = 60.0
    """How long a worker may take for one batch before it is replaced; 0: for ever."""
    shared_tensors_above_bytes: int = 128 << 10
    """Batches and answers that are larger lie in memory shared with the worker; 0: none."""
    max_connections: int = 4096
    """Of one proxy: the kernel assigns connections, and one beyond a share would be cut while others have room."""
    max_header_bytes: int = 16_384
    upload_timeout_s: float = 30.0
    """How long a request may not make progress while it arrives; 0: for ever."""
    write_timeout_s: float = 30.0
    """How long a client may not read its replies; 0: for ever."""
    idle_timeout_s: float = 3600.0
    """How long a connection without calls stays; 0: for ever."""
    peers: PeerLimits = PeerLimits()
    entrance: Entrance = Entrance()
    extensions: tuple[str, ...] = TritonSettings().extensions()
    """Of the protocol, as ServerMetadata names them."""
    drain_grace_s: float = 20.0
    ack_timeout_s: float = 2.0
    """A proxy that has not applied a snapshot after this long is replaced."""


def share(limit: int, index: int, count: int) -> int:
    """What proxy `index` of `count` may take of a limit: all of them together the limit, yet each at least 1."""
    return max(1, limit // count + (index < limit % count))


class FleetSettings(msgspec.Struct, frozen=True):
    """Workers and assignment, in general and by model name."""

    workers: WorkerSettings = WorkerSettings()
    models: dict[str, WorkerOverrides] = {}
    assignments: dict[str, Assignment] = {}
    linger_s: float = 20.0
    """How long the workers of a version nobody is sent to any more stay for requests in flight."""
    keep_prepared_s: float = 60.0
    """How long a prepared version stays loaded while no release names it."""

    def workers_of(self, model: str, said: WorkerOverrides = NOTHING_SAID) -> WorkerSettings:
        """How a version runs whose `model.toml` says this: else as is said of its model, else as of all."""
        return said.over(self.models.get(model, NOTHING_SAID).over(self.workers))


DEFAULTS: Final = FleetSettings()
