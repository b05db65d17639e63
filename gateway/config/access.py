"""The settings about operators: how they come in, and who may do what."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StrictBool, model_validator

from gateway.controlplane.access.identity import UNIX
from gateway.controlplane.access.roles import ALL, Roles, role
from gateway.controlplane.repository import MODEL_NAME
from gateway.controlplane.written import Section

GrantedRoles = str | dict[str, str]
"""A role for all models, or by model."""


def file_mode(written: str) -> str:
    """Raises ValueError for what is no file mode."""
    if not re.fullmatch(r"0?[0-7]{3}", written):
        raise ValueError('must be a file mode such as "0600" or "0660"')
    return written


def _grants(grants: dict[str, str | dict[str, str]]) -> dict[str, str | dict[str, str]]:
    """Raises ValueError for what is no role, or no model."""
    for name, given in grants.items():
        for model, word in ({ALL: given} if isinstance(given, str) else given).items():
            if model != ALL and not MODEL_NAME.fullmatch(model):
                raise ValueError(f'{name}: {model!r} is neither the name of a model nor "*"')
            try:
                role(word)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return grants


class Admin(Section):
    """[admin]: how operators come in, and who may do what. `server.admin_host` and `admin_port` say where."""

    tcp: StrictBool = True
    """Whether the admin API listens on its port; else on the socket only."""
    socket: Path | None = None
    """A Unix socket for operators."""
    socket_mode: Annotated[str, AfterValidator(file_mode)] = "0600"
    """Who may connect to it, as chmod writes it."""
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    """Authorities that sign operators' certificates; without it they need none."""
    grants: Annotated[dict[str, GrantedRoles], AfterValidator(_grants)] = Field(default_factory=dict)
    """Roles by the name in a certificate, or "unix:"."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together; give both")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs a certificate and a key, too")
        if not self.tcp and self.socket is None:
            raise ValueError("without tcp the admin API needs a socket")
        certified = [name for name in self.grants if name != UNIX]
        if certified and self.client_ca is None:
            raise ValueError(f"grants to certificates ({certified[0]}) need a client_ca, which asks for them")
        if UNIX in self.grants and self.socket is None:
            raise ValueError('the grant to "unix:" needs a socket')
        return self

    def roles(self) -> dict[str, Roles]:
        """The roles of each who is granted some."""
        return {
            name: Roles({model: role(word) for model, word in granted.items()})
            for name, given in self.grants.items()
            for granted in [{ALL: given} if isinstance(given, str) else given]
        }
