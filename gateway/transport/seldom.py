"""Says what happens often only now and then: a flood of failures must not become a flood of log lines. Pure."""

from typing import Final

EVERY_S: Final = 60.0


class Seldom:
    """Lines of a few kinds, each kind at most once in `every_s`."""

    __slots__ = ("_every_s", "_kinds")

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._kinds: dict[str, tuple[float, int]] = {}
        """When a kind was said last, and how often it has been swallowed since."""

    def line(self, kind: str, text: str, now_s: float) -> str | None:
        """What to say: the text, with the number of lines swallowed since the last one; None: nothing."""
        said_s, swallowed = self._kinds.get(kind, (-self._every_s, 0))
        if now_s - said_s < self._every_s:
            self._kinds[kind] = (said_s, swallowed + 1)
            return None
        self._kinds[kind] = (now_s, 0)
        return f"{text} (and {swallowed} more like this before)" if swallowed else text
