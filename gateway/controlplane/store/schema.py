"""The tables, the same for every SQL database. Bodies are JSON of `Release` (`canonical`, and its sequence); unknown
fields in them are ignored.

A change of this file raises SCHEMA_VERSION and adds the step from the version before to the store that opens it.
"""

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, MetaData, String, Table, Text

from gateway.controlplane.audit import CHANGE

SCHEMA_VERSION = 2

metadata = MetaData()

schema = Table(
    "schema_version",
    metadata,
    Column("version", Integer, primary_key=True),
)

releases = Table(
    "releases",
    metadata,
    Column("model", String(255), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Index("releases_by_sequence", "sequence"),
)
"""The newest revision of each."""

revisions = Table(
    "revisions",
    metadata,
    Column("model", String(255), primary_key=True),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
"""Every revision that was committed since there is this table."""

audit = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("model", String(255), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Index("audit_by_model", "model", "sequence"),
    Index("audit_by_kind", "kind", "sequence"),
)
_change = audit.c.kind == CHANGE
Index("audit_changes", audit.c.model, audit.c.revision, unique=True, sqlite_where=_change, postgresql_where=_change)

requests = Table(
    "requests",
    metadata,
    Column("request_id", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("hash", String(64), nullable=False),
    Column("roles", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger, nullable=False),
)
"""Who may do what: `hash` is the SHA-256 of the secret, `roles` JSON of the role by model. 0 ms: never."""

gateways = Table(
    "gateways",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("incarnation", String(64), nullable=False),
    Column("heartbeat", DateTime(timezone=True), nullable=False),
    Column("lease_ms", BigInteger, nullable=False),
    Column("applied_sequence", BigInteger, nullable=False),
    Column("warm", Text, nullable=False),
    Column("proxies", Text, nullable=False),
)
"""The gateways on this store, one row each. `heartbeat` is by the database's clock; `warm` and `proxies` are JSON: the
pools that are ready, and who has applied what."""

preparations = Table(
    "preparations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("gateway", String(255), primary_key=True),
    Column("wanted", Text, nullable=False),
    Column("asked", DateTime(timezone=True), nullable=False),
    Column("answer", Text, nullable=True),
)
"""What a change needs ready before it is committed, a row for each gateway asked, which answers in it: empty when all
is ready."""
