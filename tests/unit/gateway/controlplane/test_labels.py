from pathlib import Path

import pytest

from gateway.controlplane.labels import MAX_BYTES, read_labels, unknown_outputs


def read(folder: Path, content: bytes, named: dict[str, str] | None = None) -> tuple[dict[str, tuple[str, ...]], str]:
    (folder / "labels.txt").write_bytes(content)
    return read_labels(folder, {"labels.txt": len(content)}, named or {"Y": "labels.txt"})


@pytest.mark.parametrize("content", [b"cat\ndog", b"cat\ndog\n", b"cat\r\ndog\r\n", b"\xef\xbb\xbfcat\ndog\n"])
def test_a_label_is_a_line(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content) == ({"Y": ("cat", "dog")}, "")


def test_an_empty_line_keeps_its_place(tmp_path: Path) -> None:
    found, _ = read(tmp_path, "cat\n\nKäse: alt\n".encode())
    assert found == {"Y": ("cat", "", "Käse: alt")}


def test_without_labels_nothing_is_read(tmp_path: Path) -> None:
    assert read_labels(tmp_path, {}, {}) == ({}, "")


@pytest.mark.parametrize("path", ["other.txt", "../labels.txt", "/etc/passwd", ""])
def test_only_files_of_the_version_are_read(tmp_path: Path, path: str) -> None:
    found, error = read(tmp_path, b"cat", {"Y": path})
    assert (found, error) == ({}, f"labels of output 'Y': there is no file {path} beside the model; put it there")


def test_all_files_together_are_bounded(tmp_path: Path) -> None:
    half = b"x" * (MAX_BYTES // 2)
    assert read(tmp_path, half, {"Y": "labels.txt", "Z": "labels.txt"})[1] == ""
    assert read(tmp_path, half + b"x", {"Y": "labels.txt", "Z": "labels.txt"}) == (
        {},
        "labels of output 'Z': labels.txt is too large; all together may have 1 MiB",
    )


def test_what_is_no_text_is_an_error(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xff") == ({}, "labels of output 'Y': labels.txt is not UTF-8; save it as such")


def test_labels_belong_to_outputs_of_the_model() -> None:
    assert unknown_outputs({}, ["Y"]) == ""
    assert unknown_outputs({"Y": ("cat",)}, ["Y", "Z"]) == ""
    assert unknown_outputs({"y": ("cat",)}, ["Y", "Z"]) == (
        "model.toml: labels of output 'y', but the model gives Y, Z; correct the name"
    )
