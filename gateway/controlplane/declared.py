"""A release as it is, as a declaration of it, and in what two declarations differ, for people. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Final

import msgspec

from gateway.controlplane import toml
from gateway.controlplane.commands import Declared, Hold
from gateway.routing.snapshot import HOLDOUT, STABLE, STANDBY, Assignment, Policy, Rule, canary_arm

SHOWN: Final = 20
"""Overrides that a difference shows one by one."""
NOTHING: Final = Declared()


def of_policy(policy: Policy) -> Declared:
    """What would declare the policy as it is; declaring it changes nothing."""
    held = policy.holdout
    return Declared(
        stable=policy.stable,
        canaries={canary.version: canary.basis_points for canary in policy.canaries},
        shadows={shadow.version: shadow.rate for shadow in policy.shadows},
        standby=policy.standby,
        salt=policy.salt,
        holdout=Hold(held.basis_points, held.version) if held else None,
        rules=policy.rules,
        assignment=policy.assignment,
        timeout_ms=policy.timeout_ms,
        overrides=policy.overrides,
    )


def settled(wanted: Declared, now: Declared) -> Declared:
    """`wanted` with what it leaves to the release: the salt of canaries of which one stays, and a holdout's version."""
    held, salt = wanted.holdout, wanted.salt
    if not salt and wanted.canaries.keys() & now.canaries.keys():
        salt = now.salt
    if held and not held.version:
        held = Hold(held.basis_points, now.holdout.version if now.holdout else now.stable)
    return msgspec.structs.replace(wanted, holdout=held, salt=salt)


def overrides_stray(before: Declared, after: Declared) -> bool:
    """Whether what `after` has of overrides has to be said even if it is as before: overrides end with their arms.

    An arm ends when it gets another version, too: a standby that was flipped to is not the one that comes after it.
    """
    was, now = _arms(before), _arms(settled(after, before))
    return any(arm != STABLE and was.get(arm) != now.get(arm) for arm in {*after.overrides.values()})


def difference(before: Declared, after: Declared) -> list[str]:
    """A line for each thing that is added (`+`), ends (`-`) or becomes another (`~`), always in the same order."""
    return [*_difference(before, settled(after, before))]


def described(declared: Declared) -> list[str]:
    """A line for each thing there is."""
    return [line.removeprefix("+ ") for line in difference(NOTHING, declared)]


def _arms(declared: Declared) -> dict[str, int]:
    """The version behind every arm but stable."""
    arms = {canary_arm(version): version for version in declared.canaries}
    if declared.standby is not None:
        arms[STANDBY] = declared.standby
    if declared.holdout is not None:
        arms[HOLDOUT] = declared.holdout.version
    return arms


def _difference(before: Declared, after: Declared) -> Iterator[str]:
    yield from _line(STABLE, before.stable or None, after.stable or None)
    yield from _lines("canary", _shares(before.canaries), _shares(after.canaries))
    if after.salt:
        yield from _line("salt", before.salt or None, after.salt)
    yield from _lines("shadow", _rates(before.shadows), _rates(after.shadows))
    yield from _line(STANDBY, before.standby, after.standby)
    yield from _lines("holdout of", _held(before.holdout), _held(after.holdout))
    yield from _rules(before.rules, after.rules)
    yield from _lines("units by", _found(before.assignment), _found(after.assignment))
    yield from _line("timeout", _timeout(before.timeout_ms), _timeout(after.timeout_ms))
    yield from _overrides(before.overrides, after.overrides)


def _line(what: str, was: object, now: object) -> Iterator[str]:
    """None: there is none."""
    if was == now:
        return
    if was is None:
        yield f"+ {what}: {now}"
    elif now is None:
        yield f"- {what}: {was}"
    else:
        yield f"~ {what}: {was} -> {now}"


def _lines(what: str, was: Mapping[Any, str], now: Mapping[Any, str]) -> Iterator[str]:
    """By version or name."""
    for each in sorted(was.keys() | now.keys()):
        before, after = was.get(each), now.get(each)
        yield from _line(f"{what} {each}", before, after)


def _shares(found: Mapping[int, int]) -> dict[int, str]:
    return {version: _percent(share) for version, share in found.items()}


def _rates(found: Mapping[int, float]) -> dict[int, str]:
    return {version: f"{rate} of the requests" for version, rate in found.items()}


def _held(found: Hold | None) -> dict[int, str]:
    return {found.version: _percent(found.basis_points)} if found else {}


def _percent(basis_points: int) -> str:
    return f"{basis_points / 100:g} %"


def _found(found: Assignment | None) -> dict[str, str]:
    if found is None:
        return {}
    return {
        "metadata": toml.texts(found.unit_metadata),
        "parameters": toml.texts(found.unit_parameters),
        "no_unit": found.no_unit,
        "allow_forced": str(found.allow_forced).lower(),
    }


def _timeout(milliseconds: int) -> str | None:
    return f"{milliseconds} ms" if milliseconds else None


def _rules(before: Sequence[Rule], after: Sequence[Rule]) -> Iterator[str]:
    """By their places: the first that matches wins."""
    was, now = [_rule(rule) for rule in before], [_rule(rule) for rule in after]
    for kind, start, stop, new_start, new_stop in SequenceMatcher(None, was, now, autojunk=False).get_opcodes():
        if kind != "equal":
            yield from (f"- rule {place + 1}: {was[place]}" for place in range(start, stop))
            yield from (f"+ rule {place + 1}: {now[place]}" for place in range(new_start, new_stop))


def _rule(rule: Rule) -> str:
    return f"{rule.key} = {toml.texts(rule.values)} goes to {rule.arm}"


def _overrides(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    changed = sorted(unit for unit in before.keys() | after.keys() if before.get(unit) != after.get(unit))
    for unit in changed[:SHOWN]:
        yield from _line(f"override {unit}", before.get(unit), after.get(unit))
    if len(changed) > SHOWN:
        yield f"~ {len(changed) - SHOWN} more overrides"
