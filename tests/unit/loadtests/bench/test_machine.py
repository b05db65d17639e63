import platform

from loadtests.bench.machine import machine


def test_one_line_says_where_and_when() -> None:
    assert " × " in machine()
    assert machine().endswith(platform.python_version())
