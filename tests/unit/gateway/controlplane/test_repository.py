from pathlib import Path

import pytest

from gateway.controlplane.repository import look, problems_of, require_directory
from gateway.errors import StartupError
from tests.children.world import put


def test_versions_are_found_with_all_their_files(tmp_path: Path) -> None:
    put(tmp_path, "digits", 1)
    put(tmp_path, "digits", 12)
    (tmp_path / "digits" / "12" / "weights").mkdir()
    (tmp_path / "digits" / "12" / "weights" / "a.bin").write_bytes(b"123")
    listing = look(tmp_path)
    assert list(listing.folders) == [("digits", 1), ("digits", 12)]
    assert [(name, size) for name, size, _ in listing.folders["digits", 12]] == [
        ("model.onnx", 2),
        ("weights/a.bin", 3),
    ]
    assert listing.problems == ()


def test_whatever_is_no_version_is_a_problem_with_a_remedy_and_hides_nothing(tmp_path: Path) -> None:
    put(tmp_path, "digits", 1)
    (tmp_path / "readme.txt").write_text("")
    (tmp_path / "bad name").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "digits" / "latest").mkdir()
    (tmp_path / "digits" / "01").mkdir()
    (tmp_path / "digits" / "notes.md").write_text("")
    listing = look(tmp_path)
    assert list(listing.folders) == [("digits", 1)]
    assert listing.problems == (
        "'bad name': not usable as a model name; rename the folder to letters, digits, '.', '_', '-'",
        "digits/01: a version is an integer from 1; rename the folder, for example to 1",
        "digits/latest: a version is an integer from 1; rename the folder, for example to 1",
        "digits/notes.md: does not belong here; put it into digits/<version>/ or remove it",
        "empty: has no versions; put the model into empty/1/model.onnx or remove the folder",
        "readme.txt: is not a model folder; move it to <model>/<version>/ or remove it",
    )


def test_hidden_entries_are_nobodys_business(tmp_path: Path) -> None:
    put(tmp_path, "digits", 1)
    for name in (".git", "..data", "lost+found", "digits/.ipynb_checkpoints", "digits/1/.cache"):
        (tmp_path / name).mkdir()
    listing = look(tmp_path)
    assert (list(listing.folders), listing.problems) == ([("digits", 1)], ())


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "digits", 1)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "digits").symlink_to(tmp_path / "elsewhere" / "digits")
    assert list(look(tmp_path / "models").folders) == [("digits", 1)]


def test_a_missing_directory_and_a_file_cannot_be_served(tmp_path: Path) -> None:
    require_directory(tmp_path)
    with pytest.raises(StartupError, match="does not exist; create it or give another with --models"):
        require_directory(tmp_path / "nowhere")
    (tmp_path / "model.onnx").write_text("")
    with pytest.raises(StartupError, match="is a file; give the folder that holds"):
        require_directory(tmp_path / "model.onnx")


def test_problems_of_one_model_are_its_own_and_those_of_the_directory() -> None:
    own = ["models directory /m cannot be read: no", "wine: has no versions", "wine/x: does not belong here"]
    problems = [*own, "wine.txt: is not a model folder", "wines/1: is empty", "models/1: is empty"]
    assert problems_of("wine", problems) == own
    assert problems_of(None, problems) == problems
