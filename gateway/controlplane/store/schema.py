"""The tables, the same for every SQL database. Bodies are JSON of `Release`; unknown fields in them are ignored.

A change of this file raises SCHEMA_VERSION and adds the step from the version before to the store that opens it.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

SCHEMA_VERSION = 1

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
)

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
    UniqueConstraint("model", "revision"),
    Index("audit_by_model", "model", "sequence"),
)

requests = Table(
    "requests",
    metadata,
    Column("request_id", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
