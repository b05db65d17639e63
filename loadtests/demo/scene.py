"""What the steps of the demo share: the gateway, clients with real rows, commands, and how a step fails."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtests.demo.gateway import Gateway
from loadtests.demo.screen import Screen
from loadtests.demo.traffic import Answer, Client, ask_all
from loadtests.demo.train import Digits, Trained

MODEL = "digits"
USERS = 500


class DemoFailed(Exception):
    """A step did not hold; one line."""


class Scene:
    """Gateway, clients and data are set by the first steps."""

    def __init__(self, folder: Path, screen: Screen) -> None:
        self.folder = folder
        self.models = folder / "models"
        self.screen = screen
        self.gateway: Gateway
        self.asking: list[Client] = []
        self.trained: tuple[Trained, Trained]
        self.digits: Digits

    def ask_everything(self) -> list[Answer]:
        """Every unseen digit once."""
        return self.checked(ask_all(self.asking, self.questions()))

    def ask_users(self) -> list[Answer]:
        """Every user once."""
        return self.checked(ask_all(self.asking, self.questions()[:USERS]))

    def questions(self) -> list[tuple[str, int]]:
        """(user, row) pairs."""
        return [(f"user-{row % USERS}", row) for row in range(len(self.digits.labels))]

    def checked(self, answers: list[Answer]) -> list[Answer]:
        """The answers, if all are."""
        failed = Counter(answer.error for answer in answers if answer.error)
        self.expect(not failed, f"requests failed: {dict(failed)}")
        return answers

    def right(self, answers: Sequence[Answer]) -> float:
        """The part of the answers that names the right digit."""
        return sum(bool(answer.label == self.digits.labels[answer.row]) for answer in answers) / len(answers)

    def run(self, *arguments: str) -> None:
        """Runs a command and shows it and what it says."""
        self.screen.command("cutover", *arguments)
        self.screen.output(self.gateway.run(*arguments))

    def wait_until(self, reached: Callable[[], bool], limit_s: float, what: str) -> None:
        """Polls. Raises DemoFailed after the limit."""
        deadline_s = time.monotonic() + limit_s
        while not reached():
            self.expect(time.monotonic() < deadline_s, f"{what} took longer than {limit_s:.0f} s")
            time.sleep(0.2)

    def expect(self, held: bool, otherwise: str) -> None:
        """Raises DemoFailed unless it held."""
        if not held:
            raise DemoFailed(otherwise)


def versions(answers: Sequence[Answer]) -> set[str]:
    """The versions that answered."""
    return {answer.version for answer in answers}


def count(answers: Sequence[Answer]) -> str:
    """How many answers came from each version, in words."""
    return ", ".join(f"version {version}: {n}" for version, n in Counter(a.version for a in answers).items())
