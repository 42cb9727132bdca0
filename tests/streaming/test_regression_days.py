"""Days with regression tasks and row weights: the stream's metrics, those of evaluate, and those of the predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.inference.evaluation.evaluating import evaluate
from dlrm_mtl.inference.evaluation.options import EvaluateOptions
from tests.inference.predictions import predict_rows, read_rows
from tests.ranks import RankPool
from tests.regression_data import TASKS, regression_table
from tests.streaming.small_days import make_day
from tests.streaming.test_running import ARMS, config, stream


def evaluated(ranks: Ranks, options: EvaluateOptions) -> Any:
    return evaluate(options, ranks)


def test_the_next_day_is_evaluated_as_its_predictions_say(rank_pool: RankPool, tmp_path: Path) -> None:
    """The model of two days, on the third: in the stream that goes on, by evaluate, and by hand in float64."""
    days = [make_day(tmp_path / name, day, TASKS, rows=regression_table) for day, name in enumerate("abc")]
    out, third = tmp_path / "run", days[-1]
    assert rank_pool.run(1, stream, config(tuple(days[:2]), out, keep_models=True)) == [""]
    model = out / "days/0001-b/seed-0"
    options = {"checkpoint": model, "data": third, "out": tmp_path / "predicted", "arm": "mean", "split": "stream"}
    assert rank_pool.run(1, predict_rows, options) == [""]
    asked = EvaluateOptions((model,), third, tmp_path / "evaluation.json", arm=ARMS, split="stream")
    [evaluation] = rank_pool.run(1, evaluated, asked)
    assert rank_pool.run(1, stream, config(tuple(days), out, keep_models=True)) == [""]
    of_seed = json.loads((out / "days/0002-c/seed-0.json").read_text())["arms"]

    rows, predicted = pq.read_table(next(third.glob("stream/*.parquet"))), read_rows(tmp_path / "predicted")
    for task in TASKS:
        of_stream, of_evaluate = (arms["mean"]["tasks"][task.name] for arms in (of_seed, evaluation["arms"]))
        if task.kind == "binary":
            assert of_evaluate["ne"] == pytest.approx(of_stream["ne"], rel=1e-6)
            continue
        weights = np.ones(len(rows))
        for column in filter(None, (task.given, task.weight)):
            weights *= rows[column].to_numpy()
        label, prediction = rows[task.label].to_numpy(), predicted[f"predicted_{task.name}"].to_numpy()
        label, prediction = label.astype(np.float64), prediction.astype(np.float64)
        error, spread = prediction - label, label - np.average(label, weights=weights)
        by_hand = {
            "nmse": np.average(error**2, weights=weights) / np.average(spread**2, weights=weights),
            "mae": np.average(abs(error), weights=weights),
            "mean_error": np.average(error, weights=weights),
        }
        for metrics in (of_stream, of_evaluate):
            assert metrics["kind"] == "regression"
            assert {name: metrics[name] for name in by_hand} == pytest.approx(by_hand, rel=1e-4, abs=1e-4)
