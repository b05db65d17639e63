"""Settings about operators. What becomes of them: test_schema."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.access import Admin, file_mode
from gateway.controlplane.access.roles import Role, Roles


def test_a_role_without_a_model_is_for_all() -> None:
    grants = {"ada": "owner", "unix:": {"iris": "operator", "*": "viewer"}}
    files = {name: name for name in ("certificate", "key", "client_ca", "socket")}
    admin = Admin.model_validate(files | {"grants": grants})
    assert admin.roles() == {
        "ada": Roles({"*": Role.OWNER}),
        "unix:": Roles({"iris": Role.OPERATOR, "*": Role.VIEWER}),
    }


def test_a_socket_alone_is_enough(tmp_path: Path) -> None:
    assert Admin(tcp=False, socket=tmp_path / "s").socket_mode == "0600"


@pytest.mark.parametrize("written", ["600", "0660"])
def test_a_file_mode_is_written_as_chmod_does(written: str) -> None:
    assert file_mode(written) == written


@pytest.mark.parametrize(
    ("admin", "said"),
    [
        ({"certificate": "c"}, "certificate and key belong together"),
        ({"client_ca": "a"}, "client_ca needs a certificate"),
        ({"tcp": False}, "needs a socket"),
        ({"socket": "s", "socket_mode": "rw"}, "must be a file mode"),
        ({"grants": {"ada": "boss"}}, "ada: 'boss' is no role; roles: viewer, operator, owner"),
        ({"grants": {"ada": "owner"}, "certificate": "c", "key": "k"}, r"certificates \(ada\) need a client_ca"),
        ({"grants": {"unix:": "owner"}}, '"unix:" needs a socket'),
        ({"grants": {"ada": {"a/b": "owner"}}}, "ada: 'a/b' is neither the name of a model"),
    ],
)
def test_a_door_that_makes_no_sense_is_refused(admin: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Admin.model_validate(admin)
