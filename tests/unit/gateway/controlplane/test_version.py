import hashlib
from pathlib import Path

import pytest

from gateway.controlplane.repository import Walk
from gateway.controlplane.settings import FleetSettings, WorkerOverrides
from gateway.controlplane.version import Version, read_version
from tests.children.world import put, version_of


def test_the_digest_covers_every_file_and_its_name_in_order(tmp_path: Path) -> None:
    path = put(tmp_path, "digits", 1, "content")
    path.with_name("extra.bin").write_bytes(b"more")
    expected = hashlib.sha256(b"extra.bin\x004\x00more" + b"model.onnx\x007\x00content").hexdigest()
    assert version_of(tmp_path).digest == expected
    path.with_name("extra.bin").rename(path.with_name("other.bin"))
    assert version_of(tmp_path).digest != expected


def test_settings_are_read_from_the_file_beside_the_model(tmp_path: Path) -> None:
    path = put(tmp_path, "digits", 1)
    path.with_name("model.toml").write_text('instances = 2\nbatching = "off"\n')
    found = version_of(tmp_path)
    assert found.settings == WorkerOverrides(instances=2, batching="off")
    assert found.model_path == path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("instancez = 2", "digits/1/model.toml: instancez: unknown setting; did you mean instances?"),
        ("zzz = 2", "zzz: unknown setting; known: instances, threads, max_batch_size, batching"),
        ("instances = 0", "instances: must be at least 1, not 0"),
        ("instances = '2'", "instances: must be a whole number, not '2'"),
        ("batching = 'maybe'", "batching: must be 'auto' or 'off', not 'maybe'"),
        ("max_memory = '1MiB'", "max_memory: must be at least 64MiB, not '1MiB'"),
        ("max_queue_delay = '2m'", "max_queue_delay: must be at most 1m, not '2m'"),
        ("no_unit = 'stable'", "no_unit: belongs to the model, not to a version; say it under [models.digits] of the"),
        ("threads = 0\nb = 1", "model.toml: (1) threads: must be at least 1, not 0 (2) b: unknown setting; "),
        ("preferred_batch_sizes = [128]", "preferred_batch_sizes: 128 is more than max_batch_size, 64; raise that or"),
        ('max_memory = "1\\nMiB"\n"a\\nb" = 1', "(1) max_memory: must be at least 64MiB"),
        ("instances 2", "not valid TOML"),
        ("labels = { Y = 1 }", "labels.Y: must be text in quotes, not 1"),
        ("labels = { Y = 'classes.txt' }", "labels of output 'Y': there is no file classes.txt beside the model"),
        ("labels = { Y = '../classes.txt' }", "there is no file ../classes.txt beside the model"),
    ],
)
def test_wrong_settings_fail_the_version_with_one_line(tmp_path: Path, text: str, words: str) -> None:
    put(tmp_path, "digits", 1).with_name("model.toml").write_text(text)
    error = version_of(tmp_path).error
    assert error.startswith("digits/1/model.toml: ")
    assert words in error
    assert "\n" not in error


def test_what_a_version_says_must_go_with_what_is_said_elsewhere(tmp_path: Path) -> None:
    put(tmp_path, "digits", 1).with_name("model.toml").write_text("preferred_batch_sizes = [8]")
    files = Walk(tmp_path).look().models["digits"].versions[1]
    for limit, error in ((8, ""), (4, "8 is more than max_batch_size, 4")):
        fleet = FleetSettings(models={"digits": WorkerOverrides(max_batch_size=limit)})
        found = read_version(tmp_path, ("digits", 1), files, fleet)
        assert isinstance(found, Version)
        assert (bool(found.error), error in found.error) == (bool(error), True)


def test_labels_are_read_from_files_beside_the_model(tmp_path: Path) -> None:
    path = put(tmp_path, "digits", 1)
    before = version_of(tmp_path).digest
    path.with_name("model.toml").write_text('instances = 2\nlabels = { Y = "classes.txt" }\n')
    path.with_name("classes.txt").write_text("cat\ndog\n")
    found = version_of(tmp_path)
    assert (found.labels, found.error) == ({"Y": ("cat", "dog")}, "")
    assert found.settings == WorkerOverrides(instances=2)
    assert found.digest != before
    path.with_name("classes.txt").write_text("dog\ncat\n")
    assert version_of(tmp_path).digest != found.digest


def test_a_folder_without_a_usable_model_is_no_version(tmp_path: Path) -> None:
    put(tmp_path, "digits", 1, "").with_name("notes.txt").write_text("")
    assert read(tmp_path) == "digits/1/model.onnx: is empty; export the model again"
    (tmp_path / "digits" / "1" / "model.onnx").unlink()
    assert read(tmp_path) == "digits/1: has no model.onnx; put the model there under that name or remove the folder"


def test_files_that_cannot_be_read_are_a_problem(tmp_path: Path) -> None:
    path = put(tmp_path, "digits", 1)
    files = Walk(tmp_path).look().models["digits"].versions[1]
    path.unlink()
    assert read_version(tmp_path, ("digits", 1), files) == (
        "digits/1: cannot be read: No such file or directory; make its files readable"
    )


def read(models: Path) -> Version | str:
    return read_version(models, ("digits", 1), Walk(models).look().models["digits"].versions[1])
