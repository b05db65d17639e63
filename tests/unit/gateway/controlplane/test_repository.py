from pathlib import Path

import pytest

from gateway.controlplane import repository as module
from gateway.controlplane.repository import Look, Walk, problems_of, require_directory
from gateway.errors import StartupError
from tests.children.world import put


def found(seen: Look) -> list[tuple[str, int]]:
    """The versions of the models that were looked at."""
    return [(model, number) for model, found in seen.models.items() for number in found.versions]


def problems(seen: Look) -> list[str]:
    return sorted([*seen.problems, *(line for found in seen.models.values() for line in found.problems)])


def test_versions_are_found_with_all_their_files(tmp_path: Path) -> None:
    put(tmp_path, "digits", 1)
    put(tmp_path, "digits", 12)
    (tmp_path / "digits" / "12" / "weights").mkdir()
    (tmp_path / "digits" / "12" / "weights" / "a.bin").write_bytes(b"123")
    seen = Walk(tmp_path).look()
    assert found(seen) == [("digits", 1), ("digits", 12)]
    assert [(name, size) for name, size, _ in seen.models["digits"].versions[12]] == [
        ("model.onnx", 2),
        ("weights/a.bin", 3),
    ]
    assert problems(seen) == []


def test_whatever_is_no_version_is_a_problem_with_a_remedy_and_hides_nothing(tmp_path: Path) -> None:
    put(tmp_path, "digits", 1)
    (tmp_path / "readme.txt").write_text("")
    (tmp_path / "bad name").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "digits" / "latest").mkdir()
    (tmp_path / "digits" / "01").mkdir()
    (tmp_path / "digits" / "notes.md").write_text("")
    seen = Walk(tmp_path).look()
    assert found(seen) == [("digits", 1)]
    assert problems(seen) == [
        "'bad name': not usable as a model name; rename the folder to letters, digits, '.', '_', '-'",
        "digits/01: a version is an integer from 1; rename the folder, for example to 1",
        "digits/latest: a version is an integer from 1; rename the folder, for example to 1",
        "digits/notes.md: does not belong here; put it into digits/<version>/ or remove it",
        "empty: has no versions; put the model into empty/1/model.onnx or remove the folder",
        "readme.txt: is not a model folder; move it to <model>/<version>/ or remove it",
    ]


def test_hidden_entries_are_nobodys_business(tmp_path: Path) -> None:
    put(tmp_path, "digits", 1)
    for name in (".git", "..data", "lost+found", "digits/.ipynb_checkpoints", "digits/1/.cache"):
        (tmp_path / name).mkdir()
    seen = Walk(tmp_path).look()
    assert (found(seen), problems(seen)) == ([("digits", 1)], [])


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "digits", 1)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "digits").symlink_to(tmp_path / "elsewhere" / "digits")
    assert found(Walk(tmp_path / "models").look()) == [("digits", 1)]


def test_a_look_sees_what_stirs_and_of_the_rest_so_many_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLDERS_PER_LOOK", 4)
    monkeypatch.setattr(module, "WARM_LOOKS", 2)
    models = [f"m{number}" for number in range(6)]
    for model in models:
        put(tmp_path, model, 1)
    walk = Walk(tmp_path)
    assert sorted(walk.look().models) == models, "the first look sees all"
    seen = [sorted(walk.look().models) for _ in range(3)]
    assert [len(looked) for looked in seen] == [2, 2, 2], "two folders each"
    assert sorted(model for looked in seen for model in looked) == models, "all in turn"
    assert sorted(walk.look(restless={"m3"}).models) == ["m0", "m1", "m3"]
    put(tmp_path, "m5", 2)
    looks = [walk.look() for _ in range(4)]
    assert ["m5" in look.models for look in looks[:3]] == [True] * 3, "it stays warm"
    assert all(look.names == set(models) for look in looks)


def test_a_file_that_is_overwritten_is_found_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLDERS_PER_LOOK", 1)
    for model in "abc":
        put(tmp_path, model, 1)
    walk = Walk(tmp_path)
    walk.look()
    put(tmp_path, "c", 1, "something else")
    looks = [walk.look() for _ in range(4)]
    sizes = [look.models["c"].versions[1][0][1] for look in looks if "c" in look.models]
    assert sizes == [14, 14], "and then it is warm"


def test_a_model_that_went_and_came_back_is_looked_at_again(tmp_path: Path) -> None:
    put(tmp_path, "a", 1)
    walk = Walk(tmp_path)
    walk.look()
    (tmp_path / "a").rename(tmp_path / ".away")
    assert walk.look() == Look(frozenset(), {}, ())
    (tmp_path / ".away").rename(tmp_path / "a")
    assert found(walk.look()) == [("a", 1)]


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
