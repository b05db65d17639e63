"""A database for many tests: making one for each takes longer than most of them."""

from collections.abc import Iterator

import pytest

from gateway.controlplane.store import schema
from tests.postgres import Server

TABLES = ", ".join(table.name for table in schema.metadata.sorted_tables if table is not schema.schema)


@pytest.fixture(scope="module")
def database_of_the_module(postgres: Server) -> Iterator[str]:
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def emptied(postgres: Server, database_of_the_module: str) -> Iterator[str]:
    """URL of a database with nothing in its tables, once they are made; that of the other tests of the module."""
    yield database_of_the_module
    postgres.psql(f"TRUNCATE {TABLES}", database_of_the_module.rpartition("/")[2])
