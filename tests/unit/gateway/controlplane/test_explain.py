from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.schema import Limits
from gateway.controlplane.explain import explain, unknown
from gateway.controlplane.written import Model, Section, VersionFile


@pytest.mark.parametrize(
    ("kind", "written", "said"),
    [
        (Model, {"max_memory": "1MiB"}, "must be at least 64MiB, not '1MiB'"),
        (Limits, {"max_message": "1B"}, "must be at least 1KiB, not '1B'"),
        (Limits, {"max_header_bytes": "1MiB"}, "must be at most 256KiB, not '1MiB'"),
        (Limits, {"header_timeout": "0s"}, "must be more than 0s"),
        (Model, {"max_queue_delay": "2m"}, "must be at most 1m, not '2m'"),
        (Model, {"instances": 0}, "must be at least 1, not 0"),
        (Model, {"preferred_batch_sizes": 4}, "must be a list such as [4, 8], not 4"),
        (Model, {"preferred_batch_sizes": ["4"]}, "must be a whole number, not '4'"),
        (Model, {"unit_metadata": 4}, 'must be a list such as ["a", "b"], not 4'),
        (VersionFile, {"labels": 4}, "must be a table"),
        (VersionFile, {"instancez": 4}, "unknown setting; did you mean instances?"),
    ],
)
def test_a_mistake_is_told_in_the_notation_of_the_file(kind: type[Section], written: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        kind.model_validate(written)
    (problem,) = raised.value.errors()
    assert explain(problem, kind) == said


def test_what_is_like_nothing_is_told_what_there_is() -> None:
    assert unknown("zzz", VersionFile) == f"unknown setting; known: {', '.join(VersionFile.model_fields)}"


def test_what_belongs_elsewhere_is_told_where() -> None:
    assert unknown("labels", Model).startswith("belongs into the version's own model.toml")
