"""The snapshot: every release and every pool, immutable, swapped whole."""

import msgspec

BUCKETS = 10_000
"""Assignment resolution: hundredths of a percent."""

STABLE = "stable"
STANDBY = "standby"
SHADOW = "shadow"
HOLDOUT = "holdout"


class Range(msgspec.Struct, frozen=True, array_like=True):
    """Half-open range of buckets, `0 <= start < end <= BUCKETS`."""

    start: int
    end: int


class Canary(msgspec.Struct, frozen=True):
    """A candidate version and the buckets it owns, oldest range first (shrinking gives back the newest)."""

    version: int
    ranges: tuple[Range, ...]

    @property
    def arm(self) -> str:
        return canary_arm(self.version)

    @property
    def basis_points(self) -> int:
        return sum(owned.end - owned.start for owned in self.ranges)


class Shadow(msgspec.Struct, frozen=True):
    """A version that gets copies; `rate` in (0, 1] is the share of requests copied."""

    version: int
    rate: float


class Holdout(msgspec.Struct, frozen=True):
    """Units that no release reaches: `version` answers them whatever is flipped, promoted or ramped.

    Their buckets are those of a salt of its own, oldest range first, as of a canary.
    """

    version: int
    ranges: tuple[Range, ...]
    salt: str

    @property
    def basis_points(self) -> int:
        return sum(owned.end - owned.start for owned in self.ranges)


class Rule(msgspec.Struct, frozen=True):
    """Requests whose metadata `key` has one of `values` go to `arm`."""

    key: str
    values: tuple[str, ...]
    arm: str


class Assignment(msgspec.Struct, frozen=True):
    """How one model picks units."""

    unit_metadata: tuple[str, ...] = ("x-user-id",)
    """Metadata keys tried in order."""
    unit_parameters: tuple[str, ...] = ("user_id",)
    """Request parameters tried in order, after metadata."""
    no_unit: str = "per-request"
    """`per-request` (random bucket) or `stable`."""
    allow_forced: bool = True
    """Whether metadata `cutover-arm` may force an arm."""


class Policy(msgspec.Struct, frozen=True):
    """Which version answers whom."""

    stable: int
    canaries: tuple[Canary, ...] = ()
    shadows: tuple[Shadow, ...] = ()
    standby: int | None = None
    salt: str = ""
    overrides: dict[str, str] = {}
    """Arm by unit, whatever the unit's bucket. Never changed in place."""
    holdout: Holdout | None = None
    rules: tuple[Rule, ...] = ()
    """The first that matches wins."""
    assignment: Assignment | None = None
    """None: what the configuration says."""
    timeout_ms: int = 0
    """The longest a request may take; 0: as long as its caller's deadline allows."""

    @property
    def live(self) -> tuple[int, ...]:
        """The versions that may answer, ascending."""
        return tuple(sorted({*arm_versions(self).values()}))


class Release(msgspec.Struct, frozen=True):
    """A model's routing policy with its revision. `rollback` is what stood before the last flip or promote."""

    model: str
    revision: int
    policy: Policy
    rollback: Policy | None = None
    updated_ms: int = 0
    """Milliseconds since the epoch."""
    paused: bool = False
    """Nothing may give a version that is not stable more requests."""
    sequence: int = 0
    """The order of changes over all models of a store, which gives it; 0: not stored yet."""


class Tensor(msgspec.Struct, frozen=True):
    """One input or output of a model. `datatype` is the protocol's word (FP32, BYTES...); -1 in `shape`: any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Queueing(msgspec.Struct, frozen=True, omit_defaults=True):
    """How requests for one version wait and are joined; README "Settings" explains each by its name. 0: without."""

    max_queue_delay_s: float = 0.0
    preferred_batch_sizes: tuple[int, ...] = ()
    pad_ragged: bool = False
    queue_timeout_s: float = 0.0
    max_queue_wait_s: float = 10.0
    priority_levels: int = 0


PoolKey = tuple[str, int, bool]
"""Model, version, and whether it is for shadow copies."""


class Pool(msgspec.Struct, frozen=True, omit_defaults=True):
    """The worker processes of one version. Shadow copies have a pool of their own, at idle CPU priority."""

    model: str
    version: int
    shadow: bool
    state: str
    """`loading`, `ready`, `failed` or `unloaded`: a client took the model out of service; workers that are still there
    answer what was admitted before."""
    error: str = ""
    addresses: tuple[str, ...] = ()
    """Unix socket paths of the workers that are ready now; a restarted worker gets a new path."""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    batched: bool = False
    """Requests may be joined along axis 0, which every input and output then has."""
    max_batch_size: int = 1
    queueing: Queueing = Queueing()
    costs: tuple[tuple[int, int], ...] = ()
    """(rows, microseconds) of batches that warm-up ran: what a batch costs before requests have shown it."""
    instances: int = 1
    """Worker processes wanted."""
    labels: dict[str, tuple[str, ...]] = {}
    """By output: the names of its classes, in order; an empty one is none."""

    @property
    def name(self) -> str:
        """For texts."""
        return f"{self.model} version {self.version}"

    @property
    def key(self) -> PoolKey:
        return self.model, self.version, self.shadow


class Region(msgspec.Struct, frozen=True):
    """A region of system shared memory that a client has registered, in bytes. The object is named by `key`."""

    name: str
    key: str
    offset: int
    byte_size: int
    device: int = 0
    inode: int = 0
    """With `device`: which object it was, whatever the key names later."""


class Snapshot(msgspec.Struct, frozen=True):
    """Everything a proxy needs. `epoch` orders the snapshots of one control process."""

    epoch: int
    releases: tuple[Release, ...] = ()
    assignments: dict[str, Assignment] = {}
    """What the configuration says, by model; absent: the default `Assignment()`."""
    pools: tuple[Pool, ...] = ()
    regions: tuple[Region, ...] = ()


def arm_versions(policy: Policy) -> dict[str, int]:
    """The version behind every arm of a policy, stable first."""
    arms = {STABLE: policy.stable}
    for canary in policy.canaries:
        arms[canary.arm] = canary.version
    if policy.standby is not None:
        arms[STANDBY] = policy.standby
    if policy.holdout is not None:
        arms[HOLDOUT] = policy.holdout.version
    return arms


def canary_arm(version: int) -> str:
    """The name of the arm a canary version answers under."""
    return f"canary-{version}"
