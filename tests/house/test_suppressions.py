"""Whoever silences a checker says why."""

import re

from tests.house.code import ROOT, comments, everything

NOQA = re.compile(r": [A-Z]+[0-9]+(, [A-Z]+[0-9]+)* +([-#] )?\w.{5,}")
IGNORE = re.compile(r"\[[a-z-]+(, [a-z-]+)*\] +# \S.*")
LISTS = re.compile(r"^(?:ignore|\"[^\"]+\") = \[\n(.*?)^\]", re.MULTILINE | re.DOTALL)


def test_suppressions_carry_reasons() -> None:
    bad = []
    for path in everything():
        for mark, form in (("noqa", NOQA), ("type: ignore", IGNORE)):
            bad += [f"{path}:{number}" for number, rest in comments(path, mark) if not form.match(rest)]
    assert bad == []


def test_rules_ruff_shall_ignore_carry_reasons() -> None:
    section = (ROOT / "pyproject.toml").read_text().partition("[tool.ruff.lint]")[2].partition("[tool.mypy]")[0]
    lists = LISTS.findall(section)
    assert lists
    lines = [line.strip() for entries in lists for line in entries.splitlines()]
    assert [line for line in lines if "#" not in line and '"D1' not in line and '"INP001"' not in line] == []
