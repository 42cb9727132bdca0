"""Files are whole or not there, and JSON and TOML are read strictly."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.files import (
    MAX_DEPTH,
    PendingFile,
    is_leftover,
    parse_json,
    publish,
    read_json,
    read_toml,
    remove_leftovers,
    write_json,
    write_text,
    write_whole,
)
from tests.messages import naming


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError), write_whole(path) as temporary:
        temporary.write_text(path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nan"):
        write_json(path, float("nan"))
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["value.json"]


def test_bytes_and_name_are_on_the_disk_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_text(tmp_path / "text", "a")
    written, renamed, directory = calls
    assert Path(written).name.startswith(".text.")
    assert (renamed, directory) == ("replace", str(tmp_path))


def test_temporary_names_are_new_and_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, outside = tmp_path / "value", tmp_path / "outside"
    assert PendingFile(path).temporary != PendingFile(path).temporary
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    (tmp_path / f".value.{'0' * 16}.tmp").symlink_to(outside)
    with pytest.raises(FileExistsError):
        write_text(path, "secret")
    assert not outside.exists()


def test_names_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    for name in ("n" * 255, "名" * 85):
        write_text(tmp_path / name, "a")
        assert (tmp_path / name).read_text() == "a"


def test_leftovers(tmp_path: Path) -> None:
    pending = PendingFile(tmp_path / "config.json")
    (tmp_path / ".config.json.4711.tmp").touch()
    kept = {".tmp", "config.json.tmp", ".hidden", ".config.json.partial"}
    for name in kept:
        (tmp_path / name).touch()
    assert is_leftover(pending.temporary)
    remove_leftovers(tmp_path)
    assert set(os.listdir(tmp_path)) == kept


def test_a_directory_replaces_another(tmp_path: Path) -> None:
    for name, text in (("old", "1"), ("new", "2")):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / name).write_text(text)
    publish(tmp_path / "new", tmp_path / "old")
    assert os.listdir(tmp_path) == ["old"]
    assert os.listdir(tmp_path / "old" / "deep") == ["new"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a": 1, "a": 1}',
        '[{"b": {"a": 1, "a": 2}}]',
        "NaN",
        "[-Infinity]",
        "1e999",
        '"\\ud800"',
        '{"\\udfff": 1}',
        "9" * 5000,
        "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2),
        "[" * 100_000,
        '{"a":' * 100_000,
        '"' + "x" * 100_000,
        '{"' + "k" * 10_000 + '": 1, "' + "k" * 10_000 + '": 2}',
    ],
    ids=lambda text: text[:16],
)
def test_json_is_read_strictly(tmp_path: Path, text: str) -> None:
    path = tmp_path / "value.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=naming("JSON")) as refusal:
        read_json(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < len(str(path)) + 200
    with pytest.raises(ValueError, match="line 7"):
        parse_json(text, "line 7")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b'{"a": "\xff"}')
    for name in ("missing", "bytes", "."):
        for read in (read_json, read_toml):
            with pytest.raises(ValueError, match=str(tmp_path / name)):
                read(tmp_path / name)


@pytest.mark.parametrize("value", [None, 1.5, {"a": [1, {"b": "\U0001f600 \x1b"}]}, [[[]]]])
def test_json_comes_back(tmp_path: Path, value: Any) -> None:
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value == json.loads((tmp_path / "value.json").read_text())


@pytest.mark.parametrize(
    "text",
    [
        "a = ",
        "a = 1\na = 2",
        "a = nan",
        "a = [inf]",
        f"a = {'[' * 10_000}",
        "a = " + "[" * 40 + "]" * 40,
        "[a.b]\nc=-inf",
    ],
    ids=lambda text: text[:16],
)
def test_toml_is_read_strictly(tmp_path: Path, text: str) -> None:
    path = tmp_path / "value.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=naming("value.toml", "TOML")) as refusal:
        read_toml(path)
    assert len(str(refusal.value)) < len(str(path)) + 200
