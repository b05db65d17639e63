"""What people and controllers may ask of a release. A command is a value; `release.apply` decides what it does."""

import hashlib

import msgspec


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


class Rollback(_Command, frozen=True, tag="rollback"):
    """The policy that stood before the last flip comes back whole."""


Command = (
    Register | SetShadow | RemoveShadow | SetCanary | RemoveCanary | SetOverrides | PrepareStandby | Flip | Rollback
)


def verb(command: Command) -> str:
    """The command's name in audit events and logs, e.g. `set-canary`."""
    return str(command.__struct_config__.tag)


def fingerprint(model: str, command: Command) -> str:
    """SHA-256 (hex) that tells whether a repeated request id still asks for the same thing."""
    return hashlib.sha256(msgspec.json.encode((model, command), order="sorted")).hexdigest()
