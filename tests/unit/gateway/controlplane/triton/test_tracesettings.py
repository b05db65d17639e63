import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane.triton.tracesettings import DEFAULTS, GLOBAL, TraceSettings
from gateway.errors import InvalidRequest
from gateway.routing.link import Tracing

ON = {"trace_level": ["TIMESTAMPS"]}


def test_nothing_is_traced_at_first() -> None:
    settings = TraceSettings("/t.json")
    assert settings.read("m") == {**DEFAULTS, "trace_file": "/t.json", "trace_mode": "triton"}
    assert settings.tracing() == Tracing()
    assert not settings.take("m")


def test_models_have_what_they_set_and_else_what_is_global() -> None:
    settings = TraceSettings("")
    settings.update("m", {"trace_rate": ["7"]})
    assert settings.tracing() == Tracing(0, {"m": 0})
    settings.update(GLOBAL, {**ON, "trace_rate": ["3"]})
    assert settings.tracing() == Tracing(3, {"m": 7})
    assert [settings.read(model)["trace_rate"] for model in ("m", "other", GLOBAL)] == ["7", "3", "3"]
    settings.update("m", {"trace_level": ["OFF"]})
    assert settings.tracing() == Tracing(3, {"m": 0})


def test_what_is_cleared_falls_back() -> None:
    settings = TraceSettings("")
    settings.update(GLOBAL, {**ON, "trace_rate": ["3"]})
    settings.update("m", {"trace_rate": ["7"], "trace_level": ["OFF"]})
    settings.update("m", {"trace_rate": [], "trace_level": []})
    assert settings.tracing() == Tracing(3)
    settings.update(GLOBAL, {name: [] for name in DEFAULTS})
    assert settings.read(GLOBAL) == TraceSettings("").read(GLOBAL)


def test_tracing_ends_when_so_many_are_there() -> None:
    settings = TraceSettings("")
    settings.update(GLOBAL, {**ON, "trace_rate": ["1"], "trace_count": ["2"]})
    settings.update("m", {"trace_count": ["1"]})
    assert settings.take("m")
    assert not settings.take("m")
    assert settings.tracing() == Tracing(1, {"m": 0})
    assert [settings.take("other") for _ in range(3)] == [True, True, False]
    assert settings.tracing() == Tracing(0, {"m": 0})
    assert [settings.read(model)["trace_count"] for model in ("m", "other")] == ["0", "0"]
    settings.update(GLOBAL, {"trace_count": ["1"]})
    assert settings.read("other")["trace_count"] == "1"
    settings.update("m", {"trace_count": ["-1"]})
    assert settings.tracing() == Tracing(1, {"m": 1})


@pytest.mark.parametrize(
    ("model", "values", "text"),
    [
        ("", {"trace_file": ["/etc/passwd"]}, "trace_file cannot be changed"),
        ("", {"trace_mode": ["opentelemetry"]}, "trace_mode cannot be changed"),
        ("", {"trace_pace": ["1"]}, "'trace_pace' is unknown"),
        ("", {"trace_level": ["TENSORS"]}, "never tensors"),
        ("", {"trace_level": ["TIMESTAMPS", "TENSORS"]}, "never tensors"),
        ("", {"trace_level": ["OFF", "TIMESTAMPS"]}, "not both"),
        ("", {"trace_rate": ["0"]}, "from 1 to"),
        ("", {"trace_rate": ["often"]}, "whole number"),
        ("", {"trace_rate": ["9" * 5000]}, "whole number"),
        ("", {"trace_rate": ["1", "2"]}, "one value, not 2"),
        ("", {"trace_count": ["-2"]}, "from -1 to"),
        ("", {"log_frequency": ["-1"]}, "from 0 to"),
        ("m", {"log_frequency": ["5"]}, "for all models together"),
    ],
)
def test_one_wrong_value_changes_nothing(model: str, values: dict[str, list[str]], text: str) -> None:
    settings = TraceSettings("")
    with pytest.raises(InvalidRequest, match=text):
        settings.update(model, {**ON, **values})
    assert settings.tracing() == Tracing()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([GLOBAL, "a", "b"]),
            st.fixed_dictionaries(
                {},
                optional={
                    "trace_level": st.sampled_from([[], ["OFF"], ["TIMESTAMPS"]]),
                    "trace_rate": st.sampled_from([[], ["1"], ["50"]]),
                    "trace_count": st.sampled_from([[], ["-1"], ["0"], ["3"]]),
                },
            ),
        ),
        max_size=8,
    )
)
def test_proxies_trace_exactly_what_is_wanted(updates: list[tuple[str, dict[str, list[str]]]]) -> None:
    settings = TraceSettings("")
    for model, values in updates:
        settings.update(model, values)
    told = settings.tracing()
    for model in ("a", "b", "c"):
        said = settings.read(model)
        on = said["trace_level"] == "TIMESTAMPS" and said["trace_count"] != "0"
        assert told.models.get(model, told.rate) == (int(said["trace_rate"]) if on else 0)
        assert settings.take(model) == on
