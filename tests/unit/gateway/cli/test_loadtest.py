import importlib.util
import sys
from pathlib import Path

import pytest

from gateway.cli import loadtest
from gateway.cli.failure import Exit, Failure
from protos import admin_pb2 as pb
from tests.unit.gateway.cli.fake import Shell


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, cutover: Shell) -> list[list[str]]:
    """Load tests that were started; each one misses its SLO."""
    seen: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        seen.append(arguments)
        return 4

    policy = cutover.admin.releases["digits"].policy
    policy.canaries.add(version=2, ranges=[pb.BucketRange(start=0, end=5)])
    policy.shadows.add(version=3, rate=1)
    policy.standby_version = 4
    monkeypatch.setattr(loadtest, "run_load", run)
    return seen


@pytest.mark.parametrize(("version", "arm"), [("1", "stable"), ("2", "canary-2"), ("4", "standby")])
def test_aims_at_the_arm_of_the_version(cutover: Shell, ran: list[list[str]], version: str, arm: str) -> None:
    assert cutover("loadtest", "digits", "--version", version).code == Exit.VERDICT_FAILED
    expected = f"-m loadtests digits --version {version} --arm {arm} --suite steady --target 127.0.0.1:8001"
    assert ran == [[sys.executable, *expected.split()]]


def test_a_unix_socket_can_be_the_target(cutover: Shell, ran: list[list[str]]) -> None:
    cutover("loadtest", "digits", "--version", "1", "--target", "unix:/run/cutover.sock")
    assert ran[0][-2:] == ["--target", "unix:/run/cutover.sock"]


def test_hands_everything_on(cutover: Shell, ran: list[list[str]], tmp_path: Path) -> None:
    slo, rows = tmp_path / "slo.toml", tmp_path / "rows.npz"
    slo.touch()
    rows.touch()
    given = f"--slo {slo} --rows {rows} --duration 30s --rate 200 --users 8 --report {tmp_path / 'out'}"
    options = ["--version", "2", "--suite", "spike", "--target", "gw:9", *given.split(), "-o", "json"]
    cutover.local("loadtest", "digits", *options, "--admin", cutover.admin.address, "--", "--seed", "7")
    ((*_, seed, seven),) = ran
    assert (seed, seven) == ("--seed", "7")
    assert f"--suite spike --target gw:9 {given} -o json --seed 7" in " ".join(ran[0])


@pytest.mark.parametrize("version", ["3", "9"])
def test_a_version_that_answers_nobody_cannot_be_tested(cutover: Shell, ran: list[list[str]], version: str) -> None:
    said = cutover("loadtest", "digits", "--version", version)
    assert (said.code, ran) == (2, [])
    assert f"cutover standby set digits {version}" in said.err


@pytest.mark.parametrize(
    "options", [("--suite", "flood"), ("--slo", "/nowhere.toml"), ("--target", "nowhere"), ("--rows", "/nowhere.npz")]
)
def test_wrong_options_are_found_before_anything_starts(
    cutover: Shell, ran: list[list[str]], options: tuple[str, str]
) -> None:
    said = cutover("loadtest", "digits", "--version", "2", *options)
    assert (said.code, ran, said.err.count("\n")) == (2, [], 1)


def test_without_locust_it_says_what_to_install(
    cutover: Shell, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    said = cutover("loadtest", "digits", "--version", "2")
    assert (said.code, "cutover[load]" in said.err) == (2, True)


@pytest.mark.parametrize("code", [0, 2, 3, 4])
def test_the_exit_code_is_the_load_tests(code: int) -> None:
    assert loadtest.run_load([sys.executable, "-c", f"raise SystemExit({code})"]) == code


def test_a_load_test_that_is_killed_is_an_error() -> None:
    with pytest.raises(Failure, match="ended by SIGKILL"):
        loadtest.run_load([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])


def test_sigterm_ends_the_load_test_too() -> None:
    child = "import os, signal; os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
    with pytest.raises(Failure, match="ended by SIGTERM"):
        loadtest.run_load([sys.executable, "-c", child])


def test_ctrl_c_waits_for_the_load_test_to_end() -> None:
    child = "import os, signal; os.kill(os.getppid(), signal.SIGINT)"
    assert loadtest.run_load([sys.executable, "-c", child]) in (0, Exit.INTERRUPTED)
