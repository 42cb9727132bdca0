"""Checkpoints with right checksums and impossible contents."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.distributed.checkpoint_directory import MANIFEST, find_damage, read_manifest, write_manifest
from dlrm_mtl.distributed.tensor_description import DESCRIPTION, check_places, read_description
from dlrm_mtl.files import write_json
from tests.distributed import checkpoints
from tests.json_edits import Change, drop, edit, put, puts
from tests.ranks import RankPool


@pytest.fixture(scope="module")
def written(rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    assert rank_pool.run(1, checkpoints.write, directory, [1]) == [""]
    return directory / "step-00000001"


@pytest.fixture
def checkpoint(written: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(written, tmp_path / "checkpoint"))


def read_whole(path: Path) -> None:
    """All checks that come before a tensor is read."""
    manifest = read_manifest(path)
    damage = find_damage(path, manifest)
    if damage:
        raise ValueError(damage)
    check_places(read_description(path), {name: record["bytes"] for name, record in manifest["files"].items()})


NO_SIZES: list[Any] = [None, "5", -1, 5.0, True, [5], {}, 2**64]


@pytest.mark.parametrize(
    "change",
    [
        drop("step"),
        drop("files"),
        *puts("step", values=NO_SIZES),
        *puts("files", values=[None, 5, [], "x", {}, [["a", 1, "b"]], {DESCRIPTION: None}]),
        drop("files", DESCRIPTION),
        *puts("files", DESCRIPTION, "bytes", values=NO_SIZES),
        *puts("files", DESCRIPTION, "sha256", values=[None, 5, False, [], "x"]),
        put("files", DESCRIPTION, "more", 1),
        drop("files", DESCRIPTION, "bytes"),
        drop("files", DESCRIPTION, "sha256"),
        *(
            put("files", name, {"bytes": 0, "sha256": "0" * 64})
            for name in ("../../../etc/hostname", "/etc/hostname", "..", ".", "", "a/b", "a/", "a\0b", "absent")
        ),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(checkpoint: Path, change: Change) -> None:
    manifest = read_manifest(checkpoint)
    change(manifest)
    write_manifest(checkpoint, manifest)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read_whole(checkpoint)
    assert "\n" not in str(error.value)


CHUNK = ("weights", "chunks", 0)


def in_two(first: int, second: int, start: int = -1) -> Change:
    """The chunk of all the weights, cut in two of these sizes."""

    def change(raw: Any) -> None:
        [chunk] = raw["weights"]["chunks"]
        begin = first if start < 0 else start
        raw["weights"]["chunks"] = [{**chunk, "size": [first]}, {**chunk, "size": [second], "offset": [begin]}]

    return change


@pytest.mark.parametrize(
    "change",
    [
        *puts("weights", values=[None, 5, [], {}, "x"]),
        *(drop("weights", key) for key in ("dtype", "size", "chunks")),
        *puts("weights", "dtype", values=[None, 5, [], "load", "nothing", "Tensor", "float32.x", ""]),
        *(
            put("weights", "size", value)
            for value in (None, 5, [], [-1], [5.0], ["5"], [2**63], [checkpoints.SIZE + 1])
        ),
        put("weights", "size", [checkpoints.SIZE, 1]),
        *puts("weights", "chunks", values=[None, 5, [], {}, [5], [[]], [{}]]),
        *(drop(*CHUNK, key) for key in ("offset", "size", "file", "start", "bytes")),
        *puts(*CHUNK, "offset", values=[None, 5, [], [1], [-1], [0, 0], ["0"], [0.0]]),
        *puts(*CHUNK, "size", values=[None, 5, [], [checkpoints.SIZE - 1], [-1], [2**62]]),
        *puts(*CHUNK, "file", values=[None, 5, "", "..", "../x", "/etc/hostname", "a\0b", "absent"]),
        *puts(*CHUNK, "start", values=[*NO_SIZES[:-1], 2**40]),
        *puts(*CHUNK, "bytes", values=[*NO_SIZES, 2**40, 4 * checkpoints.SIZE - 1]),
        in_two(checkpoints.SIZE, checkpoints.SIZE, start=0),
        in_two(60_000, 40_000, start=59_999),
        in_two(60_000, 40_001),
        in_two(60_000, 39_999),
    ],
)
def test_a_description_that_says_something_else_is_refused(checkpoint: Path, change: Change) -> None:
    edit(checkpoint / DESCRIPTION, change)
    checkpoints.reseal(checkpoint)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read_whole(checkpoint)
    assert "\n" not in str(error.value)


def test_chunks_that_make_up_the_whole_are_read(checkpoint: Path) -> None:
    edit(checkpoint / DESCRIPTION, in_two(60_000, 40_000))
    checkpoints.reseal(checkpoint)
    read_whole(checkpoint)
    assert [chunk.size for chunk in read_description(checkpoint)["weights"].chunks] == [(60_000,), (40_000,)]


@pytest.mark.parametrize(
    ("chunks", "whole"),
    [
        ([([0, 0], [2, 3]), ([0, 3], [2, 1]), ([2, 0], [2, 4])], True),
        ([([0, 0], [4, 2]), ([0, 2], [4, 2])], True),
        ([([2, 0], [2, 4]), ([0, 0], [2, 4])], True),
        ([([0, 0], [0, 4]), ([0, 0], [4, 4])], True),
        ([([0, 0], [3, 4]), ([2, 0], [1, 4])], False),
        ([([0, 0], [2, 3]), ([1, 2], [2, 2]), ([2, 0], [2, 3])], False),
        ([([0, 0], [4, 2]), ([0, 1], [4, 2])], False),
    ],
)
def test_chunks_in_two_dimensions(tmp_path: Path, chunks: list[Any], whole: bool) -> None:
    place = {"file": "a", "start": 0, "bytes": 1000}
    parts = [{"offset": offset, "size": size, **place} for offset, size in chunks]
    write_json(tmp_path / DESCRIPTION, {"table": {"dtype": "float32", "size": [4, 4], "chunks": parts}})
    if whole:
        assert list(read_description(tmp_path)["table"].size) == [4, 4]
    else:
        with pytest.raises(ValueError, match=r"tensors\.json.*table.*(overlap|not all)"):
            read_description(tmp_path)


@pytest.mark.parametrize("name", [MANIFEST, DESCRIPTION, "__0_0.distcp"])
def test_a_link_is_no_file_of_a_checkpoint(checkpoint: Path, tmp_path: Path, name: str) -> None:
    shutil.move(checkpoint / name, tmp_path / "elsewhere")
    (checkpoint / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"missing|not found"):
        read_whole(checkpoint)
