"""Finding the model and the arm, asking, and checking who answered."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest

from loadtests import client
from loadtests.client import AimError, Asker, TargetUnreachable
from loadtests.settings import Settings
from loadtests.tensors import RowsError
from tests.unit.loadtests.samples import settings
from tests.unit.loadtests.target import Serve


def made(target: str, *, model: str = "digits", version: str = "2", arm: str = "auto") -> Settings:
    return replace(settings(), target=target, model=model, version=version, arm=arm, rows=None)


@contextmanager
def connected(target: str) -> Iterator[grpc.Channel]:
    channels = client.connect(target)
    try:
        yield channels[0]
    finally:
        client.close(channels)


def outcomes(wanted: Settings, count: int = 40) -> Counter[str]:
    with connected(wanted.target) as channel:
        asker = Asker(channel, client.take_aim(channel, wanted), wanted.units, 5)
        return Counter(asker.ask(number) for number in range(count))


def test_the_arm_is_found_by_the_version(serve: Serve) -> None:
    target = serve()
    with connected(target) as channel:
        assert client.take_aim(channel, made(target, version="1")).arm == "stable"
        assert client.take_aim(channel, made(target, version="2")).arm == "canary-2"
        assert client.take_aim(channel, made(target, arm="standby")).arm == "standby"
        assert client.take_aim(channel, made(target, version="")).arm is None
        assert client.take_aim(channel, made(target, arm="any")).arm is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "3"}, "version 3 of 'digits' answers under no arm .stable: version 1; canary-3: FAILED"),
        ({"arm": "stable"}, "the arm 'stable' of 'digits' is version 1, not 2"),
        ({"arm": "canary-7"}, "the arm 'canary-7' of 'digits' does not answer: FAILED_PRECONDITION no arm"),
        ({"model": "nope"}, "does not describe the model 'nope': NOT_FOUND no model 'nope'"),
    ],
)
def test_a_wrong_aim_is_one_line(serve: Serve, changes: dict[str, str], message: str) -> None:
    target = serve()
    with connected(target) as channel, pytest.raises(AimError, match=message):
        client.take_aim(channel, replace(made(target), **changes))  # type: ignore[arg-type] # all are strings


def test_a_server_without_arms_is_told_by_its_version(serve: Serve) -> None:
    target = serve("--no-arms")
    with connected(target) as channel:
        assert client.take_aim(channel, made(target, version="1")).arm is None
        with pytest.raises(AimError, match="no arm that says its name answered"):
            client.take_aim(channel, made(target, version="1", arm="stable"))


def test_rows_must_fit_the_metadata(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = tmp_path_factory.mktemp("rows") / "rows.csv"
    rows.write_text("1,2,3\n")
    target = serve()
    with connected(target) as channel, pytest.raises(RowsError, match="3 columns, but 'x' FP32"):
        client.take_aim(channel, replace(made(target), rows=rows))


def test_nobody_there() -> None:
    with pytest.raises(
        TargetUnreachable, match=r"nothing at 127\.0\.0\.1:1 speaks gRPC in clear; .* TLS, aim at its Unix socket"
    ):
        client.connect("127.0.0.1:1")


def test_right_answers(serve: Serve) -> None:
    assert outcomes(made(serve())) == {"OK": 40}


def test_errors_and_wrong_answers_are_named(serve: Serve) -> None:
    found = outcomes(made(serve("--fail-every", "10", "--lie-every", "7"), arm="canary-2"), 70)
    assert found["RESOURCE_EXHAUSTED"] == 7
    assert found["WRONG_VERSION"] == 9  # the tenth lie was a failure
    assert found["OK"] == 54


def test_an_answer_without_its_arm_is_wrong(serve: Serve) -> None:
    target = serve("--no-arms")
    with connected(target) as channel:
        aim = replace(client.take_aim(channel, made(target, version="1")), arm="stable")
        assert Asker(channel, aim, 10, 5).ask(0) == "WRONG_ARM"


def test_the_deadline(serve: Serve) -> None:
    target = serve("--stall-every", "2", "--stall-ms", "60000")
    with connected(target) as channel:
        aim = client.take_aim(channel, made(target, version="1"))  # the first call; the next one stalls
        assert Asker(channel, aim, 10, 0.2).ask(0) == "DEADLINE_EXCEEDED"
