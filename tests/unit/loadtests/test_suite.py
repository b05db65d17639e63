"""Options as Locust reads them: command line, environment, its own --run-time."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import loadtests

STEADY = Path(loadtests.__file__).with_name("steady.py")

SCRIPT = """
import json, os, sys
from types import SimpleNamespace
os.environ["CUTOVER_LOAD_RATE"] = "7"
import locust
from locust.argument_parser import parse_options
from loadtests import steady
from loadtests.suite import Suite

results = []
for arguments in (["--model=m"], ["--model=m", "-t", "10", "--warmup=4s"], ["--model=m", "--duration=3s"]):
    options = parse_options(["-f", "steady.py", *arguments])
    suite = Suite("steady")
    suite.options = options
    suite.environment = SimpleNamespace(host="http://h:1", runner=SimpleNamespace(target_user_count=0))
    suite.fix_duration()
    settings = suite.settings()
    results.append([settings.duration_s, settings.rate, settings.users, settings.target, options.run_time])
print(json.dumps(results))
"""


def test_options(in_locust: Callable[[str], str]) -> None:
    assert json.loads(in_locust(SCRIPT).splitlines()[-1]) == [
        [30, 7, 20, "h:1", 67],
        [6, 7, 20, "h:1", 45],
        [3, 7, 20, "h:1", 40],
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "cutover loadtest: name the model: --model NAME or the environment variable CUTOVER_LOAD_MODEL"),
        (("--model=m", "--slo=/no/slo.toml"), 2, "cutover loadtest: cannot read the SLO file /no/slo.toml"),
        (("--model=m", "--host=127.0.0.1:1"), 3, "cutover loadtest: nothing at 127.0.0.1:1 speaks gRPC"),
    ],
)
def test_plain_locust_says_what_is_wrong(arguments: tuple[str, ...], code: int, message: str) -> None:
    command = [sys.executable, "-m", "locust", "-f", str(STEADY), "--headless", "--only-summary", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
