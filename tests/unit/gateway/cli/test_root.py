import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from gateway.cli import reading, root
from gateway.cli.failure import Exit
from gateway.errors import StartupError
from tests.unit.gateway.cli.fake import Shell


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, one in getattr(command, "commands", {}).items():
        if getattr(one, "commands", None):
            yield from commands(one, (*path, name))
        else:
            yield (*path, name)


ALL = sorted(commands(typer.main.get_command(root.app)))


def test_all_commands_are_there() -> None:
    assert {" ".join(path) for path in ALL} == {
        *("serve", "health", "config check", "config show", "models", "status", "stats", "assign"),
        *("audit show", "audit verify", "audit export", "token create", "token list", "token revoke"),
        *("shadow set", "shadow remove", "canary set", "canary remove", "standby set", "override set"),
        *("override remove", "override list", "flip", "promote", "rollback", "loadtest"),
        *("versions", "revisions", "watch", "load", "warm", "apply", "get release"),
        *("abort", "pause", "resume", "holdout set", "holdout remove"),
        *("backup", "restore", "register", "gateways list", "gateways fence"),
    }


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_has_examples_that_fit_a_terminal(
    cutover: Shell, path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = cutover.local(*path, "--help")
    assert said.code == 0
    _, _, examples = said.out.partition("Examples:")
    shown = [line.strip() for line in examples.splitlines() if line.strip()]
    assert shown
    assert all(line.startswith(f"cutover {' '.join(path)}") for line in shown)


def test_nothing_and_help_show_the_same(cutover: Shell) -> None:
    bare, asked = cutover.local(), cutover.local("--help")
    assert (bare.code, asked.code, bare.out) == (0, 0, asked.out)
    assert "cutover flip digits" in asked.out


def test_version(cutover: Shell) -> None:
    assert cutover.local("--version").out.startswith("cutover ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("canary",),
        ("canary", "set", "digits"),
        ("flip",),
        ("canary", "set", "digits", "two", "--percent", "10"),
        ("canary", "set", "digits", "0", "--percent", "10"),
        ("status", "--every", "0"),
        ("flip", "digits", "--bogus"),
        ("status", "-o", "yaml"),
        ("serve", "--grpc-port", "70000"),
        ("status", "--admin", "nowhere"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(cutover: Shell, arguments: tuple[str, ...]) -> None:
    said = cutover.local(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("cutover")
    assert said.err.count("\n") == 1


def test_a_start_that_fails_is_a_line_per_mistake(cutover: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StartupError("port 1 is taken\nport 2 is taken")

    monkeypatch.setattr(reading, "look", fail)
    said = cutover("status")
    assert (said.code, said.err) == (2, "cutover: port 1 is taken\ncutover: port 2 is taken\n")


def test_ctrl_c_is_quiet(cutover: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reading, "look", interrupt)
    said = cutover("status")
    assert (said.code, said.out, said.err) == (130, "", "")


def test_ctrl_c_is_quiet_from_the_first_import_on() -> None:
    script = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'gateway.cli.root': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from gateway.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_bug_is_one_line_unless_debugging(cutover: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("oh no")

    monkeypatch.setattr(reading, "look", bug)
    said = cutover("status")
    assert (said.code, said.err) == (1, "cutover: unexpected RuntimeError: oh no (CUTOVER_DEBUG=1 shows where)\n")
    monkeypatch.setenv("CUTOVER_DEBUG", "1")
    with pytest.raises(RuntimeError, match="oh no"):
        cutover("status")


def test_a_reader_that_left_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def fileno(self) -> int:
            return int(stream.fileno())

    with (tmp_path / "stdout").open("w") as stream:
        monkeypatch.setattr(sys, "stdout", Closed())
        assert root.run(["--version"]) == Exit.REFUSED


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom gateway.cli.root import run\nrun(['--help'])\n"
        "heavy = {'grpc', 'numpy', 'onnxruntime', 'locust', 'pydantic', 'sqlalchemy', 'uvicorn', 'uvloop'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
