"""Roles, which are held for one model or for all of them. Pure."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

import msgspec

ALL: Final = "*"
"""In place of a model's name: all models, and what belongs to none."""


class Role(IntEnum):
    """What somebody may do; each may do what the ones before it may."""

    VIEWER = 1
    """Look."""
    OPERATOR = 2
    """Change releases."""
    OWNER = 3
    """Say who may do what."""

    @property
    def word(self) -> str:
        """As people write it."""
        return self.name.lower()


class Roles(msgspec.Struct, frozen=True):
    """The roles that somebody holds, by model or `ALL`."""

    by_model: Mapping[str, Role]

    def of(self, model: str | None) -> int:
        """The highest role for a model; None: for all models together. 0: none."""
        everywhere = self.by_model.get(ALL, 0)
        return everywhere if model is None or model == ALL else max(self.by_model.get(model, 0), everywhere)

    def may(self, role: Role, model: str | None) -> bool:
        """Whether they hold that role, or a higher one."""
        return self.of(model) >= role

    def owns(self, other: "Roles") -> bool:
        """Whether they are owner of every model that the others are about: then they may give and take those."""
        return all(self.may(Role.OWNER, None if model == ALL else model) for model in other.by_model)

    def written(self) -> dict[str, str]:
        """By model, in words."""
        return {model: role.word for model, role in sorted(self.by_model.items())}

    def __str__(self) -> str:
        said = [role if model == ALL else f"{role} of {model}" for model, role in self.written().items()]
        return ", ".join(said) or "no role"


NO_ROLES: Final = Roles({})
OWNER_OF_ALL: Final = Roles({ALL: Role.OWNER})


def role(word: str) -> Role:
    """The role of a word. Raises ValueError that names them all."""
    for found in Role:
        if found.word == word:
            return found
    raise ValueError(f"{word!r} is no role; roles: {', '.join(each.word for each in Role)}")
