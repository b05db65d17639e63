"""What is slow: something that ought to make progress and does not, or not enough."""


class Stall:
    """Something that ought to make progress. `waited_s` grows unless `min_bytes_per_s` come, and shrinks if more do."""

    __slots__ = ("_seen_bytes", "waited_s")

    def __init__(self, seen_bytes: int) -> None:
        self.waited_s = 0.0
        self._seen_bytes = seen_bytes

    def look(self, elapsed_s: float, seen_bytes: int, min_bytes_per_s: int) -> float:
        """`waited_s` now that `seen_bytes` have passed in all."""
        made_s = (seen_bytes - self._seen_bytes) / min_bytes_per_s
        self._seen_bytes = seen_bytes
        self.waited_s = max(0.0, self.waited_s + elapsed_s - made_s)
        return self.waited_s
