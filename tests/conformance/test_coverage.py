"""No rule is forgotten: every case of h2spec has its test here, every test its section, and README.md counts them."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RFCS = ("rfc9113", "rfc7541")
H2SPEC = {
    "generic": {
        "1": 1, "2": 5, "3.1": 3, "3.2": 3, "3.3": 5, "3.4": 1, "3.5": 1, "3.7": 1, "3.8": 1, "3.9": 2, "3.10": 2,
        "4": 4, "5": 15,
    },
    "http2": {
        "3.5": 2, "4.1": 3, "4.2": 3, "4.3": 3, "5.1": 13, "5.1.1": 2, "5.1.2": 1, "5.3.1": 2, "5.4.1": 2, "5.5": 2,
        "6.1": 3, "6.2": 4, "6.3": 2, "6.4": 3, "6.5": 3, "6.5.2": 5, "6.5.3": 2, "6.7": 4, "6.8": 1, "6.9": 3,
        "6.9.1": 3, "6.9.2": 3, "6.10": 6, "7": 2, "8.1": 1, "8.1.2": 1, "8.1.2.1": 4, "8.1.2.2": 2, "8.1.2.3": 7,
        "8.1.2.6": 2, "8.2": 1,
    },
    "hpack": {"2.3.3": 2, "4.2": 1, "5.2": 3, "6.1": 1, "6.3": 1},
}  # fmt: skip
"""Cases of h2spec 2.6 by suite and section, numbered as in RFC 7540 and RFC 7541."""


@cache
def docstrings(rfc: str) -> dict[str, str]:
    """What each test says it is about, by its name."""
    found = {}
    for path in sorted((HERE / rfc).glob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[f"{path.stem}::{node.name}"] = ast.get_docstring(node) or ""
    return found


def sections(rfc: str) -> dict[str, str]:
    """The (first) section each test is about."""
    return {name: re.findall(r"^Sections? ([\d.]*\d)", text)[0] for name, text in docstrings(rfc).items()}


def rows(rfc: str) -> dict[str, tuple[int, int]]:
    """The table of README.md: tests and cases of h2spec by section."""
    text = (HERE / "README.md").read_text("utf-8").partition(f"`{rfc}/`")[2].partition("\n#")[0]
    cells = re.findall(r"^\| (\d[\d.]*) [^|]*\| (\d+) \| (\d*) *\|", text, re.MULTILINE)
    return {section: (int(tests), int(cases or 0)) for section, tests, cases in cells}


def claims(text: str) -> list[str]:
    return re.findall(r"(?:generic|http2|hpack)/[\d.]+/\d+", text)


@pytest.mark.parametrize("rfc", RFCS)
def test_every_test_names_its_section(rfc: str) -> None:
    texts = docstrings(rfc)
    assert [name for name, text in texts.items() if not re.match(r"Sections? \d", text)] == []


def test_every_test_stands_in_the_file_of_its_section() -> None:
    for name, section in sections("rfc9113").items():
        assert re.match(rf"test_section_{section.split('.')[0]}(?!\d)", name), name


def test_every_case_of_h2spec_has_one_test() -> None:
    claimed = Counter(case for rfc in RFCS for text in docstrings(rfc).values() for case in claims(text))
    cases = {
        f"{suite}/{section}/{number}"
        for suite, counts in H2SPEC.items()
        for section, count in counts.items()
        for number in range(1, count + 1)
    }
    assert len(cases) == 147
    assert claimed == Counter(cases)


@pytest.mark.parametrize("rfc", RFCS)
def test_the_table_in_the_readme_counts_right(rfc: str) -> None:
    tests = Counter(sections(rfc).values())
    cases: Counter[str] = Counter()
    for name, text in docstrings(rfc).items():
        cases[sections(rfc)[name]] += len(claims(text))
    assert rows(rfc) == {section: (tests[section], cases[section]) for section in tests}
