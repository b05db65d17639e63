"""The command that gives a model its first release."""

import time

import typer

from gateway.cli.command import Change, Model, Version, changes, command

app = typer.Typer()


@command(app, "register", "cutover register digits 1", "cutover register digits 1 --reason 'new model'")
@changes
def register(change: Change, model: Model, version: Version) -> None:
    """Gives a model its first release: the version becomes stable. Loads and warms it first.

    For gateways that do not do so by themselves (release_new_models = false).
    """
    from gateway.cli import words
    from gateway.cli.admin import release_name
    from gateway.cli.plain import to_plain
    from protos import admin_pb2 as pb

    request = pb.RegisterModelRequest(
        name=release_name(model),
        etag=change.etag or "",
        request_id=change.request_id,
        reason=change.reason,
        version=version,
        validate_only=change.dry_run,
    )
    with change.gateway.connect() as admin:
        if change.dry_run:
            admin.version(model, version)  # a gateway too old for this call would make the change all the same
        start_s = time.perf_counter()
        after = admin.change("RegisterModel", request)
        took_ms = (time.perf_counter() - start_s) * 1000
    if change.dry_run:
        said = f"{model}: would be {words.release(after)}, revision {after.revision}; nothing was changed"
        change.gateway.show(to_plain(after) | {"dry_run": True}, lambda: typer.echo(said))
        return
    said = f"{model}: released at version {version}, revision {after.revision}, in {words.milliseconds(took_ms)}"
    plain = to_plain(after) | {"took_ms": round(took_ms, 3), "request_id": change.request_id}
    change.gateway.show(plain, lambda: typer.echo(said))
