import subprocess
import sys


def test_help_has_examples() -> None:
    command = [sys.executable, "-m", "loadtests.overload", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "examples:" in done.stdout
