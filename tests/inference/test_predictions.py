"""Predictions: every row once and in order, the same from any ranks, after any interruption."""

import json
import resource
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.files import sha256
from tests.data.faults import rewrite
from tests.datasets import TASKS, make_dataset
from tests.distributed.training import run_config
from tests.inference.predictions import predict_rows, read_rows
from tests.messages import mentions
from tests.ranks import RankPool
from tests.training.runs import side_by_side

ROWS = 200
NAMES = ["p_click", "p_like", "p_buy", "p_click_and_buy"]
ARMS = ["mean", "single_task"]
CARRIED = ("cluster:visitor", "history", "click", "buy", "like")

Predict = Callable[..., str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 200 eval rows in row groups of 64; not to be changed."""
    return make_dataset(tmp_path_factory.mktemp("data") / "data", eval_rows=ROWS, with_context=True)


@pytest.fixture(scope="module")
def trained(data: Path, rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run, and its results by arm."""
    model = ModelConfig(relation="esmm", head_mlp=(8,))
    config = run_config(data, out=tmp_path_factory.mktemp("run"), max_steps=6, log_every=3, model=model)
    return config.out, rank_pool.run(1, side_by_side, config, ARMS, 0)[0]


@pytest.fixture
def run(data: Path, trained: tuple[Path, Any], rank_pool: RankPool, tmp_path: Path) -> Predict:
    """Predicts into ``tmp_path / "out"``, in files of 64, 64, 64 and 8 rows; returns the error."""

    def predict(world_size: int = 1, room: int = resource.RLIM_INFINITY, **changes: Any) -> str:
        options = {"checkpoint": trained[0], "data": data, "out": tmp_path / "out", "batch_size": 20}
        errors = rank_pool.run(world_size, predict_rows, {**options, "rows_per_file": 64, **changes}, room)
        assert len(set(errors)) == 1
        return str(errors[0])

    return predict


def normalized_entropy(
    labels: npt.NDArray[np.float64], probabilities: npt.NDArray[np.float64], defined: npt.NDArray[np.bool_]
) -> float:
    def log_loss(p: Any) -> npt.NDArray[np.float64]:
        losses: npt.NDArray[np.float64] = -(labels * np.log(p) + (1 - labels) * np.log(1 - p))[defined]
        return losses

    return float(log_loss(probabilities).mean() / log_loss(labels[defined].mean()).mean())


@pytest.mark.parametrize("arm", ARMS)
def test_the_files_give_the_metrics_of_the_evaluation(
    run: Predict, trained: tuple[Path, Any], tmp_path: Path, arm: str
) -> None:
    assert run(2, arm=arm, columns=CARRIED) == ""
    table = read_rows(tmp_path / "out")
    assert table.column_names == [*CARRIED, *NAMES]
    columns = {name: table[name].to_numpy().astype(float) for name in table.column_names if name not in CARRIED[:2]}
    everywhere = np.ones(ROWS, dtype=bool)
    evaluation = trained[1][arm].evaluation
    for task, metrics in zip(TASKS, evaluation.tasks, strict=True):
        defined = columns[task.given] == 1 if task.given else everywhere
        assert normalized_entropy(columns[task.label], columns[f"p_{task.name}"], defined) == pytest.approx(
            metrics.ne, abs=1e-6
        )
    of_product = normalized_entropy(columns["click"] * columns["buy"], columns["p_click_and_buy"], everywhere)
    assert evaluation.products.keys() == ({"buy"} if arm == "mean" else set())
    for metrics in evaluation.products.values():
        assert of_product == pytest.approx(metrics.ne, abs=1e-6)
    np.testing.assert_allclose(columns["p_click"] * columns["p_buy"], columns["p_click_and_buy"], rtol=1e-6)


def test_any_ranks_write_the_same_rows_in_the_order_of_the_data(run: Predict, data: Path, tmp_path: Path) -> None:
    outs = [tmp_path / str(ranks) for ranks in (1, 2, 3)]
    for ranks, out in enumerate(outs, 1):
        assert run(ranks, columns=CARRIED, out=out) == ""
    alone, *others = (read_rows(out) for out in outs)
    source = pa.concat_tables([pq.read_table(file) for file in sorted((data / "eval").iterdir())])
    assert alone.select(CARRIED).equals(source.select(CARRIED).cast(alone.select(CARRIED).schema))
    for other in others:
        assert other.select(CARRIED).equals(alone.select(CARRIED))
        for name in NAMES:
            np.testing.assert_allclose(other[name].to_numpy(), alone[name].to_numpy(), rtol=1e-6)
    manifests = [json.loads((out / "predictions.json").read_text()) for out in outs]
    assert [part["rows"] for part in manifests[0]["parts"]] == [64, 64, 64, 8]
    for out, manifest in zip(outs, manifests, strict=True):
        assert {part["file"]: part["sha256"] for part in manifest["parts"]} == {
            str(file.relative_to(out)): sha256(file) for file in (out / "parts").iterdir()
        }
    assert manifests[0]["probabilities"] == dict(
        zip(NAMES, [["click"], ["like"], ["buy"], ["click", "buy"]], strict=True)
    )
    assert manifests[0]["given"] == {"p_buy": "click"}
    assert (manifests[0]["arm"], manifests[0]["step"], manifests[0]["rows"]) == ("mean", 6, ROWS)


def test_of_training_rows_and_without_columns(run: Predict, tmp_path: Path) -> None:
    assert run(split="train") == ""
    table = read_rows(tmp_path / "out")
    assert (table.column_names, len(table)) == (NAMES, 600)
    assert all(field.type == pa.float32() and not field.nullable for field in table.schema)


def interrupt(out: Path, change: Callable[[list[Path]], None]) -> list[Path]:
    """Makes finished predictions those of a process that was killed; returns their files."""
    partial = out.rename(out.with_name(f"{out.name}.partial"))
    manifest = json.loads((partial / "predictions.json").read_text())
    (partial / "predictions.json").write_text(json.dumps({**manifest, "parts": []}))
    files = sorted((partial / "parts").iterdir())
    change(files)
    return files


def lose_one(files: Sequence[Path]) -> None:
    files[1].rename(files[1].with_name(f".{files[1].name}.0123456789abcdef.tmp"))


def damage_one(files: Sequence[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:-100])


def shorten_one(files: Sequence[Path]) -> None:
    rewrite(files[1], lambda table: table.slice(1))


def lose_all(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink()


def lose_none(files: Sequence[Path]) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "written"), [(lose_one, [1]), (damage_one, [1]), (shorten_one, [1]), (lose_none, [])]
)
def test_interrupted_predictions_go_on(
    run: Predict, tmp_path: Path, change: Callable[[Sequence[Path]], None], written: list[int]
) -> None:
    out = tmp_path / "out"
    assert run(columns=CARRIED) == ""
    before = {file.name: file.read_bytes() for file in (out / "parts").iterdir()}
    manifest = (out / "predictions.json").read_text()
    times = {file.name: file.stat().st_mtime_ns for file in interrupt(out, change) if file.exists()}
    assert run(2, columns=CARRIED) == ""
    after = sorted((out / "parts").iterdir())
    assert {file.name: file.read_bytes() for file in after} == before
    assert (out / "predictions.json").read_text() == manifest
    assert [i for i, file in enumerate(after) if times.get(file.name) != file.stat().st_mtime_ns] == written
    assert not (tmp_path / "out.partial").exists()


