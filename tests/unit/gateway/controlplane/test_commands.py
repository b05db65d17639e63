"""Names and fingerprints of commands."""

from gateway.controlplane.commands import (
    Abort,
    Command,
    Declare,
    Declared,
    Flip,
    Pause,
    PrepareStandby,
    Promote,
    Register,
    RemoveCanary,
    RemoveHoldout,
    RemoveShadow,
    Resume,
    Rollback,
    SetCanary,
    SetHoldout,
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
    Promote(1),
    Abort(),
    Pause(),
    Resume(),
    SetHoldout(5),
    RemoveHoldout(),
    Declare(Declared(stable=1, canaries={2: 10})),
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
        "promote",
        "abort",
        "pause",
        "resume",
        "set-holdout",
        "remove-holdout",
        "declare",
    ]


def test_fingerprints_tell_commands_values_and_models_apart() -> None:
    prints = {fingerprint("iris", command) for command in (*ALL, SetCanary(1, 6), SetCanary(2, 5), Rollback(4))}
    prints.add(fingerprint("wine", SetCanary(1, 5)))
    assert len(prints) == len(ALL) + 4
    assert fingerprint("iris", SetCanary(1, 5)) == fingerprint("iris", SetCanary(1, 5))


def test_a_rollback_is_still_the_request_it_was_before_it_knew_revisions() -> None:
    assert fingerprint("iris", Rollback()).startswith("7cb8f69f55ada9a2")
