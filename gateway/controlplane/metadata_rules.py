"""The rules of a release: requests that go to an arm for what their metadata says. Pure."""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.errors import InvalidRequest, Refusal, Refused
from gateway.routing.snapshot import Policy, Rule, arm_versions

MAX_RULES: Final = 64
"""Of one release; each may have to be looked at for every request."""
MAX_VALUES: Final = 1_000
"""Of all rules of a release together. More are a list's business, or a canary's."""
MAX_VALUE_BYTES: Final = 256
_KEY: Final = re.compile(r"[0-9a-z_.-]{1,64}")
"""What gRPC allows as a key of metadata (PROTOCOL-HTTP2.md, "Custom-Metadata")."""
_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
"""Printable ASCII, without the spaces at both ends that are lost on the way."""


def replaced(model: str, policy: Policy, rules: Iterable[Rule]) -> Policy:
    """The policy with these rules and no others. Raises InvalidRequest or Refused."""
    rules = tuple(Rule(rule.key.lower(), rule.values, rule.arm) for rule in rules)
    values = sum(len(rule.values) for rule in rules)
    if len(rules) > MAX_RULES or values > MAX_VALUES:
        said = f"{len(rules)} rules with {values} values are too many; at most {MAX_RULES} with {MAX_VALUES} are kept"
        raise InvalidRequest(said)
    for rule in rules:
        _check(rule)
    arms = arm_versions(policy)
    if unknown := {rule.arm for rule in rules} - arms.keys():
        raise Refused(f"{model} has no arm '{min(unknown)}'; it has {', '.join(arms)}", Refusal.NO_SUCH_ARM)
    return msgspec.structs.replace(policy, rules=rules)


def check_key(key: str) -> None:
    """Raises InvalidRequest for what cannot be a key of metadata that is text."""
    if not _KEY.fullmatch(key) or key.endswith("-bin"):
        raise InvalidRequest(
            f"{key[:64]!r} is no metadata key: at most 64 of a-z, 0-9, '-', '_' and '.', and not ending in '-bin'"
        )


def _check(rule: Rule) -> None:
    check_key(rule.key)
    if not rule.values:
        raise InvalidRequest(f"the rule for {rule.key} has no values: it would never match")
    for value in rule.values:
        if len(value) > MAX_VALUE_BYTES or not _VALUE.fullmatch(value):
            raise InvalidRequest(
                f"the rule for {rule.key} has the value {value[:32]!r}: values are 1 to {MAX_VALUE_BYTES} characters "
                "of printable ASCII, without spaces at the ends"
            )
