"""Releases from files and into files, against the fake; against a gateway: tests/integration/test_declaring.py."""

import io
from pathlib import Path

import grpc
import pytest
import typer

from gateway.cli import declaring
from gateway.cli.failure import Exit
from protos import admin_pb2 as pb
from tests.unit.gateway.cli.fake import Shell, release

WANTED = 'model = "digits"\nstable = 1\n\n[[canaries]]\nversion = 2\npercent = 12.5\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "digits.toml"
    path.write_text(WANTED)
    return path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Somebody at a terminal; what they answer is taken from the list."""
    answers: list[bool] = []
    stdin = io.StringIO()
    stdin.isatty = lambda: True  # type: ignore[method-assign] # as a terminal says
    monkeypatch.setattr("sys.stdin", stdin)
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: answers.pop())
    return answers


def test_the_whole_release_is_declared_on_the_state_that_was_compared(cutover: Shell, file: Path) -> None:
    said = cutover("apply", "-f", str(file), "--yes", "--reason", "first users", "--request-id", "id-1")
    assert said.out.startswith("digits:\n  + canary 2: 12.5 %\ndigits: revision 7, applied by every proxy in ")
    (request,) = cutover.admin.requests
    policy = pb.Policy(stable_version=1, canaries=[pb.Canary(version=2, basis_points=1_250)])
    assert request == pb.UpdateReleaseRequest(
        release=pb.Release(name="models/digits/release", policy=policy),
        etag='"6-abcdef01"',
        request_id="id-1",
        reason="first users",
        update_mask={"paths": ["policy"]},
    )


def test_what_is_so_already_is_not_asked_for(cutover: Shell, file: Path) -> None:
    file.write_text('model = "digits"\nstable = 1\n')
    for options in ((), ("--dry-run",), ("--yes",)):
        said = cutover("apply", "-f", str(file), *options)
        assert (said.code, said.out) == (0, "digits: nothing to do, revision 6\n")
    assert cutover.admin.requests == []


def test_a_dry_run_asks_whether_it_may_be_and_says_what_differs(cutover: Shell, file: Path) -> None:
    said = cutover("apply", "-f", str(file), "--dry-run")
    assert (said.code, said.out, said.err) == (Exit.DIFFERS, "digits:\n  + canary 2: 12.5 %\n", "")
    assert [request.validate_only for request in cutover.admin.requests] == [True]
    found = cutover("apply", "-f", str(file), "--dry-run", "-o", "json").json
    assert (found["revision"], found["difference"]) == (7, ["+ canary 2: 12.5 %"])
    assert cutover.admin.releases["digits"].revision == 6
    cutover.admin.error = (grpc.StatusCode.FAILED_PRECONDITION, "digits is paused")
    refused = cutover("apply", "-f", str(file), "--dry-run")
    assert (refused.code, refused.err) == (Exit.REFUSED, "cutover: digits is paused\n")


def test_somebody_is_asked_below_the_difference(cutover: Shell, file: Path, terminal: list[bool]) -> None:
    terminal[:] = [True, False]
    said = cutover("apply", "-f", str(file))
    assert (said.code, said.err) == (1, "digits:\n  + canary 2: 12.5 %\ncutover: nothing was changed\n")
    assert cutover.admin.requests == []
    said = cutover("apply", "-f", str(file))
    assert said.out.startswith("digits: revision 7, applied")
    assert len(cutover.admin.requests) == 1


def test_without_somebody_to_ask_nothing_is_changed(
    cutover: Shell, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(WANTED))
    for name in (str(file), "-"):
        said = cutover("apply", "-f", name)
        assert (said.code, said.err) == (
            Exit.USAGE,
            "cutover: nobody is there to be asked: say --yes to apply, or --dry-run to look\n",
        )
    assert cutover.admin.requests == []


def test_a_release_comes_from_stdin(cutover: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(WANTED))
    assert cutover("apply", "-f", "-", "--yes", "-o", "json").json["difference"] == ["+ canary 2: 12.5 %"]


def test_overrides_travel_only_where_they_change(cutover: Shell, file: Path) -> None:
    cutover.admin.overrides = {f"user-{number}": "stable" for number in range(7)}
    cutover.admin.releases["digits"].policy.override_count = 7
    overrides = "".join(f'user-{number} = "stable"\n' for number in range(7))
    file.write_text(f"{WANTED}[overrides]\n{overrides}")
    cutover("apply", "-f", str(file), "--yes")
    assert not cutover.admin.requests[-1].HasField("override_list")
    file.write_text(WANTED)
    said = cutover("apply", "-f", str(file), "--yes")
    assert "- override user-0: stable" in said.out
    assert cutover.admin.requests[-1].HasField("override_list")
    assert cutover.admin.overrides == {}


def test_overrides_to_an_arm_that_ends_are_declared_and_not_lost(cutover: Shell, file: Path) -> None:
    digits, overrides = cutover.admin.releases["digits"].policy, '[overrides]\nann = "canary-2"\n'
    digits.canaries.add(version=2, basis_points=1, ranges=[pb.BucketRange(start=0, end=1)])
    digits.override_count, cutover.admin.overrides = 1, {"ann": "canary-2"}
    file.write_text(f'model = "digits"\nstable = 1\n{overrides}')
    cutover("apply", "-f", str(file), "--yes")
    assert cutover.admin.requests[-1].override_list.overrides == {"ann": "canary-2"}, "the gateway is to refuse it"


def test_more_than_a_request_may_hold_is_told_before_it_is_sent(cutover: Shell, file: Path) -> None:
    overrides = "".join(f'{"u" * 200}-{number} = "stable"\n' for number in range(6_000))
    file.write_text(f"{WANTED}[overrides]\n{overrides}")
    said = cutover("apply", "-f", str(file), "--yes")
    assert (said.code, cutover.admin.requests) == (Exit.USAGE, [])
    assert "too much for one change; keep the overrides with `cutover override`" in said.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'model = "digits"\n', "stable: is missing"),
        (b"stable 1", "not valid TOML: Expected '=' after a key in a key/value pair (at line 1, column 8)"),
        (b"\xff", "is not UTF-8"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_none_is_told_with_its_name(cutover: Shell, file: Path, text: bytes | None, said: str) -> None:
    file.unlink() if text is None else file.write_bytes(text)
    result = cutover("apply", "-f", str(file))
    assert (result.code, result.err.count("\n")) == (Exit.USAGE, 1)
    assert str(file) in result.err
    assert said in result.err


def test_a_release_is_shown_in_every_notation(cutover: Shell) -> None:
    held = pb.Holdout(version=1, basis_points=50, ranges=[pb.BucketRange(start=0, end=50)], salt="digits/holdout/1")
    cutover.admin.releases["digits"] = release("digits", 6, stable=1, holdout=held, override_count=1)
    cutover.admin.releases["digits"].paused = True
    cutover.admin.overrides = {"ann": "stable"}
    assert cutover("get", "release", "digits").out == (
        "digits: revision 6, paused\n  stable: 1\n  holdout of 1: 0.5 %\n  override ann: stable\n"
    )
    assert cutover("get", "release", "digits", "-o", "toml").out == (
        'model = "digits"\nstable = 1\n\n[holdout]\nversion = 1\npercent = 0.5\n\n[overrides]\nann = "stable"\n'
    )
    found = cutover("get", "release", "digits", "-o", "json").json
    assert (found["revision"], found["overrides"]) == (6, {"ann": "stable"})
    assert cutover("get", "release", "nothing").code == Exit.REFUSED


def test_a_release_that_changes_while_it_is_read_is_read_again(cutover: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    cutover.admin.overrides = {"ann": "stable"}
    cutover.admin.releases["digits"].policy.override_count = 1
    reads: list[str] = []

    def restless(name: str, _: grpc.ServicerContext) -> pb.Release:
        reads.append(name)
        return release("digits", min(len(reads), changes), stable=1, override_count=1)

    monkeypatch.setattr(cutover.admin, "_find", restless)
    changes = 4
    assert "revision 4" in cutover("get", "release", "digits").out
    reads.clear()
    changes = 1_000
    said = cutover("get", "release", "digits")
    assert (said.code, said.err) == (1, "cutover: the release of digits changes all the time: try again\n")
    assert len(reads) <= 2 * declaring.TRIES + 1


def test_toml_is_only_for_releases(cutover: Shell) -> None:
    assert cutover("status", "-o", "toml").code == Exit.USAGE
