"""compare, from the command line to comparison.json."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.distributed.saved_model import read_model
from dlrm_mtl.metrics.estimates_file import read_estimates
from dlrm_mtl.reporting.runs.join import join_runs
from dlrm_mtl.reporting.runs.train_runs import read_job
from tests.entry_points.processes import complaint, python, run
from tests.messages import mentions

COMPARE = "dlrm_mtl.compare"
SMALL = ["--batch-size", "64", "--log-every", "3", "--model.head-mlp", "16", "--model.bottom-mlp", "8"]


def compare(data: Path, out: Path, *options: str | Path, processes: int = 0) -> dict[str, Any]:
    process = python(COMPARE, "--data", data, "--out", out, *SMALL, *options, processes=processes)
    assert process.returncode == 0, process.stderr
    assert str(out / "report.md") in process.stdout
    assert str(out / "report.html") in process.stdout
    # Rank 0 says what the ranks communicate by.
    assert process.stderr.count(f"{processes} ranks on 1 node communicate by gloo over ") == (processes > 1)
    comparison: dict[str, Any] = json.loads((out / "comparison.json").read_text())
    return comparison


def metrics_of(comparison: dict[str, Any]) -> dict[str, Any]:
    """Everything but the clock."""
    return {name: {**arm, "qps": None, "end_to_end_qps": None} for name, arm in comparison["arms"].items()}


ARMS = ["--arms", "mean", "multibalance:beta=0.1,prior_in_direction=0.5", "static:weights=0.5/0.3/0.2"]


@pytest.fixture(scope="module")
def finished(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    compare(small_dataset, out, *ARMS, "--seeds", "2", "--eval-every", "4", "--keep-models", "True", processes=2)
    return out


def test_the_run_directory_is_complete(finished: Path) -> None:
    comparison = json.loads((finished / "comparison.json").read_text())
    assert comparison["control"] == "mean"
    assert comparison["tasks"] == ["click", "like", "buy"]
    assert list(comparison["arms"]) == ARMS[1:]
    for arm in comparison["arms"].values():
        assert arm["seeds"] == [0, 1]
        assert {"median", "p10", "p90", "change_percent"} <= arm["qps"].keys() == arm["end_to_end_qps"].keys()
        covers = {"seeds and rows"} if arm is not comparison["arms"]["mean"] else {None}
        for gain in (arm["average_ne_gain_percent"], *(task["ne_gain_percent"] for task in arm["tasks"].values())):
            assert {gain["covers"]} == covers
        for task in arm["tasks"].values():
            assert {"ne", "auc", "calibration", "ne_gain_percent"} <= task.keys()
    length = {"rows": 600, "batch_size": 64, "epochs": 1, "max_steps": None, "ranks": 2, "steps": 9}
    assert comparison["training"] == length
    assert comparison["products"]["buy"]["rows"] == comparison["evaluation"]["click"]["rows"] == 200
    assert comparison["products"]["buy"]["positives"] == comparison["evaluation"]["buy"]["positives"]
    products = {name: arm["products"]["buy"] for name, arm in comparison["arms"].items()}
    for name, product in products.items():
        assert 0 < product["ne"] < 1.5
        assert 0 < product["auc"] < 1
        gain = product["ne_gain_percent"]
        assert gain["mean"] == pytest.approx(100 * (products["mean"]["ne"] - product["ne"]))
        assert gain["covers"] == (None if name == "mean" else "seeds and rows")
    treatment = comparison["arms"][ARMS[2]]["tasks"]["click"]
    control = comparison["arms"]["mean"]["tasks"]["click"]
    assert treatment["ne"] != control["ne"]
    assert treatment["ne_gain_percent"]["mean"] == pytest.approx(100 * (control["ne"] - treatment["ne"]))
    plan = json.loads((finished / "plan.json").read_text())
    assert [table["table"] for table in plan] == ["item", "tags", "user"]
    assert [path.name for path in sorted(finished.glob("seed-*/checkpoints/*"))] == ["step-00000009"] * 2
    model = read_model(finished / "seed-1/checkpoints/step-00000009", ARMS[2])
    assert [name for name in model if name.startswith("dense_part.heads.heads.task_click.")]
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["world_size"] == 2
    assert environment["versions"]["torch"].startswith("2.13")
    report, page = (finished / "report.md").read_text(), (finished / "report.html").read_text()
    assert "| end to end |" in re.sub(" +", " ", report)
    for text in (report, page):
        assert mentions(text, "WARNING", "9 training steps", 100)
    for figure in ("gain", "pareto", "weights", "norms", "weighted-norms", "cosines", "gap", "speed"):
        assert f'id="{figure}"' in page


def test_seeds_of_another_job(small_dataset: Path, finished: Path, tmp_path: Path) -> None:
    options = ["--seeds", "1", "--first-seed", "2"]
    comparison = compare(small_dataset, tmp_path / "more", *ARMS, *options, "--eval-every", "4", processes=2)
    assert comparison["arms"]["mean"]["seeds"] == [2]
    process = python("dlrm_mtl.report", finished, tmp_path / "more", "--out", tmp_path / "joined")
    assert process.returncode == 0, process.stderr
    joined = json.loads((tmp_path / "joined" / "comparison.json").read_text())
    assert joined["arms"][ARMS[2]]["products"]["buy"]["ne_gain_percent"]["covers"] == "seeds and rows"
    assert [arm["seeds"] for arm in joined["arms"].values()] == [[0, 1, 2]] * 3


def test_an_arm_of_a_run_by_itself_is_joined(small_dataset: Path, finished: Path, tmp_path: Path) -> None:
    out, same = tmp_path / "alone", ("--batch-size", "64", "--log-every", "3", "--eval-every", "4")
    process = python(
        "dlrm_mtl.train", "--data", small_dataset, "--out", out, "--arm", "mgda", "--seed", "1", *same, *SMALL[4:]
    )
    assert process.returncode == 0, process.stderr
    joined = join_runs([read_job(finished), read_job(out)])
    mgda = json.loads((out / "result.json").read_text())["arms"]["mgda"]["tasks"]["click"]
    control = json.loads((finished / "seed-1.json").read_text())["arms"]["mean"]["tasks"]["click"]
    assert joined["arms"]["mgda"]["seeds"] == [1]
    gain = joined["arms"]["mgda"]["tasks"]["click"]["ne_gain_percent"]
    assert gain["mean"] == pytest.approx(100 * (control["ne"] - mgda["ne"]))
    assert gain["covers"] == "rows"


def test_metrics_are_logged(finished: Path) -> None:
    for folder in (finished / "seed-0" / "mean", finished / "seed-1" / "multibalance-beta=0.1,prior_in_direction=0.5"):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        windows = [line for line in lines if line["kind"] == "train"]
        assert [line["step"] for line in windows] == [3, 6, 9]
        assert [line["step"] for line in lines if line["kind"] == "eval"] == [6, 9]
        for line in windows:
            assert line["gradient_norms"].keys() == {"click", "like", "buy"}
            assert all(norm > 0 for norm in line["gradient_norms"].values())
            assert line["cosines"].keys() == {"click/like", "click/buy", "like/buy"}
            assert 0 <= line["pareto_gap"] <= min(line["gradient_norms"].values())
        on_the_way, last = (line["tasks"]["click"] for line in lines if line["kind"] == "eval")
        assert "auprc" not in on_the_way
        assert 0 < last["auprc"] < 1
        results = json.loads((folder.parent.parent / f"{folder.parent.name}.json").read_text())["arms"]
        [arm] = [arm for name, arm in results.items() if name in (folder.name, folder.name.replace("-", ":", 1))]
        on_the_way, last = (line["products"]["buy"] for line in lines if line["kind"] == "eval")
        assert {key: arm["products"]["buy"][key] for key in last} == last
        assert 0 < on_the_way["ne"] < 2
        assert list((folder / "tensorboard").iterdir())


def test_estimates_are_those_of_the_results(finished: Path) -> None:
    for seed in (0, 1):
        results = json.loads((finished / f"seed-{seed}.json").read_text())["arms"]
        estimates = read_estimates(finished / f"seed-{seed}.npz")
        assert list(estimates) == list(results)
        for arm, found in estimates.items():
            for metric in ("ne", "auc", "auprc", "recalibrated_ne"):
                values = [task[metric] for task in results[arm]["tasks"].values()]
                assert found.estimates[metric].values.tolist() == pytest.approx(values, rel=1e-12)
                assert (found.estimates[metric].variance() > 0).all()
                [product] = found.product_estimates[metric].values
                assert product == results[arm]["products"]["buy"][metric]


def test_the_same_seeds_give_the_same_metrics(small_dataset: Path, finished: Path, tmp_path: Path) -> None:
    again = compare(
        small_dataset,
        tmp_path / "again",
        "--config",
        finished / "config.json",
        processes=2,
    )
    assert metrics_of(again) == metrics_of(json.loads((finished / "comparison.json").read_text()))


def test_a_finished_seed_is_not_trained_again(small_dataset: Path, finished: Path, tmp_path: Path) -> None:
    expected = (finished / "comparison.json").read_text()
    (finished / "comparison.json").unlink()
    shutil.rmtree(finished / "seed-1" / "checkpoints")
    process = python(
        COMPARE, "--data", small_dataset, "--out", finished, *SMALL, *ARMS, "--seeds", "2", "--eval-every", "4",
        "--show-plan", "True", "--keep-models", "True",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert re.search(r"^table +sharding +kernel ", process.stdout, flags=re.MULTILINE)
    assert mentions(process.stdout, "seed 0", "finished before", "seed 1", "finished before")
    assert process.stdout.count("models were not kept") == 1
    assert "steps" not in process.stderr
    assert (finished / "comparison.json").read_text() == expected


def test_another_configuration_in_the_same_directory_is_refused(small_dataset: Path, finished: Path) -> None:
    process = python(COMPARE, "--config", finished / "config.json", "--seeds", "3")
    assert mentions(complaint(process), "config.json", "seeds=2", 3)


def test_one_process_and_quiet_output(small_dataset: Path, tmp_path: Path) -> None:
    process = run("python", "-m", COMPARE, "--data", small_dataset, "--out", tmp_path / "run", *SMALL, "--seeds", "1")
    assert process.returncode == 0, process.stderr
    unexpected = [line for line in process.stderr.splitlines() if line and not line.startswith("seed 0: ")]
    assert unexpected == []
    assert "these models on other evaluation rows" in process.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--arms", "mean", "multibalanced"],
            "unknown balancer 'multibalanced', expected one of mean, sum, static, multibalance",
        ),
        (
            ["--arms", "mean", "mgda:level=interaction", "--batch-size", "100", "--model.interaction", "dot"],
            "level=interaction: this interaction has no parameters",
        ),
        (["--segments", "item", "hour"], "segments: the data set has no segment 'hour'; there is user, item"),
        (["--sharding.kinds", "row_wise"], "sharding.kinds has 'row_wise'"),
        (
            ["--task-weights", "click=1", "like=1"],
            "task_weights names ['click', 'like'], expected each task of the data",
        ),
        (["--batch-size", "1000"], "600 training rows, fewer than one global batch of 1000"),
    ],
)
def test_bad_options_get_one_line(small_dataset: Path, tmp_path: Path, options: list[str], message: str) -> None:
    process = python(COMPARE, "--data", small_dataset, "--out", tmp_path / "run", *options)
    assert message in complaint(process)
    assert not (tmp_path / "run" / "seed-0").exists()


def test_a_rank_speaks_for_all(small_dataset: Path, tmp_path: Path) -> None:
    process = python(COMPARE, "--data", small_dataset, "--out", tmp_path / "run", "--batch-size", "63", processes=2)
    assert process.returncode != 0
    assert sum(mentions(line, "compare", "batch_size", 63, "2 ranks") for line in process.stderr.splitlines()) == 1


def test_versions_that_do_not_go_together(small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "torchrec-1.7.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: torchrec\nVersion: 1.7.0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = run("python", "-m", COMPARE, "--data", small_dataset, "--out", tmp_path / "run")
    assert "torchrec 1.7.0" in complaint(process)
    assert mentions(process.stderr, "torch 2.13", "torchrec 1.8", "fbgemm-gpu-cpu", "1.8")


def test_no_data(tmp_path: Path) -> None:
    process = python(COMPARE, "--data", tmp_path, "--out", tmp_path / "run")
    assert mentions(complaint(process), "schema.json", "not found")


def test_more_ranks_than_row_groups(tmp_path: Path) -> None:
    from tests.datasets import make_dataset

    data = make_dataset(tmp_path / "one-group", rows=200, eval_rows=50, row_group_rows=1000)
    comparison = compare(data, tmp_path / "run", "--seeds", "1", "--max-steps", "2", "--batch-size", "66", processes=3)
    assert comparison["arms"]["mean"]["tasks"]["click"]["ne"] > 0


def test_an_exploded_arm_is_reported(small_dataset: Path, tmp_path: Path) -> None:
    options = ["--arms", "mean", "sum", "--seeds", "1", "--optimizer.dense", "sgd", "--optimizer.dense-lr", "1e30"]
    comparison = compare(small_dataset, tmp_path / "run", *options)
    assert comparison["arms"]["sum"]["tasks"]["click"]["exploded_seeds"] == [0]
    assert "NEX" in (tmp_path / "run" / "report.md").read_text()
    for line in (tmp_path / "run" / "seed-0" / "sum" / "metrics.jsonl").read_text().splitlines():
        assert "NaN" not in line
