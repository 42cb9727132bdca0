"""evaluate, from the command line to its file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.engine.options import IdOptions
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.inference.evaluation.evaluating import evaluate
from dlrm_mtl.inference.evaluation.options import EvaluateOptions
from dlrm_mtl.inference.evaluation.text import format_evaluation
from dlrm_mtl.model_schema import Task
from dlrm_mtl.run_config import CompareConfig
from dlrm_mtl.studies.comparison import run_comparison
from tests.data.faults import destroy_a_page, use_an_unknown_id
from tests.data_prep.logs import lines_of, run_prepare, write_log
from tests.datasets import TASKS, make_dataset
from tests.distributed.training import run_config
from tests.entry_points.processes import complaint, python
from tests.inference.training import train_and_predict
from tests.messages import mentions
from tests.ranks import RankPool
from tests.training.test_init_from import changed_copy, other_vocabulary

ARMS = ("mean", "multibalance:beta=0.1", "single_task")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "small", with_context=True)


@pytest.fixture(scope="module")
def run(data: Path, rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two ranks that keeps its models."""
    model = ModelConfig(relation="esmm", head_mlp=(16,))
    config = CompareConfig(data, tmp_path_factory.mktemp("runs") / "run", 64, log_every=3, model=model, arms=ARMS)
    rank_pool.run(2, compare, replace(config, seeds=1, keep_models=True, segments=("tab",)))
    return config.out


def compare(ranks: Ranks, config: CompareConfig) -> None:
    run_comparison(config, ranks)


def evaluated(ranks: Ranks, options: EvaluateOptions) -> dict[str, Any] | str:
    """The result, or why there is none."""
    try:
        return evaluate(options, ranks)
    except ValueError as error:
        return str(error)


