"""Names and fingerprints of commands."""

from gateway.controlplane.commands import (
    Command,
    Flip,
    PrepareStandby,
    Register,
    RemoveCanary,
    RemoveShadow,
    Rollback,
    SetCanary,
    SetShadow,
    fingerprint,
    verb,
)

ALL: tuple[Command, ...] = (
    Register(1),
    SetShadow(1, 0.5),
    RemoveShadow(1),
    SetCanary(1, 5),
    RemoveCanary(1),
    PrepareStandby(1),
    Flip(),
    Rollback(),
)


def test_verbs_are_the_words_of_the_api() -> None:
    assert [verb(command) for command in ALL] == [
        "register",
        "set-shadow",
        "remove-shadow",
        "set-canary",
        "remove-canary",
        "prepare-standby",
        "flip",
        "rollback",
    ]


def test_fingerprints_tell_commands_values_and_models_apart() -> None:
    prints = {fingerprint("iris", command) for command in (*ALL, SetCanary(1, 6), SetCanary(2, 5))}
    prints.add(fingerprint("wine", SetCanary(1, 5)))
    assert len(prints) == len(ALL) + 3
    assert fingerprint("iris", SetCanary(1, 5)) == fingerprint("iris", SetCanary(1, 5))
