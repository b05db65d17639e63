"""Where a URL leads; connections: tests/integration/test_postgres_store.py."""

from pathlib import Path

import pytest

from gateway.controlplane.store.driver import Driver
from gateway.errors import StartupError


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://ada@db.example:5433/cutover?sslmode=require", "postgresql://db.example:5433/cutover"),
        ("postgresql://ada@a:1,b:2/cutover", "postgresql://a:1,b:2/cutover"),
        ("postgres:///cutover?host=/run/postgresql", "postgresql:///cutover"),
    ],
)
def test_nobody_is_told_who_goes_there(url: str, told: str) -> None:
    assert str(Driver(url, None)) == told


def test_the_file_of_the_password_must_be_there(tmp_path: Path) -> None:
    file = tmp_path / "password"
    driver = Driver("postgresql://db/x", file)
    with pytest.raises(StartupError, match=r"cannot be read .*password.*: correct store.password_file"):
        driver.check()
    file.write_text("s3cret\n")
    driver.check()
    assert driver._password() == "s3cret"
    Driver("postgresql://db/x", None).check()
