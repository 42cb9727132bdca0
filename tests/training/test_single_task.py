"""A model per task, side by side with the models of all tasks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlrm_mtl.arms import check_arm
from dlrm_mtl.recipe import parse_recipe
from tests.datasets import TASKS, make_dataset
from tests.distributed.training import run_config
from tests.messages import naming
from tests.ranks import RankPool
from tests.training import runs
from tests.training.resuming import Part, run_part


@pytest.mark.parametrize("world_size", [1, 2])
def test_each_model_is_the_one_that_its_task_alone_gives(
    small_dataset: Path, rank_pool: RankPool, tmp_path: Path, world_size: int
) -> None:
    config = replace(run_config(small_dataset, log_every=5), out=tmp_path)
    together = rank_pool.run(world_size, runs.side_by_side, config, ["mean", "single_task"], 4)[0][
        "single_task"
    ].evaluation
    assert len(together.tasks) == len(TASKS)
    for index, task in enumerate(TASKS):
        data = make_dataset(tmp_path / f"data-{task.name}", tasks=[task])
        alone = rank_pool.run(world_size, runs.train, run_config(data, log_every=5), "mean", 4)[0]
        assert together.tasks[index] == alone.metrics[0]
        np.testing.assert_array_equal(together.sums[:, index], alone.sums[:, 0])


def test_they_go_on_exactly(small_dataset: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    config, arms = run_config(small_dataset, log_every=5), ["mean", "single_task"]
    [plain] = rank_pool.run(1, run_part, config, tmp_path / "plain", arms)
    [first] = rank_pool.run(1, run_part, config, tmp_path / "stopped", arms, 5)
    [last] = rank_pool.run(1, run_part, config, tmp_path / "stopped", arms)
    assert isinstance(plain, Part)
    assert isinstance(last, Part)
    assert first.windows[1] + last.windows[1] == plain.windows[1]
    for name, value in plain.after[1].items():
        np.testing.assert_array_equal(last.after[1][name], value, err_msg=name)
    assert sum("exp_avg" in name or "/model/" in name for name in plain.after[1]) > 30


def test_windows_join_the_models(small_dataset: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    config = run_config(small_dataset, log_every=5)
    [part] = rank_pool.run(1, run_part, config, tmp_path, ["mean", "single_task"], 10)
    for joint, single in zip(*part.windows, strict=True):
        assert [task.rows for task in single.metrics] == [task.rows for task in joint.metrics]
        assert [task.positives for task in single.lifetime] == [task.positives for task in joint.lifetime]
        assert list(single.nonfinite_tasks) == [task.name for task in TASKS]
        assert single.balancing == {}


def test_it_has_no_options() -> None:
    check_arm(parse_recipe("single_task"), ("a", "b"))
    with pytest.raises(ValueError, match=naming("arm 'single_task:beta=1'", "options")):
        check_arm(parse_recipe("single_task:beta=1"), ("a", "b"))


def test_a_method_without_coefficients() -> None:
    with pytest.raises(ValueError, match=naming("dlrm_mtl.balancing:Balancer", "coefficients")):
        check_arm(parse_recipe("dlrm_mtl.balancing:Balancer"), ("a", "b"))
