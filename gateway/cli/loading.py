"""Commands that load versions and keep them warm, whether a release names them or not."""

import time
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import Gateway, Model, Version, command, waits
from gateway.cli.failure import Exit, Failure

if TYPE_CHECKING:
    from google.protobuf.message import Message

app = typer.Typer()

Keep = Annotated[
    str, typer.Option("--for", metavar="DURATION", help="How long to keep it once it is warm, such as 90m; up to 24h.")
]


@command(app, "load", "cutover load digits 2")
@waits
def load(gateway: Gateway, model: Model, version: Version) -> None:
    """Loads and warms a version, to see whether it can be. Its workers stay for a minute."""
    from gateway.cli.admin import version_name
    from protos import admin_pb2 as pb

    request = pb.LoadVersionRequest(name=version_name(model, version), request_id=str(uuid.uuid4()))
    _carry_out(gateway, "LoadVersion", request, "loaded")


@command(app, "warm", "cutover warm digits 2", "cutover warm digits 2 --for 8h")
@waits
def warm(gateway: Gateway, model: Model, version: Version, keep: Keep = "1h") -> None:
    """Loads and warms a version and keeps it warm, so that a flip or a rollback to it is instant."""
    from gateway.cli.admin import version_name
    from gateway.controlplane.units import duration_s
    from protos import admin_pb2 as pb

    try:
        keep_s = int(duration_s(keep))
    except ValueError as error:
        raise Failure(Exit.USAGE, f"--for {keep}: {error}") from None
    if not keep_s:
        raise Failure(Exit.USAGE, f"--for {keep} is less than a second")
    request = pb.WarmVersionRequest(name=version_name(model, version), request_id=str(uuid.uuid4()), keep_s=keep_s)
    _carry_out(gateway, "WarmVersion", request, f"warm, for at least {keep}")


def _carry_out(gateway: Gateway, method: str, request: "Message", said: str) -> None:
    """Starts the operation, waits for its end and prints what came of it."""
    from gateway.cli import words
    from gateway.cli.plain import to_plain

    start_s = time.perf_counter()
    with gateway.connect() as admin:
        version = admin.carry_out(method, request)
    took_ms = (time.perf_counter() - start_s) * 1000
    plain = to_plain(version) | {"took_ms": round(took_ms, 3)}
    took = words.milliseconds(took_ms)
    gateway.show(plain, lambda: typer.echo(f"{words.line(version.model)}: version {version.version} {said}, in {took}"))
