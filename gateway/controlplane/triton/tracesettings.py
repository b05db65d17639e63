"""What is traced: Triton's trace settings, for all models and for single ones. Pure.

A setting that a model does not have itself is the global one; a global one that is not set has its default.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.errors import InvalidRequest
from gateway.routing.link import Tracing

GLOBAL: Final = ""
"""In place of a model: for all that have no setting of their own."""
MODE: Final = "triton"
OFF: Final = "OFF"
TIMESTAMPS: Final = "TIMESTAMPS"
DEFAULTS: Final = {"trace_level": OFF, "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0"}
FIXED: Final = ("trace_file", "trace_mode")
MAX_NUMBER: Final = 2**31 - 1

Values = Mapping[str, Sequence[str]]
"""By setting; none of a setting: it is cleared."""


class TraceSettings:
    """The settings, and how many traces `trace_count` has left."""

    def __init__(self, file: str) -> None:
        """`file` is what reading says of where traces go."""
        self._file = file
        self._set: dict[str, dict[str, str]] = {GLOBAL: {}}
        self._taken: dict[str, int] = {}

    def update(self, model: str, values: Values) -> None:
        """Takes new values, or none when one of them is wrong (InvalidRequest)."""
        checked = {name: _checked(model, name, given) for name, given in values.items()}
        known = dict(self._set.get(model, {}))
        for name, value in checked.items():
            if value is None:
                known.pop(name, None)
            else:
                known[name] = value
        if known or model == GLOBAL:
            self._set[model] = known
        else:
            self._set.pop(model, None)
        if "trace_count" in checked:
            self._taken[model] = 0

    def read(self, model: str) -> dict[str, str]:
        """All settings as they hold for a model; `trace_count` is what is left."""
        found = {name: self._value(model, name) for name in DEFAULTS}
        left = self._left(model)
        found["trace_count"] = str(-1 if left is None else left)
        return {**found, "trace_file": self._file, "trace_mode": MODE}

    def take(self, model: str) -> bool:
        """Whether one more trace of the model is wanted; it then counts."""
        if not self._rate(model):
            return False
        scope = self._scope(model)
        self._taken[scope] = self._taken.get(scope, 0) + 1
        return True

    @property
    def log_frequency(self) -> int:
        """How many traces go into one file; 0: all."""
        return int(self._value(GLOBAL, "log_frequency"))

    def tracing(self) -> Tracing:
        """What proxies are told."""
        return Tracing(self._rate(GLOBAL), {model: self._rate(model) for model in self._set if model != GLOBAL})

    def _rate(self, model: str) -> int:
        if self._value(model, "trace_level") == OFF or self._left(model) == 0:
            return 0
        return int(self._value(model, "trace_rate"))

    def _value(self, model: str, name: str) -> str:
        own = self._set.get(model, {})
        return own.get(name) or self._set[GLOBAL].get(name) or DEFAULTS[name]

    def _scope(self, model: str) -> str:
        """Whose `trace_count` the traces of a model use up."""
        return model if "trace_count" in self._set.get(model, {}) else GLOBAL

    def _left(self, model: str) -> int | None:
        """How many traces are still wanted; None: without end."""
        count = int(self._value(model, "trace_count"))
        return None if count < 0 else max(count - self._taken.get(self._scope(model), 0), 0)


def _checked(model: str, name: str, given: Sequence[str]) -> str | None:
    """The value as it is kept; None: cleared. Raises InvalidRequest."""
    if name in FIXED:
        raise InvalidRequest(f"{name} cannot be changed by clients; it is for who starts the gateway")
    if name not in DEFAULTS:
        raise InvalidRequest(f"trace setting '{name}' is unknown; there are {', '.join(DEFAULTS)}")
    if name == "log_frequency" and model != GLOBAL:
        raise InvalidRequest("log_frequency is for all models together: they share the file")
    if not given:
        return None
    if name == "trace_level":
        return _level(given)
    if len(given) > 1:
        raise InvalidRequest(f"{name} takes one value, not {len(given)}")
    lowest = {"trace_rate": 1, "trace_count": -1}.get(name, 0)
    return str(_number(name, given[0], lowest))


def _level(given: Sequence[str]) -> str:
    for level in given:
        if level not in (OFF, TIMESTAMPS):
            raise InvalidRequest(f"trace_level '{level}' is not there; there are OFF and TIMESTAMPS, never tensors")
    if len(set(given)) > 1:
        raise InvalidRequest("trace_level is OFF or TIMESTAMPS, not both")
    return given[0]


def _number(name: str, text: str, lowest: int) -> int:
    try:
        number = int(text) if text.isascii() and len(text) < 20 else None
    except ValueError:
        number = None
    if number is None or not lowest <= number <= MAX_NUMBER:
        raise InvalidRequest(f"{name} must be a whole number from {lowest} to {MAX_NUMBER}, not '{text[:40]}'")
    return number
