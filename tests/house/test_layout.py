"""A reader finds the test of a file without searching, and no file is too long to read."""

from pathlib import Path

from tests.house.code import ROOT, does_something, everything, sources, text

MAX_LINES = 500
TESTED_ELSEWHERE = {
    "gateway/cli/__init__.py": "hands over to gateway.cli.root; tests/integration runs it as a command",
    "loadtests/__main__.py": "hands over to loadtests.cli; tests run it as a command",
    "loadtests/compare/runners/kserve_server.py": "runs in KServe's own environment, by make compare",
    "loadtests/compare/runners/mlserver_runtime.py": "runs in MLServer's own environment, by make compare",
    "loadtests/compare/runners/triton_model.py": "runs in Triton's own environment, by make compare",
    "loadtests/demo/__main__.py": "`make demo`; its scenes have tests of their own",
    "loadtests/ramp.py": "a suite's name; tests run it through locust",
    "loadtests/spike.py": "a suite's name; tests run it through locust",
    "loadtests/steady.py": "a suite's name; tests run it through locust",
}


def mirrored(path: Path) -> Path:
    """Where the tests of a source file are: `test_<name>.py`, or several `test_<name>_<aspect>.py`."""
    return Path("tests/unit") / path.parent / f"test_{path.stem.strip('_')}"


def found_tests(path: Path) -> list[Path]:
    place = mirrored(path)
    return [*(ROOT / place.parent).glob(f"{place.name}.py"), *(ROOT / place.parent).glob(f"{place.name}_*.py")]


def has_source(test: Path) -> bool:
    """Whether tests/unit/<test> tests a file of the folder it mirrors."""
    names = {path.stem.strip("_") for path in (ROOT / test.parent).glob("*.py")}
    stem = test.stem.removeprefix("test_")
    return stem in names or any(stem.startswith(f"{name}_") for name in names)


def test_every_source_file_has_its_test() -> None:
    untested = {str(path) for path in sources() if does_something(path) and not found_tests(path)}
    assert untested - set(TESTED_ELSEWHERE) == set()
    assert [path for path in TESTED_ELSEWHERE if not (ROOT / path).is_file()] == []


def test_every_unit_test_has_its_source_file() -> None:
    unit = ROOT / "tests" / "unit"
    assert [test for test in sorted(unit.rglob("test_*.py")) if not has_source(test.relative_to(unit))] == []


def test_no_file_is_too_long() -> None:
    assert [path for path in everything() if len(text(path).splitlines()) > MAX_LINES] == []


def test_every_package_says_what_it_is() -> None:
    bare = [path for path in sources() if path.name == "__init__.py" and not text(path).startswith('"""')]
    assert bare == []


def test_every_folder_of_python_is_a_package() -> None:
    folders = {path.parent for path in everything()}
    assert [folder for folder in sorted(folders) if not (ROOT / folder / "__init__.py").is_file()] == []