def test_a_file_that_cannot_be_written_is_named(run: Predict, tmp_path: Path) -> None:
    assert mentions(
        run(room=8000, columns=CARRIED, rows_per_file=ROWS), tmp_path / "out.partial/parts/part-00000.parquet"
    )
    assert not [*(tmp_path / "out.partial" / "parts").iterdir()]
    assert run(columns=CARRIED, rows_per_file=ROWS) == ""
    assert len(read_rows(tmp_path / "out")) == ROWS


def test_finished_predictions_are_not_done_again(run: Predict, tmp_path: Path) -> None:
    assert run() == ""
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*")}
    assert run(2) == ""
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*")} == before


@pytest.fixture(scope="module")
def other_data(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same ids in other rows."""
    return make_dataset(tmp_path_factory.mktemp("other") / "data", eval_rows=ROWS + 1, with_context=True)


@pytest.mark.parametrize("finished", [True, False])
def test_other_predictions_in_the_same_place_are_refused(
    run: Predict, trained: tuple[Path, Any], other_data: Path, tmp_path: Path, finished: bool
) -> None:
    out = tmp_path / "out"
    assert run(columns=("click",)) == ""
    if not finished:
        interrupt(out, lose_one)
    place = str(out if finished else tmp_path / "out.partial")
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    manifest = next(copy.glob("checkpoints/*/checkpoint.json"))
    for changes, named in (
        ({"columns": ("like",)}, (place, "columns", "('click',)", "('like',)")),
        ({"columns": ("click",), "arm": "single_task"}, (place, "arm", "'mean'", "'single_task'")),
        ({"columns": ("click",), "rows_per_file": 128}, (place, "rows_per_file", 64, 128)),
        ({"columns": ("click",), "data": other_data}, (other_data / "schema.json", 201, 200)),
        ({"columns": ("click",), "split": "train"}, ("schema.json",)),
    ):
        assert mentions(run(**changes), *named), changes
    manifest.write_text(manifest.read_text() + " ")
    assert mentions(run(columns=("click",), checkpoint=copy), place, "checkpoint_sha256", trained[0], copy)
    manifest.write_text(manifest.read_text()[:-1])
    assert run(columns=("click",), checkpoint=copy) == ""


def test_predictions_that_wrote_nothing_do_not_bind(run: Predict, tmp_path: Path) -> None:
    assert run(columns=("click",)) == ""
    interrupt(tmp_path / "out", lose_all)
    assert run(columns=("like",)) == ""
    assert read_rows(tmp_path / "out").column_names == ["like", *NAMES]


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        (("visitor",), ("columns", "part-00000.parquet", "'visitor'", "user", "cluster:visitor")),
        (("user", "user"), ("columns", "'user'", "twice")),
        (("p_click",), ("columns", "'p_click'")),
    ],
)
def test_bad_columns_are_refused(
    run: Predict, tmp_path: Path, columns: tuple[str, ...], named: tuple[str, ...]
) -> None:
    assert mentions(run(2, columns=columns), *named)
    assert not [*tmp_path.glob("out*")]


def test_a_place_with_other_files_is_refused(run: Predict, tmp_path: Path) -> None:
    for name in ("out", "out.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").touch()
        assert mentions(run(), tmp_path / name)
        (tmp_path / name / "notes.txt").unlink()
    assert run() == ""


def test_other_features_are_refused(run: Predict, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    schema = json.loads((data / "schema.json").read_text())
    schema["dense"].reverse()
    (tmp_path / "data" / "schema.json").write_text(json.dumps(schema))
    assert mentions(run(data=tmp_path / "data"), "dense feature number 1", "'age'", "'price'")
    assert not [*tmp_path.glob("out*")]


def test_rows_of_tomorrow_need_features_alone(run: Predict, data: Path, tmp_path: Path) -> None:
    """No labels, no clusters or segments, no training rows."""
    assert run(out=tmp_path / "labelled") == ""
    shutil.copytree(data / "eval", tmp_path / "data" / "eval")
    schema = json.loads((data / "schema.json").read_text())
    schema["splits"]["eval"] = [{**shard, "sha256": ""} for shard in schema["splits"]["eval"]]
    (tmp_path / "data" / "schema.json").write_text(json.dumps(schema))
    features = [feature["name"] for feature in schema["categorical"]] + schema["dense"]
    for file in (tmp_path / "data" / "eval").iterdir():
        rewrite(file, lambda table: table.select(features))
    assert run(data=tmp_path / "data", columns=("user",)) == ""
    assert read_rows(tmp_path / "out").select(NAMES).equals(read_rows(tmp_path / "labelled"))


def test_columns_of_every_type_are_carried_over(run: Predict, tmp_path: Path) -> None:
    """Also where shards have different types of a column."""
    data = make_dataset(tmp_path / "data", eval_rows=300)
    schema = json.loads((data / "schema.json").read_text())
    expected: dict[str, list[Any]] = {}
    for number, shard in enumerate(schema["splits"]["eval"]):
        rows = range(shard["rows"])
        further = {
            "id": pa.array([row + number for row in rows], (pa.int32(), pa.int64())[number]),
            "when": pa.array([1000 * row for row in rows], pa.timestamp(("s", "us")[number])),
            "vector": pa.array([[row, 1] for row in rows], pa.list_(pa.float32(), 2)),
            "country": pa.array([("de", None)[row % 2] for row in rows]).dictionary_encode(),
            "a.b": pa.array([{"c": row} for row in rows]),
        }
        table = pq.read_table(data / shard["file"])
        for name, column in further.items():
            table = table.append_column(name, column)
        pq.write_table(table, data / shard["file"], row_group_size=64)
        for name, column in further.items():
            expected.setdefault(name, []).extend(column.to_pylist())
    schema["splits"]["eval"] = [{**shard, "sha256": ""} for shard in schema["splits"]["eval"]]
    (data / "schema.json").write_text(json.dumps(schema))
    assert run(data=data, columns=tuple(expected), check="footers") == ""
    table = read_rows(tmp_path / "out")
    assert table.schema.field("id").type == pa.int64()
    assert pa.types.is_fixed_size_list(table.schema.field("vector").type)
    assert {name: table[name].to_pylist() for name in expected} == expected
