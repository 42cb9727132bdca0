"""The data set of a run, where ranks see different files: what decides is decided by rank 0, or refused by all."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dlrm_mtl.data.dataset import Dataset
from dlrm_mtl.data.shards import DataRecord
from dlrm_mtl.distributed import checkpoint
from dlrm_mtl.distributed.checkpoint import find_checkpoint
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.run_data import DATA_RECORD, inspect_run_data, open_run_data
from tests.datasets import make_dataset
from tests.distributed.training import run_config
from tests.messages import mentions
from tests.ranks import RankPool


def opened(ranks: Ranks, config: RunConfig) -> tuple[Dataset, DataRecord | None]:
    return open_run_data(config.data, config.out / DATA_RECORD, config.on_bad_shard, ranks)


def begin_and_go_on(ranks: Ranks, config: RunConfig, stale: int) -> tuple[bool, bool]:
    """Whether a rank takes the run for one that begins, and then, when the record is there and one rank does not see
    it, for one that goes on."""
    dataset, nothing = opened(ranks, config)
    dataset, record = inspect_run_data(dataset, nothing, "full", "stop", ranks)
    if ranks.is_first:
        config.out.mkdir()
        write_json(config.out / DATA_RECORD, record.as_json())
    ranks.synchronize()
    with pytest.MonkeyPatch.context() as patch:
        if ranks.rank == stale:
            seen = Path.is_file
            patch.setattr(Path, "is_file", lambda path: path.name != DATA_RECORD and seen(path))
        dataset, began = opened(ranks, config)
        _, again = inspect_run_data(dataset, began, "full", "stop", ranks)
    assert again == record
    return nothing is None, began == record


@pytest.mark.parametrize(("stale", "goes_on"), [(1, True), (0, False)])
def test_rank_0_decides_whether_a_run_goes_on(tmp_path: Path, rank_pool: RankPool, stale: int, goes_on: bool) -> None:
    config = replace(run_config(make_dataset(tmp_path / "set")), out=tmp_path / "run")
    assert rank_pool.run(2, begin_and_go_on, config, stale) == [(True, goes_on)] * 2


def find_where_one_is_stale(ranks: Ranks, directory: Path) -> str:
    """The error of a directory of damaged checkpoints, of which one rank sees none."""
    with pytest.MonkeyPatch.context() as patch:
        if ranks.rank == 1:
            patch.setattr(checkpoint, "list_checkpoints", lambda directory: [])
        try:
            find_checkpoint(directory, ranks)
        except ValueError as error:
            return str(error)
    return ""


def test_rank_0_decides_which_checkpoints_there_are(tmp_path: Path, rank_pool: RankPool) -> None:
    (tmp_path / "step-00000010").mkdir()
    for message in rank_pool.run(2, find_where_one_is_stale, tmp_path):
        assert "damaged" in message


def open_where_one_is_stale(ranks: Ranks, config: RunConfig, other: Path) -> str:
    config = replace(config, data=other) if ranks.rank == 1 else config
    try:
        inspect_run_data(*opened(ranks, config), "full", "stop", ranks)
    except ValueError as error:
        return str(error)
    return ""


def test_ranks_that_see_different_data_sets_are_refused(tmp_path: Path, rank_pool: RankPool) -> None:
    data, other = make_dataset(tmp_path / "set"), tmp_path / "other"
    config = replace(run_config(data), out=tmp_path / "run")
    shutil.copytree(data, other)
    assert rank_pool.run(2, open_where_one_is_stale, config, other) == ["", ""]
    schema = read_json(other / "schema.json")
    schema["name"] += "-of-yesterday"
    write_json(other / "schema.json", schema)
    for message in rank_pool.run(2, open_where_one_is_stale, config, other):
        assert mentions(message, "rank 1", "data set", "rank 0")
