"""What people and controllers may ask of a release. A command is a value; `release.apply` decides what it does."""

import hashlib

import msgspec

from gateway.routing.snapshot import Assignment, Policy, Rule


class _Command(msgspec.Struct, frozen=True, tag_field="verb"):
    pass


class Register(_Command, frozen=True, tag="register"):
    """First sight of a model: everybody gets `version`."""

    version: int


class SetShadow(_Command, frozen=True, tag="set-shadow"):
    """`version` gets copies of the share `rate` of all requests, 0 < rate <= 1."""

    version: int
    rate: float


class RemoveShadow(_Command, frozen=True, tag="remove-shadow"):
    """`version` gets no copies any more."""

    version: int


class SetCanary(_Command, frozen=True, tag="set-canary"):
    """`version` answers `basis_points` hundredths of a percent of all units, 1..10000."""

    version: int
    basis_points: int


class RemoveCanary(_Command, frozen=True, tag="remove-canary"):
    """`version` gives all its buckets back."""

    version: int


class SetOverrides(_Command, frozen=True, tag="set-overrides"):
    """`overrides` (arm by unit) are added or replaced, the units in `remove` go where their bucket goes again."""

    overrides: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class PrepareStandby(_Command, frozen=True, tag="prepare-standby"):
    """`version` becomes the version a flip would switch to."""

    version: int


class Flip(_Command, frozen=True, tag="flip"):
    """The standby becomes stable."""


class Promote(_Command, frozen=True, tag="promote"):
    """The canary `version` becomes stable; other canaries stay."""

    version: int


class Abort(_Command, frozen=True, tag="abort"):
    """All canaries and the standby end, and what sends units to them: stable answers. Shadows and the holdout stay."""


class Pause(_Command, frozen=True, tag="pause"):
    """Until a resume, nothing may give a version that is not stable more requests; a rollback may."""


class Resume(_Command, frozen=True, tag="resume"):
    """Ends a pause."""


class SetHoldout(_Command, frozen=True, tag="set-holdout"):
    """`basis_points` hundredths of a percent of all units, 1..10000, stay with the version that is stable now.

    A holdout that is there keeps its version, and changes in size only.
    """

    basis_points: int


class RemoveHoldout(_Command, frozen=True, tag="remove-holdout"):
    """The units of the holdout go where all others go."""


class Rollback(_Command, frozen=True, tag="rollback", omit_defaults=True):
    """A policy of before comes back whole: that before the last flip or promote, or that of a revision.

    `policy`: of `revision`, as the store has it; whoever holds the store fills it in, None: it has none.
    """

    revision: int = 0
    policy: Policy | None = None


class Hold(msgspec.Struct, frozen=True, omit_defaults=True):
    """A holdout as somebody wants it. `version` 0: the one it has, else that which is stable before the change."""

    basis_points: int
    version: int = 0


class Declared(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a release is to be: shares and rates, where a policy has buckets."""

    stable: int = 0
    canaries: dict[int, int] = {}
    """Hundredths of a percent of all units, by version."""
    shadows: dict[int, float] = {}
    """The share of requests copied, by version."""
    standby: int | None = None
    salt: str = ""
    """Of the canaries; empty: the one they have, else "<model>/<version of the first>"."""
    holdout: Hold | None = None
    rules: tuple[Rule, ...] = ()
    assignment: Assignment | None = None
    timeout_ms: int = 0
    overrides: dict[str, str] = {}
    """Arm by unit."""


PIECES: tuple[str, ...] = Declared.__struct_fields__


class Declare(_Command, frozen=True, tag="declare"):
    """The pieces named in `mask` become as declared, all at once; the others stay."""

    declared: Declared
    mask: tuple[str, ...] = PIECES


Shaping = (
    SetShadow
    | RemoveShadow
    | SetCanary
    | RemoveCanary
    | SetOverrides
    | PrepareStandby
    | SetHoldout
    | RemoveHoldout
    | Abort
)
"""Those that change the policy and leave what a rollback would bring back."""
Command = Register | Shaping | Declare | Flip | Promote | Rollback | Pause | Resume


def verb(command: Command) -> str:
    """The command's name in audit events and logs, e.g. `set-canary`."""
    return str(command.__struct_config__.tag)


def fingerprint(model: str, command: Command) -> str:
    """SHA-256 (hex) that tells whether a repeated request id still asks for the same thing."""
    plain = msgspec.to_builtins((model, command), str_keys=True)
    return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()
