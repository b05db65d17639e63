"""The demo fails when a flip breaks its promise: the check is checked."""

from pathlib import Path

import numpy as np
import pytest

from loadtests.demo import change, traffic
from loadtests.demo.change import under_traffic
from loadtests.demo.scene import USERS, DemoFailed, Scene
from loadtests.demo.screen import Screen
from loadtests.demo.train import Digits
from tests.unit.loadtests.target import Serve

ALL_ONE = {f"user-{number}": "1" for number in range(USERS)}
ALL_TWO = dict.fromkeys(ALL_ONE, "2")


class StillScene(Scene):
    """Its commands change nothing."""

    def run(self, *arguments: str) -> None:
        pass


def flip(target: str, before: set[str], after: dict[str, str]) -> None:
    scene = StillScene(Path(), Screen())
    scene.digits = Digits(np.zeros((30, 64), np.float32), np.zeros(30, np.int64))
    with traffic.clients(target, "digits", scene.digits) as scene.asking:
        under_traffic(scene, "flip", before, after)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "AROUND", 40)


def test_a_promise_kept(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    flip(serve(), {"1"}, ALL_ONE)
    assert "sent after it had returned were answered by version 1" in " ".join(capsys.readouterr().out.split())


def test_a_flip_that_does_not_happen(serve: Serve) -> None:
    with pytest.raises(DemoFailed, match="requests sent after the flip had returned met another version"):
        flip(serve(), {"1"}, ALL_TWO)


def test_a_request_that_fails(serve: Serve) -> None:
    with pytest.raises(DemoFailed, match=r"requests failed during the flip, such as \['RESOURCE_EXHAUSTED'\]"):
        flip(serve("--fail-every", "9"), {"1"}, ALL_ONE)


def test_a_version_that_should_not_have_answered_yet(serve: Serve) -> None:
    with pytest.raises(DemoFailed, match=r"before the flip, versions \['1'\] answered"):
        flip(serve(), {"2"}, ALL_ONE)
