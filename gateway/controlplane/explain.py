"""Mistakes in files of settings, in words. Pure."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.controlplane.units import written_duration, written_size

_SAID: Final = {
    "missing": "is missing",
    "string_too_short": "must not be empty",
    "model_type": "must be a table",
    "dict_type": "must be a table",
}


def explain(problem: ErrorDetails, where: type[BaseModel]) -> str:
    """One mistake in a section of this class, without its place."""
    context = problem.get("ctx", {})
    if said := _SAID.get(problem["type"]):
        return said
    match problem["type"]:
        case "extra_forbidden":
            return unknown(str(problem["loc"][-1]), where)
        case "greater_than_equal":
            return f"must be at least {_bound(context['ge'], problem['input'])}, not {problem['input']!r}"
        case "greater_than":
            return f"must be more than {_bound(context['gt'], problem['input'])}"
        case "less_than_equal":
            return f"must be at most {_bound(context['le'], problem['input'])}, not {problem['input']!r}"
        case "int_type":
            return f"must be a whole number, not {problem['input']!r}"
        case "string_type":
            return f"must be text in quotes, not {problem['input']!r}"
        case "bool_type":
            return f"must be true or false, not {problem['input']!r}"
        case "list_type":
            return f"must be a list such as {_list_of(str(problem['loc'][-1]), where)}, not {problem['input']!r}"
        case "literal_error":
            return f"must be {context['expected']}, not {problem['input']!r}"
        case "value_error":
            return str(context["error"]) + ("" if isinstance(problem["input"], dict) else f", not {problem['input']!r}")
    return problem["msg"]


def unknown(key: str, where: type[BaseModel]) -> str:
    """What is said of a key that the section has not."""
    elsewhere: Mapping[str, str] = getattr(where, "ELSEWHERE", {})
    if key in elsewhere:
        return f"belongs {elsewhere[key]}"
    known = list(where.model_fields)
    close = get_close_matches(key, known, 1)
    return "unknown setting" + (f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}")


def _bound(bound: float, given: object) -> str:
    """A bound in the notation of what was given: numbers in quotes have a unit, those of sizes end in B."""
    if not isinstance(given, str):
        return str(bound)
    return written_size(int(bound)) if given.rstrip().endswith("B") else written_duration(bound)


def _list_of(key: str, where: type[BaseModel]) -> str:
    """A list of what this one holds."""
    kind = where.model_fields[key].annotation
    return '["a", "b"]' if list[str] in (kind, *get_args(kind)) else "[4, 8]"
