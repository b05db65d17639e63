"""The first tables in PostgreSQL: those of version 2 of the schema."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = None


def upgrade() -> None:
    """Out of nothing."""
    _releases()
    _audit()
    _requests_and_tokens()
    _gateways()


def downgrade() -> None:
    """To nothing."""
    for table in ("preparations", "gateways", "tokens", "requests", "audit", "revisions", "releases"):
        op.drop_table(table)


def _releases() -> None:
    op.create_table(
        "releases",
        sa.Column("model", sa.String(255), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.create_index("releases_by_sequence", "releases", ["sequence"])
    op.create_table(
        "revisions",
        sa.Column("model", sa.String(255), primary_key=True),
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("verb", sa.Text, nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
    )
    op.create_index("audit_by_model", "audit", ["model", "sequence"])
    op.create_index("audit_by_kind", "audit", ["kind", "sequence"])
    change = sa.text("kind = 'change'")
    op.create_index("audit_changes", "audit", ["model", "revision"], unique=True, postgresql_where=change)


def _requests_and_tokens() -> None:
    op.create_table(
        "requests",
        sa.Column("request_id", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.Column("revoked_ms", sa.BigInteger, nullable=False),
    )


def _gateways() -> None:
    op.create_table(
        "gateways",
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("incarnation", sa.String(64), nullable=False),
        sa.Column("heartbeat", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_ms", sa.BigInteger, nullable=False),
        sa.Column("applied_sequence", sa.BigInteger, nullable=False),
        sa.Column("warm", sa.Text, nullable=False),
        sa.Column("proxies", sa.Text, nullable=False),
    )
    op.create_table(
        "preparations",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("gateway", sa.String(255), primary_key=True),
        sa.Column("wanted", sa.Text, nullable=False),
        sa.Column("asked", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer", sa.Text, nullable=True),
    )
