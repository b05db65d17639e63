"""A step that does not hold ends the demo with a line."""

from pathlib import Path

import numpy as np
import pytest

from loadtests.demo.scene import USERS, DemoFailed, Scene, count, versions
from loadtests.demo.screen import Screen
from loadtests.demo.traffic import Answer
from loadtests.demo.train import Digits


def answer(version: str = "1", *, row: int = 0, label: int = 0, error: str = "") -> Answer:
    return Answer("user-0", row, 0.0, 1.0, version=version, label=label, error=error)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path, Screen())
    made.digits = Digits(np.zeros((USERS + 5, 64), np.float32), np.arange(USERS + 5))
    return made


def test_questions_go_round_the_users(scene: Scene) -> None:
    questions = scene.questions()
    assert len(questions) == USERS + 5
    assert questions[USERS] == ("user-0", USERS)


def test_failed_requests_end_the_demo(scene: Scene) -> None:
    assert scene.checked([answer()]) == [answer()]
    with pytest.raises(DemoFailed, match=r"requests failed: .'UNAVAILABLE': 2."):
        scene.checked([answer(), answer(error="UNAVAILABLE"), answer(error="UNAVAILABLE")])


def test_accuracy_is_that_of_the_answers(scene: Scene) -> None:
    assert scene.right([answer(row=3, label=3), answer(row=4, label=0)]) == 0.5


def test_waiting_has_an_end(scene: Scene) -> None:
    scene.wait_until(lambda: True, 0, "nothing")
    with pytest.raises(DemoFailed, match="the impossible took longer than 0 s"):
        scene.wait_until(lambda: False, 0, "the impossible")


def test_answers_in_words() -> None:
    answers = [answer("1"), answer("2"), answer("1")]
    assert versions(answers) == {"1", "2"}
    assert count(answers) == "version 1: 2, version 2: 1"
