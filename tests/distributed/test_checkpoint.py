"""Checkpoints on disk: whole or not there, kept or skipped, never executed."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dlrm_mtl.distributed.checkpoint_directory import MANIFEST, list_checkpoints
from dlrm_mtl.distributed.tensor_description import DESCRIPTION
from tests.distributed import checkpoints
from tests.json_edits import Change, edit, put
from tests.messages import mentions
from tests.ranks import RankPool


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope="module")
def written(rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps 1, 2 and 3, written by two ranks, of which two are kept."""
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    assert rank_pool.run(2, checkpoints.write, directory, [1, 2, 3]) == ["", ""]
    return directory


@pytest.fixture
def directory(written: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(written, tmp_path / "checkpoints"))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_newest_is_read_on_any_ranks(written: Path, rank_pool: RankPool, world_size: int) -> None:
    for found, said in rank_pool.run(world_size, checkpoints.read, written):
        assert found == (3, "step 3", True)
        assert said == ""


def test_the_newest_ones_are_kept(written: Path) -> None:
    assert names(written) == ["step-00000002", "step-00000003"]
    assert names(written / "step-00000003") == ["__0_0.distcp", "__1_0.distcp", MANIFEST, DESCRIPTION]


def test_what_differs_between_ranks_is_all_there(written: Path) -> None:
    description = json.loads((written / "step-00000003" / DESCRIPTION).read_text())
    assert set(description) == {"weights", "count", "rank-0/own", "rank-1/own"}


def test_a_table_is_copied_without_those_it_shares_memory_with(tmp_path: Path, rank_pool: RankPool) -> None:
    tables, rows = 4, 10_000_000
    [(growth, right)] = rank_pool.run(1, checkpoints.write_one_table, tmp_path / "checkpoints", tables, rows)
    size = 4 * rows
    assert right
    assert 0.9 * size < growth < 2 * size


def test_the_same_step_again_replaces_it(directory: Path, rank_pool: RankPool) -> None:
    rank_pool.run(1, checkpoints.write, directory, [3])
    assert names(directory / "step-00000003") == ["__0_0.distcp", MANIFEST, DESCRIPTION]
    [(found, _)] = rank_pool.run(1, checkpoints.read, directory)
    assert found == (3, "step 3", True)


def test_no_checkpoint_is_none(tmp_path: Path, rank_pool: RankPool) -> None:
    assert rank_pool.run(2, checkpoints.read, tmp_path / "nothing") == [(None, ""), (None, "")]


