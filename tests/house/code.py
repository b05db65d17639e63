"""The project's own Python files, for tests about the house itself."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("gateway", "workers", "loadtests", "protos")


def sources() -> list[Path]:
    """Every source file that people write, relative to the root."""
    return _written(*SOURCES)


def everything() -> list[Path]:
    """Sources and tests."""
    return _written(*SOURCES, "tests")


def _written(*folders: str) -> list[Path]:
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path.relative_to(ROOT) for path in paths if "_pb2" not in path.name)


@cache
def text(path: Path) -> str:
    return (ROOT / path).read_text()


def does_something(path: Path) -> bool:
    """Whether a module is more than declarations: docstrings, imports, constants, classes of fields and signatures."""
    return any(_acts(statement) for statement in ast.parse(text(path)).body)


def _acts(statement: ast.stmt) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Assign() | ast.AnnAssign() | ast.Pass():
            return False
        case ast.Expr(value):
            return not isinstance(value, ast.Constant)
        case ast.ClassDef(body=body) | ast.FunctionDef(body=body) | ast.AsyncFunctionDef(body=body):
            return any(_acts(inner) for inner in body)
    return True


def comments(path: Path, mark: str) -> Iterator[tuple[int, str]]:
    """(line number, what follows) of every comment that begins with `mark`."""
    for number, line in enumerate(text(path).splitlines(), 1):
        _, found, rest = line.partition(f"# {mark}")
        if found:
            yield number, rest
