"""How commands are declared: examples in every help text, and the options that commands share.

    @command(app, "flip", "cutover flip digits --reason 'canary is fine'")
    @changes
    def flip(change: Change, model: Model) -> None: ...

`asks` adds --admin, --timeout and -o, `waits` the same with more patience, `writes` with one more notation; `changes`
adds --reason, --etag, --request-id and --dry-run to those of `waits`. The function's first parameter gets them as one
value.
"""

import functools
import inspect
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand

from gateway.cli.failure import Exit, Failure, parse_address

if TYPE_CHECKING:
    from gateway.cli.admin import Admin

DEFAULT_ADMIN = "127.0.0.1:8003"

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
class Gateway:
    """The gateway a command talks to, and how the command answers."""

    address: str
    timeout_s: float
    output: Output | Notation

    @contextmanager
    def connect(self) -> Iterator["Admin"]:
        """A client of the admin API, closed at the end."""
        from gateway.cli.admin import Admin

        parse_address(self.address, "--admin")
        with Admin(self.address, self.timeout_s) as admin:
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
    int, typer.Argument(metavar="VERSION", min=1, help="A number of the models directory.", show_default=False)
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


def _shared(timeout_s: float) -> list[inspect.Parameter]:
    admin = typer.Option("--admin", metavar="HOST:PORT", envvar="CUTOVER_ADMIN", help="Admin address of the gateway.")
    timeout = typer.Option("--timeout", metavar="SECONDS", min=0.001, help="How long to wait for an answer.")
    return [
        _option("admin", Annotated[str, admin], DEFAULT_ADMIN),
        _option("timeout", Annotated[float, timeout], timeout_s),
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


def asks(function: Run) -> Run:
    """Adds the options of commands that read; the first parameter becomes a Gateway."""
    return _extend(function, _ASKS, _gateway)


def waits(function: Run) -> Run:
    """The same for those that may have to load a model."""
    return _extend(function, _WAITS, _gateway)


def writes(function: Run) -> Run:
    """The same for those that can also write a file."""
    return _extend(function, _WRITES, _gateway)


def _gateway(admin: str, timeout: float, output: Output | Notation) -> Gateway:
    return Gateway(admin, timeout, output)


def changes(function: Run) -> Run:
    """Adds the options of commands that change a release; the first parameter becomes a Change."""

    def context(reason: str, etag: str | None, request_id: str | None, dry_run: bool = False, **shared: Any) -> Change:
        gateway = Gateway(shared["admin"], shared["timeout"], shared["output"])
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
        shared = {option.name: given.pop(option.name) for option in options}
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


class _Command(TyperCommand):
    """Its usage line shows arguments as they are declared, `MODEL` and `[MODEL]`, without brackets around those."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the command's name in the usage line."""
        arguments = [one.metavar or one.name for one in self.get_params(ctx) if isinstance(one, TyperArgument)]
        return ["[OPTIONS]", *(str(argument) for argument in arguments)]
