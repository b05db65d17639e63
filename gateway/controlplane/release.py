"""A release's rules: `apply(release, command, now)` gives the next release and the facts about it. Pure.

Rules:
- The stable version is never its own canary, shadow or standby.
- Canaries own explicit bucket ranges. Growing takes the lowest free buckets and never another arm's, shrinking gives
  the newest back; so raising a share never moves a unit out of its arm, and candidates never push each other.
- The salt is "<model>/<version of the first canary>" while any canary is live; the next rollout meets others first.
- An override or a rule names an arm that exists. When its arm ends (a canary is removed or becomes stable, a standby is
  flipped to), it ends, too: its unit then goes where its bucket goes.
- What is declared goes by the same rules, all at once: shares that shrink make room for those that grow. The salt of
  canaries stays while one of them lives.
- A flip, a promote and whatever else brings another stable version keep the whole policy before them; a rollback
  restores exactly that, once. A rollback to a revision restores the policy of that revision; what it kept stays while
  the stable version does.
- A holdout keeps its version and its buckets whatever becomes of the others; only a rollback, which restores a policy
  whole, can bring another.
- While a release is paused, nothing but a rollback gives a version that is not stable more requests (`exposure`).
- Asking for what already is changes nothing: same revision, no facts.
"""

from collections.abc import Iterable

import msgspec

from gateway.controlplane import declaring, exposure, overrides, policies
from gateway.controlplane.commands import (
    Abort,
    Command,
    Declare,
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
    SetOverrides,
    SetShadow,
    Shaping,
    verb,
)
from gateway.errors import InvalidRequest, Refusal, Refused
from gateway.routing.snapshot import Policy, Release


class Fact(msgspec.Struct, frozen=True):
    """What happened to a release. `before` of the first fact is `unborn(model)`."""

    verb: str
    before: Release
    after: Release


def unborn(model: str) -> Release:
    """The release of a model nobody has registered yet: revision 0."""
    return Release(model=model, revision=0, policy=Policy(stable=0))


def apply(release: Release, command: Command, now_ms: int) -> tuple[Release, tuple[Fact, ...]]:
    """The release after the command, and what happened; no facts: nothing changed.

    `now_ms`: milliseconds since the epoch. Raises InvalidRequest (the command's own values) or Refused (this release
    does not allow it); both say why in one line.
    """
    decided = _decided(release, command)
    if release.paused and not isinstance(command, Rollback):
        exposure.check(release, decided.policy)
    if decided == release:
        return release, ()
    after = msgspec.structs.replace(decided, revision=release.revision + 1, updated_ms=now_ms, sequence=0)
    return after, (Fact(verb(command), release, after),)


def replay(facts: Iterable[Fact], release: Release) -> Release:
    """The release that the facts lead to. Raises ValueError at the first fact that does not follow."""
    for fact in facts:
        if _unplaced(fact.before) != _unplaced(release) or fact.after.revision != release.revision + 1:
            raise ValueError(f"fact {fact.verb} does not follow revision {release.revision} of {release.model}")
        release = fact.after
    return release


def _decided(release: Release, command: Command) -> Release:
    """The release after the command, but for its revision and time."""
    if isinstance(command, Register):
        return msgspec.structs.replace(release, policy=policies.registered(release, command))
    if not release.revision:
        said = f"{release.model} has no release yet; put a version of it into the models directory"
        raise Refused(said, Refusal.NO_RELEASE)
    match command:
        case Pause() | Resume():
            return msgspec.structs.replace(release, paused=isinstance(command, Pause))
        case Flip():
            return msgspec.structs.replace(release, policy=policies.flipped(release), rollback=release.policy)
        case Promote():
            return msgspec.structs.replace(release, policy=policies.promoted(release, command), rollback=release.policy)
        case Declare():
            policy = declaring.declared(release, command)
            stays = policy.stable == release.policy.stable
            return msgspec.structs.replace(
                release, policy=policy, rollback=release.rollback if stays else release.policy
            )
        case Rollback(revision=0):
            if release.rollback is None:
                said = f"{release.model} has nothing to roll back to: no flip or promote since the last rollback"
                raise Refused(said, Refusal.NOTHING_TO_ROLL_BACK)
            return msgspec.structs.replace(release, policy=release.rollback, rollback=None)
        case Rollback():
            return _rolled_back_to(release, command)
        case _:
            return msgspec.structs.replace(release, policy=_policy(release, command))


def _policy(release: Release, command: Shaping) -> Policy:
    match command:
        case SetShadow():
            return policies.with_shadow(release, command)
        case RemoveShadow():
            return policies.without_shadow(release, command)
        case SetCanary():
            return policies.with_canary(release, command)
        case RemoveCanary():
            return policies.without_canary(release, command)
        case SetOverrides():
            return overrides.changed(release, command)
        case PrepareStandby():
            return policies.with_standby(release, command)
        case SetHoldout():
            return policies.with_holdout(release, command)
        case RemoveHoldout():
            return policies.without_holdout(release)
        case Abort():
            return policies.aborted(release.policy)


def _rolled_back_to(release: Release, command: Rollback) -> Release:
    if command.revision < 0:
        raise InvalidRequest(f"revision must be a positive integer, not {command.revision}", "revision")
    if command.revision > release.revision:
        said = f"{release.model} has no revision {command.revision}; it is at revision {release.revision}"
        raise Refused(said, Refusal.NO_SUCH_REVISION)
    if command.policy is None:
        said = (
            f"the store has not kept revision {command.revision} of {release.model}: it is from before revisions were"
        )
        raise Refused(said, Refusal.NO_SUCH_REVISION)
    stays = command.policy.stable == release.policy.stable
    return msgspec.structs.replace(release, policy=command.policy, rollback=release.rollback if stays else None)


def _unplaced(release: Release) -> Release:
    """As `apply` gave it: without the place that the store has given it since."""
    return msgspec.structs.replace(release, sequence=0)