def truncate(path: Path) -> None:
    file = path / "__1_0.distcp"
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    file = path / "__0_0.distcp"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change_a_fact(path: Path) -> None:
    """A valid manifest of another run."""
    manifest = (path / MANIFEST).read_text()
    (path / MANIFEST).write_text(manifest.replace('"note": "step 3"', '"note": "step 4"'))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "__1_0.distcp has "),
    "flipped": (flip_a_bit, "__0_0.distcp has another checksum"),
    "a file is gone": (lambda path: (path / "__1_0.distcp").unlink(), "__1_0.distcp is missing"),
    "no description": (lambda path: (path / DESCRIPTION).unlink(), f"{DESCRIPTION} is missing"),
    "no manifest": (lambda path: (path / MANIFEST).unlink(), f"{MANIFEST}: not found"),
    "half a manifest": (lambda path: (path / MANIFEST).write_text('{"format"'), f"{MANIFEST}: not valid JSON"),
    "another fact": (change_a_fact, f"{MANIFEST}: has another checksum"),
    "no text": (lambda path: (path / MANIFEST).write_bytes(b"\xff\xfe{}"), f"{MANIFEST}: not valid JSON"),
    "another format": (lambda path: (path / MANIFEST).write_text('{"format": 99}'), "of format 1"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_damaged_one_is_skipped(directory: Path, rank_pool: RankPool, damage: str, world_size: int) -> None:
    act, message = DAMAGES[damage]
    act(directory / "step-00000003")
    results = rank_pool.run(world_size, checkpoints.read, directory)
    assert [found for found, _ in results] == [(2, "step 2", True)] * world_size
    assert mentions(results[0][1], "skipped", directory / "step-00000003")
    assert message in results[0][1]
    assert all(said == "" for _, said in results[1:])


def test_if_all_are_damaged_nothing_is_read(directory: Path, rank_pool: RankPool) -> None:
    for path in list_checkpoints(directory):
        truncate(path)
    for found, _ in rank_pool.run(2, checkpoints.read, directory):
        assert mentions(found, directory, "damaged", "--out")


def test_an_unfinished_one_is_removed(directory: Path, rank_pool: RankPool) -> None:
    partial = directory / ".step-00000004.partial"
    shutil.copytree(directory / "step-00000003", partial)
    results = rank_pool.run(2, checkpoints.read, directory)
    assert [found for found, _ in results] == [(3, "step 3", True)] * 2
    assert mentions(results[0][1], partial, "removed")
    assert results[0][1].count("\n") == 1
    assert not partial.exists()


@pytest.mark.parametrize("kind", ["a link", "a link to nothing", "a file"])
def test_what_has_the_name_of_an_unfinished_one_is_removed_alone(
    directory: Path, rank_pool: RankPool, tmp_path: Path, kind: str
) -> None:
    partial, elsewhere = directory / ".step-00000004.partial", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    if kind == "a file":
        partial.touch()
    else:
        partial.symlink_to(elsewhere if kind == "a link" else tmp_path / "nothing")
    [(found, _)] = rank_pool.run(1, checkpoints.read, directory)
    assert found == (3, "step 3", True)
    assert not partial.is_symlink()
    assert not partial.exists()
    assert (elsewhere / "file").exists()


def test_links_in_the_way_of_new_ones_are_replaced(directory: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    shutil.move(directory / "step-00000002", tmp_path / "moved")
    for name in ("step-00000002", "step-00000004", ".step-00000004.partial"):
        (directory / name).symlink_to(tmp_path / "moved")
    assert rank_pool.run(1, checkpoints.write, directory, [4]) == [""]
    assert names(directory) == ["step-00000003", "step-00000004"]
    assert not (directory / "step-00000004").is_symlink()
    assert (tmp_path / "moved" / MANIFEST).exists()


@pytest.mark.parametrize("on_rank", [0, 1])
def test_a_full_disk_costs_that_checkpoint_alone(tmp_path: Path, rank_pool: RankPool, on_rank: int) -> None:
    directory = tmp_path / "checkpoints"
    said = rank_pool.run(2, checkpoints.write, directory, [1, 2, 3, 4], 2, [2, 4], on_rank)
    assert names(directory) == ["step-00000001", "step-00000003"]
    assert said[0].count("checkpoint NOT written") == 2
    assert f"rank {on_rank}: OSError" in said[0]
    assert said[0].count("\n") == 2
    assert said[1] == ""
    assert rank_pool.run(1, checkpoints.read, directory)[0][0] == (3, "step 3", True)


OUTSIDE = ("../step-00000002/__0_0.distcp", "/etc/hostname", "a/b")


class Execute:
    """Creates a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self._witness,)


def test_tensors_are_read_without_executing_code(directory: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    path, witness = directory / "step-00000003", tmp_path / "executed"
    content = io.BytesIO()
    torch.save([Execute(witness), torch.zeros(checkpoints.SIZE)], content)
    assert zipfile.is_zipfile(content)
    torch.load(io.BytesIO(content.getvalue()), weights_only=False)
    assert witness.exists(), "the payload works"
    witness.unlink()
    (path / "evil.distcp").write_bytes(content.getvalue())
    evil = {"file": "evil.distcp", "start": 0, "bytes": len(content.getvalue())}
    edit(path / DESCRIPTION, lambda description: description["weights"]["chunks"][0].update(evil))
    checkpoints.reseal(path)
    [(found, _)] = rank_pool.run(1, checkpoints.read, directory)
    assert mentions(found, path, "rank 0", "UnpicklingError")
    assert not witness.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *((put("weights", "chunks", 0, "file", file), "outside of the checkpoint") for file in OUTSIDE),
        *((put("weights", "dtype", name), "not a description of tensors") for name in ("load", "nothing", 3)),
    ],
)
def test_a_description_names_files_of_the_checkpoint_and_dtypes_only(
    directory: Path, rank_pool: RankPool, change: Change, said: str
) -> None:
    edit(directory / "step-00000003" / DESCRIPTION, change)
    checkpoints.reseal(directory / "step-00000003")
    [(found, actual)] = rank_pool.run(1, checkpoints.read, directory)
    assert found == (2, "step 2", True)
    assert said in actual


def test_there_is_no_pickle(written: Path) -> None:
    """Tensors are in torch.save's form, which is read with weights_only; everything else is JSON."""
    for file in written.rglob("*"):
        if file.is_file() and file.suffix != ".distcp":
            json.loads(file.read_text())
            with pytest.raises(pickle.UnpicklingError):
                pickle.loads(file.read_bytes())
