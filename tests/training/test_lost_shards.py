"""A shard that vanishes while a run trains and evaluates."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.run_config import RunConfig
from tests.datasets import make_dataset, make_table
from tests.distributed.training import local_weights, run_config
from tests.ranks import RankPool
from tests.training.runs import make_trainer


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    data = make_dataset(tmp_path / "set", eval_rows=600)  # both splits: 256, 256 and 88 rows
    return run_config(data, log_every=3)


def lose(ranks: Ranks, file: Path) -> None:
    if ranks.is_first:
        file.unlink()
    ranks.synchronize()


def train_and_lose(ranks: Ranks, config: RunConfig) -> tuple[list[int], list[int], bool]:
    """Rows of each window's first task, rows of each task at the evaluation, and whether all weights are finite."""
    trainer = make_trainer(ranks, config, "mean", 0)
    windows = [trainer.train_window(config.log_every)]
    for split in ("train", "eval"):
        lose(ranks, Path(str(config.data)) / split / "part-00001.parquet")
    while not trainer.done:
        windows.append(trainer.train_window(config.log_every))
    metrics = trainer.evaluate().tasks
    finite = all(torch.tensor(weights).isfinite().all() for weights in local_weights(trainer.arm).values())
    return [window.metrics[0].rows for window in windows], [task.rows for task in metrics], bool(finite)


@pytest.mark.parametrize("world_size", [1, 2])
def test_under_skip_the_run_goes_on_without_its_rows(config: RunConfig, rank_pool: RankPool, world_size: int) -> None:
    config = replace(config, on_bad_shard="skip", epochs=2, reader=replace(config.reader, shuffle_rows=64))
    for windows, evaluated, finite in rank_pool.run(world_size, train_and_lose, config):
        assert len(windows) == 2 * (600 // config.batch_size) / 3
        assert windows[0] == 3 * config.batch_size
        second_epoch = windows[len(windows) // 2 :]
        assert 600 % config.batch_size == 24
        assert 600 - 256 - 24 <= sum(second_epoch) <= 600 - 256
        table = make_table(600, seed=2)
        click = table["click"].to_numpy()
        assert evaluated == [600 - 256, 600 - 256, click.sum() - click[256:512].sum()]
        assert finite


def evaluate_without_a_file(ranks: Ranks, config: RunConfig) -> tuple[str, list[str]]:
    """The error of an evaluation, and what was logged of it."""
    trainer = make_trainer(ranks, config, "mean", 0)
    Path(str(config.data), "eval/part-00001.parquet").unlink()
    logged: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    logging.getLogger("torchrec").addHandler(handler)
    try:
        trainer.evaluate()
    except ValueError as error:
        return str(error), logged
    finally:
        ranks.watch.pause()
        logging.getLogger().removeHandler(handler)
        logging.getLogger("torchrec").removeHandler(handler)
    return "none", logged


def test_under_stop_the_evaluation_ends_with_one_line(config: RunConfig, rank_pool: RankPool) -> None:
    [(message, logged)] = rank_pool.run(1, evaluate_without_a_file, config)
    file = config.data / "eval/part-00001.parquet"
    assert message.startswith(f"{file}, row group 0")
    assert "\n" not in message
    assert logged == []
