from collections.abc import Iterator

import pytest

from tests.unit.gateway.cli.fake import FakeAdmin, Shell, serve


@pytest.fixture
def admin() -> Iterator[FakeAdmin]:
    yield from serve(FakeAdmin())


@pytest.fixture
def cutover(admin: FakeAdmin, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(admin, capsys)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "CUTOVER_ADMIN",
        "CUTOVER_TOKEN",
        "CUTOVER_TOKEN_FILE",
        "CUTOVER_HTTP",
        "CUTOVER_TARGET",
        "CUTOVER_DEBUG",
    ):
        monkeypatch.delenv(f"CUTOVER_{name}", raising=False)