def assert_close(result: Any, expected: Any, tolerance: float = 1e-6, where: str = "") -> None:
    """Equal but for rounding in numbers, for the keys that are expected."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert_close(result[key], value, tolerance, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(result) == len(expected), where
        for index, pair in enumerate(zip(result, expected, strict=True)):
            assert_close(*pair, tolerance, f"{where}[{index}]")
    elif isinstance(expected, float):
        np.testing.assert_allclose(result, expected, tolerance, tolerance, err_msg=where)
    else:
        assert result == expected, where


@pytest.mark.parametrize("world_size", [1, 2])
def test_it_finds_what_training_did(
    data: Path, run: Path, rank_pool: RankPool, tmp_path: Path, world_size: int
) -> None:
    """The metrics of seed-S.json, and the gains of comparison.json."""
    options = EvaluateOptions((run,), data, tmp_path / "evaluation.json", arm=ARMS, segments=("tab",))
    if world_size == 1:
        process = python(
            "dlrm_mtl.evaluate", "--checkpoint", run, "--arm", *ARMS, "--data", data, "--out", options.out,
            "--segments", "tab",
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        printed = process.stdout
    else:
        [result, _] = rank_pool.run(world_size, evaluated, options)
        printed = format_evaluation(result)
    result = json.loads(options.out.read_text())
    trained = json.loads((run / "seed-0.json").read_text())["arms"]
    compared = json.loads((run / "comparison.json").read_text())
    assert {key: result[key] for key in ("control", "data_set", "split", "clusters", "notes")} == {
        "control": "mean", "data_set": "small", "split": "eval", "clusters": "visitor", "notes": [],
    }  # fmt: skip
    assert_close(result["evaluation"], compared["evaluation"])
    for name, arm in result["arms"].items():
        assert (arm["arm"], arm["step"]) == (name, 9)
        assert arm["checkpoint"] == str(run / "seed-0/checkpoints/step-00000009")
        for kind in ("tasks", "products"):
            for task, record in trained[name].get(kind, {}).items():
                of_task = arm[kind][task]
                assert_close(of_task, {key: value for key, value in record.items() if key != "ne_gain_percent"})
                for metric in ("ne", "auc", "auprc", "gauc", "recalibrated_ne"):
                    assert (
                        of_task[f"{metric}_interval"]["low"] < of_task[metric] < of_task[f"{metric}_interval"]["high"]
                    )
                assert f"{of_task['ne']:.4f} ± " in printed
    [_, *treatments] = ARMS
    for name in treatments:
        arm, expected = result["arms"][name], compared["arms"][name]
        for key in ("mean", "low", "high"):
            assert_close(arm["average_ne_gain_percent"][key], expected["average_ne_gain_percent"][key], 1e-4)
        for task, record in expected["tasks"].items():
            for metric in ("ne", "relative_ne", "auc", "gauc", "recalibrated_ne"):
                gain, of_comparison = (each[f"{metric}_gain_percent"] for each in (arm["tasks"][task], record))
                assert_close(gain, {key: of_comparison[key] for key in gain}, 1e-4)
            assert f"{record['ne_gain_percent']['mean']:+.3f} [" in printed
        assert_close(arm["segments"], expected["segments"], 1e-4)
    home = result["arms"]["mean"]["segments"]["tab"]["home"]
    assert home["rows"] == 100
    assert home["tasks"]["click"]["ne_interval"]["low"] < home["tasks"]["click"]["ne"]


def test_the_train_split(data: Path, run: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    options = EvaluateOptions((run,), data, tmp_path / "file.json", split="train", segments=("user",))
    result, other = rank_pool.run(2, evaluated, options)
    assert result == other
    assert json.loads(json.dumps(result)) == json.loads(options.out.read_text())
    assert result["split"] == "train"
    assert [mentions(note, word) for note, word in zip(result["notes"], ("'mean'", "train"), strict=True)] == [True] * 2
    click = result["arms"]["mean"]["tasks"]["click"]
    assert click["rows"] == 600
    assert "gauc_interval" not in click
    assert sum(value["rows"] for value in result["arms"]["mean"]["segments"]["user"].values()) == 600


def test_two_checkpoints(data: Path, run: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    """Of the same model, and of two arms."""
    path = shutil.copytree(run / "seed-0/checkpoints/step-00000009", tmp_path / "copy")
    same = EvaluateOptions((run, path), data, tmp_path / "file.json", arm=("mean",), segments=("tab",))
    two = replace(same, arm=ARMS[:2])
    for options, names in ((same, [f"mean in {run}", f"mean in {path}"]), (two, [*ARMS[:2]])):
        [result] = rank_pool.run(1, evaluated, options)
        assert [name.replace("/seed-0/checkpoints/step-00000009", "") for name in result["arms"]] == names
        control, arm = result["arms"].values()
        gain = arm["tasks"]["click"]["ne_gain_percent"]
        difference = 100 * (control["tasks"]["click"]["ne"] - arm["tasks"]["click"]["ne"])
        assert gain["mean"] == pytest.approx(difference)
        assert gain["covers"] == "rows"
        assert (arm["average_ne_gain_percent"]["low"] == 0) == (options is same)


def test_tasks_that_model_and_data_set_both_have(data: Path, run: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    other = make_dataset(tmp_path / "other", tasks=(Task("cart", "like"), TASKS[2], TASKS[0]), with_context=True)
    results = []
    for each in (data, other):
        [result] = rank_pool.run(1, evaluated, EvaluateOptions((run,), each, tmp_path / "f.json", arm=("single_task",)))
        results.append(result)
    full, common = results
    assert common["tasks"] == ["buy", "click"]
    assert mentions(common["notes"][0], "cart, like")
    for task in common["tasks"]:
        assert_close(*(each["arms"]["single_task"]["tasks"][task] for each in (common, full)))


def test_rows_too_few_for_some_metrics(data: Path, run: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    """Of one class, and without the task that another is given."""
    few = make_dataset(tmp_path / "few", tasks=(TASKS[2],), eval_rows=3)
    options = EvaluateOptions((run,), few, tmp_path / "file.json", arm=("mean", "single_task"))
    [result] = rank_pool.run(1, evaluated, options)
    buy = result["arms"]["single_task"]["tasks"]["buy"]
    assert buy["positives"] in (0, buy["rows"])
    assert (buy["ne"], buy["ne_interval"], buy["ne_gain_percent"], result["products"]) == (None, None, None, {})
    assert "| buy " in format_evaluation(result)


def test_rows_of_other_days_by_the_encoding_of_training(rank_pool: RankPool, tmp_path: Path) -> None:
    for day in range(2):
        write_log(tmp_path / f"day_{day}", lines_of(400, seed=day))
    trained, later, other = (tmp_path / name for name in ("trained", "later", "other"))
    run_prepare(tmp_path / "day_0", trained)
    run_prepare(tmp_path / "day_1", later, ids=IdOptions(encoding=trained))
    run_prepare(tmp_path / "day_1", other)
    rank_pool.run(1, train_and_predict, run_config(trained, log_every=2), tmp_path / "run", ["mean"])
    [result] = rank_pool.run(1, evaluated, EvaluateOptions((tmp_path / "run",), later, tmp_path / "file.json"))
    assert result["arms"]["mean"]["tasks"]["click"]["rows"] == 40
    assert mentions(refused(rank_pool, tmp_path / "run", other), other, "--encoding")


def refused(pool: RankPool, run: Path, data: Path, **changes: Any) -> str:
    options = replace(EvaluateOptions((run,), data, data.parent / "evaluation.json"), **changes)
    [error] = pool.run(1, evaluated, options)
    assert isinstance(error, str)
    assert not options.out.exists()
    return error


def test_what_does_not_fit_is_named_before_data_are_read(
    data: Path, run: Path, rank_pool: RankPool, tmp_path: Path
) -> None:
    changed = changed_copy(data, tmp_path, other_vocabulary)
    destroy_a_page(changed / "eval" / "part-00000.parquet")
    assert mentions(refused(rank_pool, run, changed), changed, "sha256 fedcba9876543210", "--encoding")
    assert mentions(refused(rank_pool, run, data, arm=("sum",)), "'sum'", "single_task")
    file = tmp_path / "no" / "evaluation.json"
    assert mentions(refused(rank_pool, run, data, out=file), "out", file)
    assert mentions(refused(rank_pool, run, data, segments=("hours",)), "'hours'", "hour, tab, user")
    of_others = make_dataset(tmp_path / "others", tasks=(Task("cart", "like"),))
    assert mentions(refused(rank_pool, run, of_others), of_others, "'cart'", "'click'")
    given = make_dataset(tmp_path / "given", tasks=(TASKS[0], Task("buy", "buy")))
    assert mentions(refused(rank_pool, run, given), given, "'buy'", "''", "'click'")
    damaged = shutil.copytree(run / "seed-0/checkpoints/step-00000009", tmp_path / "damaged")
    [weights, *_] = damaged.glob("*.distcp")
    weights.write_bytes(weights.read_bytes()[:-1])
    assert mentions(refused(rank_pool, damaged, data), damaged, weights.name, "bytes")


def test_damaged_rows_are_named(data: Path, run: Path, rank_pool: RankPool, tmp_path: Path) -> None:
    bad = shutil.copytree(data, tmp_path / "bad")
    (bad / "train" / "part-00000.parquet").unlink()
    [result] = rank_pool.run(1, evaluated, EvaluateOptions((run,), bad, tmp_path / "evaluation.json"))
    assert not isinstance(result, str)
    (tmp_path / "evaluation.json").unlink()
    use_an_unknown_id(bad / "eval" / "part-00000.parquet")
    assert mentions(refused(rank_pool, run, bad), bad / "eval" / "part-00000.parquet", "row")


def test_a_comparison_without_models(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "seed-0").mkdir(parents=True)
    process = python(
        "dlrm_mtl.evaluate", "--checkpoint", tmp_path / "run", "--data", data, "--out", tmp_path / "f.json"
    )
    assert mentions(complaint(process), tmp_path / "run", "--keep-models True")
