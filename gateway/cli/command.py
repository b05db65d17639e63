"""How commands are declared: examples in every help text, and the options that commands share.

    @command(app, "flip", "cutover flip digits --reason 'canary is fine'")
    @changes
    def flip(change: Change, model: Model) -> None: ...

`asks` adds --admin, --timeout, -o and who asks, `waits` the same with more patience, `writes` with one more notation;
`changes` adds --reason, --etag, --request-id and --dry-run to those of `waits`. The function's first parameter gets
them as one value.
"""

import functools
import inspect
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from gateway.cli.failure import Exit, Failure, parse_address

if TYPE_CHECKING:
    from gateway.cli.admin import Admin

LARGEST = 2**63 - 1
"""Of the numbers that the admin API knows."""
DEFAULT_ADMIN = "127.0.0.1:8003"
UNIX = "unix:"

Run = Callable[..., None]


class Output(StrEnum):
    """What -o may say."""

    TABLE = "table"
    JSON = "json"


class Notation(StrEnum):
    """What -o may say of a release."""

    TABLE = "table"
    JSON = "json"
    TOML = "toml"


@dataclass(frozen=True, slots=True)
class Keys:
    """Files that say who asks, and whom to believe; the token itself is never on a command line."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: Path | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway a command talks to, and how the command answers."""

    address: str
    timeout_s: float
    output: Output | Notation
    keys: Keys = Keys()

    @contextmanager
    def connect(self) -> Iterator["Admin"]:
        """A client of the admin API, closed at the end."""
        from gateway.cli.admin import Admin
        from gateway.cli.credentials import read

        host = None if self.address.startswith(UNIX) else parse_address(self.address, "--admin")[0]
        with Admin(self.address, self.timeout_s, read(self.keys, host)) as admin:
            yield admin

    def show(self, plain: object, table: Callable[[], None]) -> None:
        """Prints one JSON document, or calls `table`, as -o says."""
        if self.output == Output.JSON:
            typer.echo(json.dumps(plain, ensure_ascii=False))
        else:
            table()


@dataclass(frozen=True, slots=True)
class Change:
    """A change to be asked for; `etag` None: that of the release as it is now; `dry_run`: or only to be looked at."""

    gateway: Gateway
    reason: str
    etag: str | None
    request_id: str
    dry_run: bool = False


Model = Annotated[str, typer.Argument(metavar="MODEL", help="The name clients call.", show_default=False)]
OptionalModel = Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only this model.", show_default=False)]
Version = Annotated[
    int,
    typer.Argument(metavar="VERSION", min=1, max=LARGEST, help="A number of the models directory.", show_default=False),
]
OutputOption = Annotated[
    Output, typer.Option("--output", "-o", metavar="table|json", help="json: one JSON document on stdout.")
]

NotationOption = Annotated[
    Notation,
    typer.Option("--output", "-o", metavar="table|json|toml", help="toml: a file for `cutover apply`."),
]


def _option(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _file(name: str, flag: str, variable: str, text: str) -> inspect.Parameter:
    option = typer.Option(flag, metavar="FILE", envvar=variable, show_envvar=False, show_default=False, help=text)
    return _option(name, Annotated[Path | None, option], None)


_KEYS = [
    _file("admin_ca", "--admin-ca", "CUTOVER_OPERATOR_CA", "Authority of the gateway's certificate: turns TLS on."),
    _file("admin_cert", "--admin-cert", "CUTOVER_OPERATOR_CERT", "Your certificate, with TLS."),
    _file("admin_key", "--admin-key", "CUTOVER_OPERATOR_KEY", "Its private key."),
    _file("token_file", "--token-file", "CUTOVER_TOKEN_FILE", "Holds your token (or CUTOVER_TOKEN)."),
]


def _shared(timeout_s: float) -> list[inspect.Parameter]:
    admin = typer.Option(
        "--admin", metavar="HOST:PORT|unix:PATH", envvar="CUTOVER_ADMIN", help="Admin address of the gateway."
    )
    timeout = typer.Option("--timeout", metavar="SECONDS", min=0.001, help="How long to wait for an answer.")
    return [
        _option("admin", Annotated[str, admin], DEFAULT_ADMIN),
        _option("timeout", Annotated[float, timeout], timeout_s),
        *_KEYS,
        _option("output", OutputOption, Output.TABLE),
    ]


_ASKS = _shared(timeout_s=10.0)
# Loading and warming a model takes its time.
_WAITS = _shared(timeout_s=120.0)
_WRITES = [*_ASKS[:-1], _option("output", NotationOption, Notation.TABLE)]
_CHANGES = [
    _option("reason", Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")], ""),
    _option(
        "etag",
        Annotated[
            str | None, typer.Option("--etag", help="Change only this state of the release (default: as it is).")
        ],
        None,
    ),
    _option(
        "request_id",
        Annotated[
            str | None, typer.Option("--request-id", help="The same id again never changes twice (default: new).")
        ],
        None,
    ),
    _option(
        "dry_run", Annotated[bool, typer.Option("--dry-run", help="Only say what would become of the release.")], False
    ),
    *_WAITS,
]


def _gateway(**given: Any) -> Gateway:
    keys = Keys(given["admin_ca"], given["admin_cert"], given["admin_key"], given["token_file"])
    return Gateway(given["admin"], given["timeout"], given["output"], keys)


def asks(function: Run) -> Run:
    """Adds the options of commands that read; the first parameter becomes a Gateway."""
    return _extend(function, _ASKS, _gateway)


def waits(function: Run) -> Run:
    """The same for those that may have to load a model."""
    return _extend(function, _WAITS, _gateway)


def writes(function: Run) -> Run:
    """The same for those that can also write a file."""
    return _extend(function, _WRITES, _gateway)


def changes(function: Run) -> Run:
    """Adds the options of commands that change a release; the first parameter becomes a Change."""

    def context(reason: str, etag: str | None, request_id: str | None, dry_run: bool = False, **shared: Any) -> Change:
        gateway = _gateway(**shared)
        if etag == "":
            raise Failure(Exit.USAGE, "--etag is empty: leave it out to change the release as it is now")
        return Change(gateway, reason, etag, request_id or str(uuid.uuid4()), dry_run)

    return _extend(function, _CHANGES, context)


def _extend(function: Run, options: list[inspect.Parameter], context: Callable[..., object]) -> Run:
    """`function` without its first parameter and with the options, which `context` turns into that parameter.

    An option of the function's own takes the place of one of the same name.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    options = [option for option in options if option.name not in {parameter.name for parameter in own}]

    @functools.wraps(function)
    def wrapper(**given: Any) -> None:
        shared = {option.name: given.pop(option.name, option.default) for option in options}
        function(context(**shared), **given)

    parameters = [*own, *options]
    wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined] # functions take one; typer reads it
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def command(app: typer.Typer, name: str, *examples: str) -> Callable[[Run], Run]:
    """Registers a command whose help ends with the examples."""
    # "\b" keeps typer from joining the lines.
    epilog = "Examples:\n\n\b\n" + "\n".join(f"  {example}" for example in examples)
    return app.command(name, cls=_Command, epilog=epilog)


class DefaultGroup(TyperGroup):
    """A group that is a command, too: without the name of one of its commands, it is `show`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the command line."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


class _Command(TyperCommand):
    """Its usage line shows arguments as they are declared, `MODEL` and `[MODEL]`, without brackets around those."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the command's name in the usage line."""
        arguments = [one.metavar or one.name for one in self.get_params(ctx) if isinstance(one, TyperArgument)]
        return ["[OPTIONS]", *(str(argument) for argument in arguments)]
