"""What data_prep.describe says about regression labels, against a plain computation."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_prep.engine.options import StreamOptions
from data_prep.schema import Options, tasks_of
from data_prep.statistics.description import describe
from data_prep.statistics.encoded_columns import Roles
from data_prep.statistics.encoded_dataset import describe_encoded
from data_prep.statistics.period_description import describe_period
from data_prep.statistics.period_tables import render_period
from data_prep.statistics.text_tables import render
from dlrm_mtl.schema import read_schema
from tests.data_prep.labels.regression_log import LAYOUT, rows, write
from tests.data_prep.logs import run_prepare
from tests.messages import mentions, naming


def quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, share * below[-1])])


def test_labels_are_described_by_split_and_by_weight(regression_dataset: Path) -> None:
    description = describe(regression_dataset)
    assert [task.name for task in description.tasks] == ["click", "buy"]
    assert [task.name for task in description.regressions] == ["play", "spend"]
    for task in description.regressions:
        scales = {}
        for split, statistics in task.splits.items():
            table = pq.read_table(regression_dataset / split)
            defined = table["click"].to_numpy() == 1 if task.given else np.ones(len(table), bool)
            labels, weights = (table[name].to_numpy().astype(np.float64)[defined] for name in (task.label, task.weight))
            mean = np.average(labels, weights=weights)
            scales[split] = mean, np.average((labels - mean) ** 2, weights=weights) ** 0.5
            assert statistics.rows == defined.sum()
            assert (statistics.mean, statistics.deviation) == pytest.approx(scales[split])
            assert (statistics.min, statistics.max) == (labels.min(), labels.max())
            for name, value in statistics.quantiles.items():
                expected = quantile(labels, weights, float(name.removesuffix("%")) / 100)
                assert value == pytest.approx(expected, rel=1 / 2048)
        smd = (scales["eval"][0] - scales["train"][0]) / scales["train"][1]
        assert task.smd == pytest.approx(smd)
        assert task.drifts == (abs(smd) > 0.1)
    printed = render(description)
    assert mentions(printed, "Regression tasks", "play", "spend")
    json.dumps(description.as_dict(), allow_nan=False)


def test_the_schema_of_encoded_files_has_the_scales_of_their_labels(regression_dataset: Path, tmp_path: Path) -> None:
    for split in ("train", "eval"):
        shutil.copytree(regression_dataset / split, tmp_path / split)
    expected = read_schema(regression_dataset)
    options = Options(
        directory=tmp_path,
        tasks=("click", "play", "buy:buy:click", "spend:spend:click"),
        regressions=("play", "spend"),
        weights={task.name: task.weight for task in expected.tasks if task.weight},
    )
    options.validate()
    schema, _ = describe_encoded(tmp_path, "numbers", Roles(tasks_of(options)))
    assert (schema.dense, schema.weight_columns) == (expected.dense, expected.weight_columns)
    for task, other in zip(schema.tasks, expected.tasks, strict=True):
        assert replace(task, mean=0.0, deviation=1.0) == replace(other, mean=0.0, deviation=1.0, huber=None, unit="")
        assert (task.mean, task.deviation) == pytest.approx((other.mean, other.deviation))
    with pytest.raises(ValueError, match=naming("weights 'like'", "click, play, buy, spend")):
        replace(options, weights={"like": "importance"}).validate()


def test_labels_of_a_period_are_in_units_of_the_kept_scale(tmp_path: Path) -> None:
    for number in range(2):
        stream = StreamOptions(stream=True, extend=tmp_path / "0" if number else None)
        log = write(tmp_path / f"{number}.csv", rows(60, seed=number))
        run_prepare(log, tmp_path / f"{number}", LAYOUT, stream=stream)
    first, second = (describe_period(tmp_path / f"{number}") for number in range(2))
    for task in first.regressions:
        assert (task.mean, task.deviation) == pytest.approx((0.0, 1.0), abs=1e-6)
        assert not task.drifts
    [watch, _] = second.regressions
    kept = read_schema(tmp_path / "1").tasks[1]
    table = pq.read_table(tmp_path / "1" / "stream")
    labels, weights = (table[name].to_numpy().astype(np.float64) for name in ("watch", "weight"))
    scaled = (labels - kept.mean) / kept.deviation
    mean = np.average(scaled, weights=weights)
    deviation = np.average((scaled - mean) ** 2, weights=weights) ** 0.5
    assert (watch.mean, watch.deviation) == pytest.approx((mean, deviation))
    assert watch.drifts == (abs(mean) > 0.1 or abs(deviation - 1) > 0.25)
    assert mentions(render_period(second), "Regression tasks", "watch", "paid")
    json.dumps(asdict(second), allow_nan=False)
