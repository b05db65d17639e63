from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.controlplane import restarts
from tests.children.world import Book


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short enough for sockets, unlike pytest's own."""
    with TemporaryDirectory(prefix="cutover-test-") as path:
        yield Path(path)


@pytest.fixture
def book() -> Iterator[Book]:
    """Notes the children of a test, which must leave none."""
    book = Book()
    yield book
    assert book.alive == {}


@pytest.fixture
def _quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crash loops within milliseconds."""
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.001)
