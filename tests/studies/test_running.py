"""Experiments on data sets of any number of tasks."""

import os
from pathlib import Path

import pytest

from dlrm_mtl.arms import check_arm
from dlrm_mtl.file_names import file_names
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import ExperimentConfig
from dlrm_mtl.schema import Schema, Shard
from dlrm_mtl.studies.catalog import STUDIES
from dlrm_mtl.studies.running import describe_work, finish_studies, plan_studies
from tests.messages import naming
from tests.reporting.runs import summarized, write_run


def schema_of(tasks: int) -> Schema:
    return Schema(
        name="shop",
        categorical=(CategoricalFeature("user", 9),),
        dense=(),
        tasks=tuple(Task(f"task-{index}", "click", base_rate=0.5) for index in range(tasks)),
        splits={split: (Shard(f"{split}/part.parquet", 100_000),) for split in ("train", "eval")},
    )


@pytest.mark.parametrize("tasks", [1, 2, 8, 9, 35, 100])
def test_arms_that_cannot_be_trained_are_left_out_and_named(tasks: int) -> None:
    schema = schema_of(tasks)
    plans = plan_studies(ExperimentConfig(Path("data"), Path("out")), list(STUDIES), schema)
    for study in plans.values():
        assert study.comparison.arms[0] == "mean"
        for arm in study.comparison.arms:
            check_arm(parse_recipe(arm), schema.task_names)
        folders = file_names(study.comparison.arms).values()
        assert len(set(folders)) == len(study.comparison.arms)
        assert max(len(os.fsencode(folder)) for folder in folders) <= 255
    left_out = plans["table3"].left_out
    assert set(left_out) == ({"cagrad"} if tasks > 8 else set())
    assert ("cagrad" in describe_work(plans, schema)) == (tasks > 8)


def test_weights_of_other_tasks_are_refused_before_anything_is_run() -> None:
    config = ExperimentConfig(Path("data"), Path("out"), task_weights=("task-0=1", "task-2=1"))
    with pytest.raises(ValueError, match=naming("'task-0', 'task-1'")):
        plan_studies(config, ["table3"], schema_of(2))


def test_the_report_names_them_too(tmp_path: Path) -> None:
    schema = schema_of(9)
    config = ExperimentConfig(Path("data"), tmp_path, seeds=1)
    plans = plan_studies(config, ["table3"], schema)
    nes = {arm: [0.9] * 9 for arm in plans["table3"].comparison.arms}
    write_run(tmp_path / "table3", [summarized(0, nes, schema.task_names)], schema.task_names)
    finish_studies(plans, schema)
    report = (tmp_path / "report.md").read_text()
    assert "`cagrad`: " in report
    assert plans["table3"].left_out["cagrad"] in report
