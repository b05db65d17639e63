"""The table of attacks in README.md: every limit of the transport has its row, every test in it exists."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from gateway.transport.h2.limits import Counters

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ATTACKS = (HERE / "README.md").read_text("utf-8").partition("\n# Attacks\n")[2].partition("\n# ")[0]
ROWS = [[cell.strip() for cell in row.split("|")[1:-1]] for row in ATTACKS.splitlines() if row.startswith("| ")][1:]
OF_THE_ACCEPTOR = {"files", "proxy_header", "tls"}
"""Reasons that a connection is refused before it speaks HTTP/2."""


def named() -> set[tuple[str, str]]:
    """(file, test) for each that the table names; a test without its file is in the one before it."""
    found, path = set(), ""
    for row in ROWS:
        for file, test in re.findall(r"`([\w.]*)::(\w+)`", row[-1]):
            path = file or path
            found.add((path, test))
    return found


@pytest.mark.parametrize("reason", [field.name for field in fields(Counters)])
def test_every_reason_is_met_by_an_attack_and_explained(reason: str) -> None:
    if reason not in OF_THE_ACCEPTOR:
        assert any(f"`{reason}`" in row[3] for row in ROWS)
    limits = (ROOT / "README.md").read_text("utf-8").partition("### Limits of the transport")[2].partition("\n## ")[0]
    assert re.search(rf"\|[^|]*`{reason}`[^|]*\|$", limits, re.MULTILINE), "no row in the README"


@pytest.mark.parametrize(("file", "test"), sorted(named()))
def test_every_test_it_names_exists(file: str, test: str) -> None:
    tree = ast.parse((ROOT / "tests/integration" / file).read_text("utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_attack_has_a_limit_and_a_test() -> None:
    assert [row[0] for row in ROWS if not row[0].startswith("**") and not (row[1] and row[-1])] == []
