"""What is written is TOML: the standard library reads it back."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from gateway.controlplane import toml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS, st.lists(TEXTS, max_size=3))
def test_every_text_is_read_back(name: str, values: list[str]) -> None:
    line = f"{toml.key(name)} = [{toml.text(name)}, {toml.texts(values)}]"
    assert tomllib.loads(line) == {name: [name, values]}


def test_keys_are_bare_where_they_can_be() -> None:
    assert [toml.key(name) for name in ("user-1", "a.b", "")] == ["user-1", '"a.b"', '""']
