"""The tables hold what the values have, in every database."""

import pytest
from sqlalchemy import URL
from sqlalchemy.schema import CreateTable

from gateway.controlplane.audit import AuditEvent
from gateway.controlplane.store import Request, schema


def test_columns_are_named_after_the_fields() -> None:
    assert set(schema.audit.columns.keys()) == set(AuditEvent.__struct_fields__)
    assert set(Request._fields) <= set(schema.requests.columns.keys())


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_tables_can_be_made(database: str) -> None:
    dialect = URL.create(database).get_dialect()()
    for table in schema.metadata.sorted_tables:
        assert table.name in str(CreateTable(table).compile(dialect=dialect))
