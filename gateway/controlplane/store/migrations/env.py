"""What Alembic runs: the steps that a database lacks, in the transaction of whoever asked for them."""

from alembic import context

from gateway.controlplane.store import schema


def main() -> None:
    """On the connection in the configuration's attributes; its owner commits."""
    context.configure(connection=context.config.attributes["connection"], target_metadata=schema.metadata)
    context.run_migrations()


main()
