import re
import subprocess
import sys
from pathlib import Path

from tests.house.code import ROOT, sources, text


def test_rooms_import_one_way(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_is_pickled() -> None:
    banned = re.compile(r"^\s*(import|from) (pickle|marshal|shelve|dill|joblib)\b", re.MULTILINE)
    assert [path for path in sources() if banned.search(text(path))] == []
