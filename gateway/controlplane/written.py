"""Settings as files write them: what the gateway's configuration and a version's `model.toml` have in common."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt

from gateway.controlplane.settings import Batching, WorkerOverrides
from gateway.controlplane.units import duration_s, size_bytes
from gateway.routing.snapshot import Assignment

MAX_PRIORITY_LEVELS: Final = 16
LONGEST_DELAY_S: Final = 60.0
"""Of a batch that waits to grow: more is a slip of the pen, and would keep callers for nothing."""
SMALLEST_WORKER_BYTES: Final = 64 << 20

Positive = Annotated[StrictInt, Field(ge=1)]
Levels = Annotated[StrictInt, Field(ge=0, le=MAX_PRIORITY_LEVELS)]
Seconds = Annotated[float, BeforeValidator(duration_s)]
"""Written "250ms", "20s", "5m", "1h"; at most a day."""
Delay = Annotated[Seconds, Field(le=LONGEST_DELAY_S)]
WorkerBytes = Annotated[int, BeforeValidator(size_bytes), Field(ge=SMALLEST_WORKER_BYTES)]


class Section(BaseModel):
    """Unknown keys are errors; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    ELSEWHERE: ClassVar[Mapping[str, str]] = {}
    """Where settings belong that people look for here."""


class OwnWorkers(Section):
    """What a more specific place than [workers] may say of workers; None: nothing."""

    instances: Positive | None = None
    threads: Positive | None = None
    max_batch_size: Positive | None = None
    batching: Batching | None = None
    preferred_batch_sizes: list[Positive] | None = None
    max_queue_delay: Delay | None = None
    pad_ragged: StrictBool | None = None
    queue_timeout: Seconds | None = None
    max_queue_wait: Seconds | None = None
    priority_levels: Levels | None = None
    max_memory: WorkerBytes | None = None

    def overrides(self) -> WorkerOverrides:
        return overrides(self)


class Units(Section):
    """How the units of a model are found."""

    ELSEWHERE = {"labels": "into the version's own model.toml, whose files it names"}

    unit_metadata: list[str] = ["x-user-id"]
    """Metadata keys, tried in order."""
    unit_parameters: list[str] = ["user_id"]
    """Request parameters, tried after the metadata."""
    no_unit: Literal["per-request", "stable"] = "per-request"
    """What answers a request without a unit: chance by weight, or the stable version."""
    allow_forced: StrictBool = True
    """Whether metadata `cutover-arm` may choose the arm."""

    def assignment(self) -> Assignment:
        keys = tuple(key.lower() for key in self.unit_metadata)
        return Assignment(keys, tuple(self.unit_parameters), self.no_unit, self.allow_forced)


class Model(Units, OwnWorkers):
    """[models.NAME]: what is different for one model, and how its units are found."""


class VersionFile(OwnWorkers):
    """`model.toml`: what is different for one version, and what no other place can say."""

    labels: dict[str, str] = {}
    """By output: the file in the version's folder that names its classes, one a line."""


def overrides(section: Section) -> WorkerOverrides:
    """What a section says of workers; it has a field for each setting of theirs."""
    said = {name: getattr(section, name) for name in WorkerOverrides.__struct_fields__}
    sizes = said.pop("preferred_batch_sizes")
    return WorkerOverrides(preferred_batch_sizes=None if sizes is None else tuple(sizes), **said)
