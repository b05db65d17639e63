"""Commands about the gateways that share a store."""

from typing import Annotated

import typer

from gateway.cli.command import Gateway, asks, command

app = typer.Typer()
gateways = typer.Typer(help="The gateways that share a store.")
app.add_typer(gateways, name="gateways")

Name = Annotated[str, typer.Argument(metavar="GATEWAY", help="As the list names it.", show_default=False)]
Reason = Annotated[
    str, typer.Option("--reason", help="How it is known that it is dead; kept in the audit log.", show_default=False)
]


@command(gateways, "list", "cutover gateways list", "cutover gateways list -o json")
@asks
def list_gateways(gateway: Gateway) -> None:
    """Lists the gateways that share the store, what each serves, and which are silent."""
    from gateway.cli import tables
    from gateway.cli.plain import to_plain

    with gateway.connect() as admin:
        found = admin.gateways()
    gateway.show(to_plain(found), lambda: tables.show(tables.gateways(found)))


@command(gateways, "fence", "cutover gateways fence b:8001 --reason 'its machine is switched off'")
@asks
def fence(gateway: Gateway, name: Name, reason: Reason) -> None:
    """Says that a silent gateway is dead, its proxies included: changes do not wait for it any more.

    If it is not, and it still has clients, they may be answered by what was before. It finds out when it reaches the
    store again, and answers nobody until it has caught up.
    """
    with gateway.connect() as admin:
        admin.fence(name, reason)
    gateway.show({"fenced": name}, lambda: typer.echo(f"{name}: fenced, changes do not wait for it any more"))
