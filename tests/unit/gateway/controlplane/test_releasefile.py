"""Releases as TOML: what is read, what is written, and what is said of a mistake."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.controlplane.commands import Declared, Hold
from gateway.controlplane.declared import difference
from gateway.controlplane.releasefile import read, write
from gateway.errors import InvalidRequest
from gateway.routing.snapshot import Assignment, Rule

FILE = """\
model = "digits"
stable = 1
standby = 2
timeout = "1500ms"
salt = "digits/2"

[[canaries]]
version = 2
percent = 10

[[canaries]]
version = 3
percent = 0.25

[[shadows]]
version = 4

[holdout]
percent = 5.5

[[rules]]
key = "X-Team"
values = ["qa", "dev"]
arm = "canary-2"

[assignment]
unit_metadata = ["X-Tenant"]

[overrides]
ann = "stable"
"Bob Smith" = "canary-2"
"""
DECLARED = Declared(
    stable=1,
    canaries={2: 1_000, 3: 25},
    shadows={4: 1.0},
    standby=2,
    salt="digits/2",
    holdout=Hold(550),
    rules=(Rule("x-team", ("qa", "dev"), "canary-2"),),
    assignment=Assignment(("x-tenant",)),
    timeout_ms=1_500,
    overrides={"ann": "stable", "Bob Smith": "canary-2"},
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
VERSIONS = st.integers(1, 2**40)
SHARES = st.integers(1, 10_000)
KEYS = st.from_regex(r"[0-9a-z_.-]{1,8}", fullmatch=True)
ANY = st.builds(
    Declared,
    stable=VERSIONS,
    canaries=st.dictionaries(VERSIONS, SHARES, max_size=3),
    shadows=st.dictionaries(VERSIONS, st.floats(0, 1, exclude_min=True), max_size=3),
    standby=st.one_of(st.none(), VERSIONS),
    salt=st.one_of(st.just(""), TEXTS),
    holdout=st.one_of(st.none(), st.builds(Hold, SHARES, st.one_of(st.just(0), VERSIONS))),
    rules=st.lists(st.builds(Rule, KEYS, st.lists(TEXTS, max_size=3).map(tuple), TEXTS), max_size=3).map(tuple),
    assignment=st.one_of(
        st.none(),
        st.builds(
            Assignment,
            st.lists(KEYS, max_size=2).map(tuple),
            st.lists(TEXTS, max_size=2).map(tuple),
            st.sampled_from(["per-request", "stable"]),
            st.booleans(),
        ),
    ),
    timeout_ms=st.integers(0, 86_400_000),
    overrides=st.dictionaries(TEXTS, TEXTS, max_size=5),
)


def test_a_file_is_read() -> None:
    assert read(FILE) == ("digits", DECLARED)


def test_a_file_is_written_as_people_write_it() -> None:
    written = FILE.replace("version = 4\n", "version = 4\nrate = 1.0\n")
    units = 'unit_metadata = ["x-tenant"]\nunit_parameters = ["user_id"]\nno_unit = "per-request"\nallow_forced = true'
    written = written.replace('unit_metadata = ["X-Tenant"]', units).replace("X-Team", "x-team")
    quoted = '"Bob Smith" = "canary-2"\n'
    assert write("digits", DECLARED) == written.replace(quoted, "").replace("[overrides]\n", "[overrides]\n" + quoted)
    assert write("digits", Declared(stable=3)) == 'model = "digits"\nstable = 3\n'


@settings(max_examples=25, deadline=None)
@given(model=TEXTS, declared=ANY)
def test_what_is_written_is_read_back(model: str, declared: Declared) -> None:
    assert read(write(model, declared)) == (model, declared)
    assert difference(declared, declared) == []


@settings(max_examples=25, deadline=None)
@given(one=ANY, other=ANY, data=st.data())
def test_there_is_a_line_of_difference_exactly_where_there_is_one(
    one: Declared, other: Declared, data: st.DataObject
) -> None:
    pieces = data.draw(st.sets(st.sampled_from(["stable", "canaries", "shadows", "rules", "timeout_ms", "overrides"])))
    mixed = Declared(**{name: getattr(other if name in pieces else one, name) for name in Declared.__struct_fields__})
    assert bool(difference(one, mixed)) == (mixed != one)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("stable = 1\n", ""), "stable: is missing"),
        (("stable = 1", "stable = 0"), "stable: must be at least 1, not 0"),
        (("stable = 1", "stable = 1000000000000000000"), "stable: must be at most 999999999999999999, not 1"),
        (("stable = 1", "stable = true"), "stable: must be a whole number, not True"),
        (("stable = 1", "stable 1"), "not valid TOML: Expected '=' after a key in a key/value pair (at line 2"),
        (('"digits"', '""'), "model: must not be empty"),
        (("standby", "standbye"), "standbye: unknown setting; did you mean standby?"),
        (("percent = 10", "percnt = 10"), "canaries.1.percnt: unknown setting; did you mean percent?"),
        (("percent = 0.25\n", ""), "canaries.2.percent: is missing"),
        (("percent = 10", "percent = 0.001"), "canaries.1.percent: must be 0.01 to 100 in steps of 0.01, not 0.001"),
        (("percent = 10", "percent = 101"), "canaries.1.percent: must be 0.01 to 100 in steps of 0.01, not 101"),
        (("percent = 10", "percent = nan"), "canaries.1.percent: must be 0.01 to 100 in steps of 0.01, not nan"),
        (("percent = 10", 'percent = "10"'), "canaries.1.percent: must be a number, not '10'"),
        (("version = 3", "version = 2"), "canaries: version 2 is named twice"),
        (("version = 4\n", "version = 4\nrate = 2\n"), "shadows.1.rate: must be above 0 and at most 1, not 2"),
        (("version = 4\n", "version = 4\nrate = inf\n"), "shadows.1.rate: must be above 0 and at most 1, not inf"),
        (("version = 4\n", "version = 4\nrate = true\n"), "shadows.1.rate: must be a number, not True"),
        (("[[canaries]]\nversion = 2", "[canaries]\nversion = 2"), "not valid TOML"),
        (('"1500ms"', "5"), "timeout: must be a number with one of the units"),
        (('"1500ms"', '"0s"'), "timeout: must be in whole milliseconds, and at least one, not '0s'"),
        (('"1500ms"', '"0.5ms"'), "timeout: must be in whole milliseconds"),
        (('["qa", "dev"]', '"qa"'), "rules.1.values: must be a list such as [\"a\", \"b\"], not 'qa'"),
        (('"Bob Smith" = "canary-2"', "bob = 2"), "overrides.bob: must be text in quotes, not 2"),
        (('unit_metadata = ["X-Tenant"]', 'no_unit = "x"'),
         "assignment.no_unit: must be 'per-request' or 'stable', not 'x'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(changed: tuple[str, str], said: str) -> None:
    assert changed[0] in FILE
    with pytest.raises(InvalidRequest) as caught:
        read(FILE.replace(*changed, 1))
    assert str(caught.value).startswith(said)


def test_tables_that_are_none() -> None:
    with pytest.raises(InvalidRequest, match=r"canaries: must be tables, each under \[\[canaries\]\]"):
        read('model = "a"\nstable = 1\n[canaries]\nversion = 2\npercent = 1\n')
    with pytest.raises(InvalidRequest, match="holdout: must be a table"):
        read('model = "a"\nstable = 1\nholdout = 5\n')
