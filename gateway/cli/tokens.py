"""Commands about tokens: who may do what with the admin API."""

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli.command import Gateway, asks, command
from gateway.cli.failure import Exit, Failure

if TYPE_CHECKING:
    from protos import admin_pb2 as pb

app = typer.Typer()
token = typer.Typer(help="Who may do what with the admin API: `Authorization: Bearer TOKEN`.")
app.add_typer(token, name="token")

ALL: Final = "*"
NEVER: Final = "never"
DAY_S: Final = 86_400

Name = Annotated[str, typer.Argument(metavar="NAME", help="As the audit log is to name it.", show_default=False)]
RoleOption = Annotated[
    list[str],
    typer.Option("--role", metavar="[MODEL=]ROLE", help="viewer, operator or owner; may be repeated, for one model."),
]
Expires = Annotated[str, typer.Option("--expires", metavar="DURATION|never", help="How long it holds: 90d, 12h.")]
Save = Annotated[
    Path | None, typer.Option("--save", metavar="FILE", help="Puts the token there, for its owner only, and not here.")
]
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="Makes it in the state directory of a gateway that is stopped."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")]


@command(
    token,
    "create",
    "cutover token create ops --role owner --save ops.token",
    "cutover token create ci --role digits=operator --expires 30d",
    "cutover token create rescue --role owner --state cutover-state",
)
@asks
def create(  # noqa: PLR0913 - one parameter per option
    gateway: Gateway,
    name: Name,
    role: RoleOption,
    expires: Expires = "90d",
    save: Save = None,
    state: State = None,
    reason: Reason = "",
) -> None:
    """Makes a token and says it, once: only its hash is kept.

    A viewer looks, an operator changes releases, an owner also makes tokens,
    each for one model or for all. Until there is a token or a grant, everybody
    who reaches the admin API on this machine is owner; the first token ends that.
    """
    from gateway.cli.plain import to_plain
    from protos import admin_pb2 as pb

    request = pb.CreateTokenRequest(token_id=name, roles=_roles(role), reason=reason)
    if expires != NEVER:
        request.ttl.FromSeconds(_seconds(expires))
    if save is not None and save.exists():
        raise Failure(Exit.USAGE, f"--save {save} exists: name a new file")
    if state is not None:
        made = asyncio.run(_offline(state, request))
    else:
        with gateway.connect() as admin:
            made = admin.create_token(request)
    if save is not None:
        _save(save, made.secret)
        plain = to_plain(made.token) | {"file": str(save)}
        gateway.show(plain, lambda: typer.echo(f"token {name} is in {save}"))
        return
    gateway.show(to_plain(made.token) | {"secret": made.secret}, lambda: typer.echo(made.secret))


@command(token, "list", "cutover token list", "cutover token list -o json")
@asks
def list_(gateway: Gateway) -> None:
    """Lists the tokens for models that you are owner of, with those that hold no longer."""
    from gateway.cli import tables
    from gateway.cli.plain import to_plain

    with gateway.connect() as admin:
        found = admin.tokens()
    plain = {"tokens": [to_plain(one) for one in found]}
    gateway.show(plain, lambda: tables.show(tables.tokens(found, tables.utc_now())))


@command(token, "revoke", "cutover token revoke ci --reason 'laptop lost'")
@asks
def revoke(gateway: Gateway, name: Name, reason: Reason = "") -> None:
    """Ends a token at once, for good. Its name stays taken."""
    from gateway.cli.plain import to_plain
    from protos import admin_pb2 as pb

    with gateway.connect() as admin:
        revoked = admin.revoke_token(pb.RevokeTokenRequest(name=f"tokens/{name}", reason=reason))
    gateway.show(to_plain(revoked), lambda: typer.echo(f"token {name} is revoked"))


def _roles(written: list[str]) -> "dict[str, pb.Role]":
    from protos import admin_pb2 as pb

    roles = {"viewer": pb.VIEWER, "operator": pb.OPERATOR, "owner": pb.OWNER}
    found: dict[str, pb.Role] = {}
    for one in written:
        model, _, word = one.rpartition("=")
        if word not in roles:
            raise Failure(Exit.USAGE, f"--role {one}: write viewer, operator or owner, or MODEL=viewer...")
        if (model or ALL) in found:
            raise Failure(Exit.USAGE, f"--role {one}: {model or 'all models'} has a role already")
        found[model or ALL] = roles[word]
    return found


def _seconds(written: str) -> int:
    """Days are usual here, and nowhere else."""
    from gateway.controlplane.units import duration_s

    if written.endswith("d") and written[:-1].isascii() and written[:-1].isdigit():
        return int(written[:-1]) * DAY_S
    try:
        return max(1, int(duration_s(written)))
    except ValueError:
        raise Failure(Exit.USAGE, f"--expires {written}: write days or hours, such as 90d or 12h, or never") from None


async def _offline(folder: Path, request: "pb.CreateTokenRequest") -> "pb.CreateTokenResponse":
    """In place of a gateway, which must not run: whoever may write its store is owner."""
    from gateway.cli.admin import actor
    from gateway.controlplane.access.keeper import Access, Keeper
    from gateway.controlplane.api.tokens import Tokens
    from gateway.controlplane.store.choice import STORE_FILE
    from gateway.controlplane.store.sqlite import SqliteStore
    from gateway.errors import RequestError

    path = folder / STORE_FILE
    if not path.is_file():
        raise Failure(
            Exit.USAGE,
            f"--state {folder} has no {STORE_FILE}: name the state directory of a gateway; with store.url, where "
            'tokens are in the database, let yourself in by [admin.grants]: "unix:" = "owner"',
        )
    store = SqliteStore(path)
    await store.open()
    try:
        room = Tokens(Keeper(store, Access(), _now_ms), _now_ms)
        return await room.create(request, f"offline {actor()}")
    except RequestError as error:
        raise Failure(Exit.REFUSED, str(error)) from None
    finally:
        await store.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _save(path: Path, secret: str) -> None:
    """For nobody else to read. Raises Failure, with the token: nobody could say it again."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - only os.open sets a mode
            file.write(secret + "\n")
    except OSError as error:
        typer.echo(secret)
        raise Failure(
            Exit.REFUSED, f"--save {path} cannot be made ({error.strerror}): the token is on stdout"
        ) from None
