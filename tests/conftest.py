"""One way to run property tests: the same examples each time, so that a change fails for what it changed.

`make explore` draws new ones each time, and keeps those that fail. One way to run what concerns the data port: on
each transport. And one PostgreSQL for all who need a database.
"""

import os
from collections.abc import Iterator

# Servers of PostgreSQL are started by fork, and what gRPC does there in the child can end it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import Server

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile(
    "explore", derandomize=False, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

TRANSPORTS = ("h2", "grpcio")


@pytest.fixture(scope="session", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """What `[server] transport` says. Whoever uses it runs on each; what differs is in tests/conformance/README.md."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def each_transport(transport: str) -> Iterator[str]:
    """Gateways that tests of a module start use it, unless told otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUTOVER_SERVER_TRANSPORT", transport)
        yield transport


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The server of all databases, started when the first is asked for. Who stops or kills one uses `own_postgres`."""
    with Server() as server:
        yield server


@pytest.fixture
def database(postgres: Server) -> Iterator[str]:
    """URL of an empty database of PostgreSQL, the test's own."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def own_postgres() -> Iterator[Server]:
    """A server that the test may stop, kill and start."""
    with Server() as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked `slow_on("grpcio")` is slow on that transport only."""
    for item in items:
        for mark in item.iter_markers("slow_on"):
            callspec = getattr(item, "callspec", None)
            if callspec is not None and callspec.params.get("transport") in mark.args:
                item.add_marker(pytest.mark.slow)
