"""Training goes on from one period to the next: with larger tables, ids that begin anew, and other tasks."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlrm_mtl.config import ModelConfig, OptimizerConfig, ScheduleConfig
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.export_options import ExportOptions
from dlrm_mtl.files import sha256
from dlrm_mtl.inference.evaluation.evaluating import evaluate
from dlrm_mtl.inference.evaluation.options import EvaluateOptions
from dlrm_mtl.model_schema import Task
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.schema import read_schema
from dlrm_mtl.serving.writing import write_export
from dlrm_mtl.training.state.init_from import Start
from tests.datasets import TASKS
from tests.distributed.training import Weights, assemble, run_config
from tests.inference.predictions import predict_rows, read_rows
from tests.json_edits import edit
from tests.messages import mentions, naming
from tests.ranks import RankPool
from tests.streaming.small_days import RESET, SIZES, make_day, make_days
from tests.training.periods import Begun, Trained, begin, joined, last_checkpoint, train, uninterrupted
from tests.training.resuming import run_part

ARMS = ("mean", "multibalance", "mgda:level=embedding", "single_task")
NAMES = [task.name for task in TASKS]
ROWS = 150
"""Of a day."""
NEW = np.array(sorted({*RESET[1], *RESET[2], *range(SIZES[0], SIZES[2])}))
"""Users of day 2 that begin anew after day 0."""


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return make_days(tmp_path_factory.mktemp("days"), 3)


def config(data: Path, out: Path, **changes: Any) -> RunConfig:
    return run_config(data, out=out, log_every=2, optimizer=OptimizerConfig(), **changes)


def after(out: Path, skipped: Sequence[Path] = ()) -> Start:
    """The start from the last checkpoint of a period."""
    return Start(last_checkpoint(out), goes_on=True, skipped=tuple((each, read_schema(each)) for each in skipped))


@pytest.fixture(scope="module")
def first_day(
    days: tuple[Path, ...], rank_pool: RankPool, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Trained]:
    """The run directory and results of day 0."""
    out = tmp_path_factory.mktemp("day-0")
    [trained] = rank_pool.run(1, train, config(days[0], out), ARMS)
    return out, trained


def test_a_continued_run_is_an_uninterrupted_one(days: tuple[Path, ...], rank_pool: RankPool, tmp_path: Path) -> None:
    """Bit for bit: weights, optimizers, the positions of schedules, the balancer, random numbers."""
    schedule = ScheduleConfig(warmup_steps=3, decay_start=5, decay_steps=6, final_scale=0.1)
    optimizer = OptimizerConfig(table_schedule=schedule, dense_schedule=schedule)
    arms = ("multibalance:reduction=delayed", "graddrop")
    one, two = (replace(config(days[0], tmp_path / name), optimizer=optimizer) for name in ("one", "two"))
    rank_pool.run(1, train, one, arms, None, None, None, False)
    [continued] = rank_pool.run(1, train, two, arms, after(one.out))
    for arm in arms:
        [expected] = rank_pool.run(1, uninterrupted, [one, two], arm)
        found = continued.state[arm]
        names = [name for name in expected if "lifetime" not in name]
        assert {name.split("/")[1] for name in names} == {"model", "optimizer"}
        assert any("__warmup" in name for name in names)
        assert {name for name in found if "lifetime" not in name} == set(names)
        for name in names:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def whole(parts: Sequence[Begun | Trained], arm: str) -> Weights:
    """Tensors of all ranks, without counts of metrics."""
    states = [{name: value for name, value in part.state[arm].items() if "lifetime" not in name} for part in parts]
    return assemble([{"state": state} for state in states], "state")


def of_users(state: Weights, size: int) -> dict[str, npt.NDArray[Any]]:
    """(blocks, size, columns) weights and optimizer state of all tables of users."""
    return {
        name: values.reshape(-1, size, values.shape[-1] if values.ndim > 1 else 1)
        for name, values in state.items()
        if ".user" in name and values.size >= size
    }


def assert_rows_begin_anew(begun: Weights, before: Weights, fresh: Weights) -> None:
    """New users are as those of a fresh model, old ones as before, everything else as before."""
    now, then, untouched = (of_users(*pair) for pair in ((begun, SIZES[2]), (before, SIZES[0]), (fresh, SIZES[2])))
    old = np.setdiff1d(np.arange(SIZES[2]), NEW)
    assert now.keys() == then.keys()
    assert sum("/model/" in name for name in now) == sum("/optimizer/" in name for name in now) > 0
    for name, values in now.items():
        np.testing.assert_array_equal(values[:, old], then[name][:, old], err_msg=name)
        initial = untouched[name] if "/model/" in name else np.zeros_like(values)
        np.testing.assert_array_equal(values[:, NEW], initial[:, NEW], err_msg=name)
        assert np.any(then[name][:, RESET[2]] != initial[:, RESET[2]]), name
    for name in begun.keys() - now.keys():
        np.testing.assert_array_equal(begun[name], before[name], err_msg=name)


@pytest.mark.parametrize(("world_size", "kind"), [(1, None), (2, "row_wise"), (2, "table_wise")])
def test_rows_that_begin_anew(
    days: tuple[Path, ...],
    first_day: tuple[Path, Trained],
    rank_pool: RankPool,
    tmp_path: Path,
    world_size: int,
    kind: str | None,
) -> None:
    """Also over a day that is skipped, and on other ranks and plans than before."""
    out, trained = first_day
    arms = ARMS[1:] if world_size == 1 else ARMS[1:2]
    config_2 = config(days[2], tmp_path)
    start = replace(after(out, [days[1]]))
    # The checkpoint has all arms; those that start take theirs by name.
    begun = rank_pool.run(world_size, begin, config_2, arms, start, None, kind)
    fresh = rank_pool.run(world_size, begin, config_2, arms, None, None, kind)
    for arm in arms:
        if arm == "single_task":
            continue
        assert_rows_begin_anew(whole(begun, arm), whole([trained], arm), whole(fresh, arm))
    assert begun[0].steps == (4, 4, 8)
    if "single_task" in arms:
        assert_models_begin_anew(begun[0], trained, fresh[0])


def assert_models_begin_anew(begun: Begun, trained: Trained, fresh: Begun) -> None:
    """The same of a model per task."""
    now, then, untouched = (part.state["single_task"] for part in (begun, trained, fresh))
    for task in range(len(TASKS)):
        of_task = [
            {name: value for name, value in state.items() if name.startswith(f"arm-{task}/") and "lifetime" not in name}
            for state in (now, then, untouched)
        ]
        assert_rows_begin_anew(*(assemble([{"state": state}], "state") for state in of_task))


def test_tables_that_grow_are_sharded_by_columns(days: tuple[Path, ...], rank_pool: RankPool, tmp_path: Path) -> None:
    """With state per row and column shard, and with the tables of tasks."""
    model = ModelConfig(sharing="stem", embedding_dim=8)
    one = config(days[0], tmp_path / "one", model=model)
    two = config(days[2], tmp_path / "two", model=model)
    trained = rank_pool.run(2, train, one, ["mean"], None, None, "column_wise")
    start = after(one.out, [days[1]])
    begun = rank_pool.run(2, begin, two, ["mean"], start, None, "column_wise")
    fresh = rank_pool.run(2, begin, two, ["mean"], None, None, "column_wise")
    assert_rows_begin_anew(*(whole(parts, "mean") for parts in (begun, trained, fresh)))
    assert len(of_users(whole(begun, "mean"), SIZES[2])) == 2 * (1 + len(TASKS))


def test_a_data_set_that_does_not_continue_is_refused(
    days: tuple[Path, ...], first_day: tuple[Path, Trained], rank_pool: RankPool, tmp_path: Path
) -> None:
    out, _ = first_day
    [refused] = rank_pool.run(1, begin, config(days[2], tmp_path), ["mean"], after(out))
    assert isinstance(refused, str)
    assert mentions(refused, out, "table 'user'", f"sha256 {'0' * 16}", f"sha256 {'2' * 16}", "--extend")

    [refused] = rank_pool.run(1, begin, config(days[1], tmp_path), ["pcgrad"], after(out))
    assert isinstance(refused, str)
    assert mentions(refused, out, "'pcgrad'", "multibalance")


def evaluate_checkpoint(ranks: Ranks, options: EvaluateOptions) -> dict[str, Any]:
    return evaluate(options, ranks)


@pytest.mark.parametrize("world_size", [1, 2])
def test_the_evaluation_is_that_of_the_checkpoint_before(
    days: tuple[Path, ...], first_day: tuple[Path, Trained], rank_pool: RankPool, tmp_path: Path, world_size: int
) -> None:
    """And a restart takes it from the disk."""
    out, _ = first_day
    arms = list(ARMS[1:] if world_size == 1 else ARMS[:2])
    day = config(days[1], tmp_path / "run")
    trained = rank_pool.run(world_size, train, day, arms, after(out), None, None, False)[0]
    options = EvaluateOptions(
        (last_checkpoint(out),), days[1], tmp_path / "e.json", tuple(arms), "stream", batch_size=48 // world_size
    )
    by_hand = rank_pool.run(world_size, evaluate_checkpoint, options)[0]
    for arm, result in trained.results.items():
        for task, metrics in zip(NAMES, result.evaluation.tasks, strict=True):
            assert metrics.ne is not None
            record = by_hand["arms"][arm]["tasks"][task]
            assert (metrics.rows, metrics.ne, metrics.auc) == (record["rows"], record["ne"], record["auc"])
        assert result.rows_lost == 0
    again = rank_pool.run(world_size, train, day, arms, after(out), None, None, False)[0]
    for arm, result in again.results.items():
        assert result.evaluation.tasks == trained.results[arm].evaluation.tasks
    [logged] = (tmp_path / "run").glob("multibalance/metrics.jsonl")
    log = [json.loads(line) for line in logged.read_text().splitlines()]
    assert [line["step"] for line in log] == [4, 6, 8]
    assert log[-1]["lifetime"]["click"]["rows"] == ROWS


def test_a_model_predicts_the_next_day_and_is_exported_with_its_own(
    days: tuple[Path, ...], first_day: tuple[Path, Trained], rank_pool: RankPool, tmp_path: Path
) -> None:
    out, _ = first_day
    arguments = {"checkpoint": last_checkpoint(out), "data": days[1], "out": tmp_path / "predicted", "split": "stream"}
    assert rank_pool.run(1, predict_rows, arguments) == [""]
    [begun] = rank_pool.run(1, begin, config(days[1], tmp_path), ["mean"], after(out))
    predicted = read_rows(tmp_path / "predicted")["p_like"].to_numpy()
    logits = np.array([begun.logits["mean"][row][1] for row in range(ROWS)])
    np.testing.assert_allclose(predicted, 1 / (1 + np.exp(-logits)), rtol=1e-6)
    with pytest.raises(ValueError, match=naming(days[1], "'user'", out)):
        write_export(ExportOptions(last_checkpoint(out), tmp_path / "export", data=days[1]))


def rewritten(day: Path, directory: Path, change: Any) -> Path:
    """A copy of a day with other rows."""
    copy = Path(shutil.copytree(day, directory))
    [file] = (copy / "stream").iterdir()
    table = change(pq.read_table(file).to_pydict())
    pq.write_table(pa.table(table, schema=pq.read_schema(file)), file, row_group_size=64)
    edit(copy / "schema.json", lambda raw: raw["splits"]["stream"][0].update(sha256=sha256(file)))
    return copy


def test_no_prediction_depends_on_the_rows_of_the_day(
    days: tuple[Path, ...], first_day: tuple[Path, Trained], rank_pool: RankPool, tmp_path: Path
) -> None:
    """Which new value has which new id follows from all rows of the day; labels and the rows after the first half are
    others."""
    out, _ = first_day
    half = ROWS // 2

    def other_day(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        users = np.array(columns["user"])
        users[np.isin(users, NEW)] = np.roll(NEW, 1)[np.searchsorted(NEW, users[np.isin(users, NEW)])]
        users[half:] = users[half:][::-1]
        for label in ("click", "like", "buy"):
            columns[label] = [1 - value for value in columns[label]]
        for name in ("age", "price", "item"):
            columns[name][half:] = columns[name][half:][::-1]
        return {**columns, "user": users.tolist()}

    other = rewritten(days[2], tmp_path / "other", other_day)
    users = np.array(pq.read_table(next((days[2] / "stream").iterdir()))["user"])
    assert np.isin(users[:half], NEW).sum() > 5
    start = after(out, [days[1]])
    found, expected = (
        rank_pool.run(1, begin, config(day, tmp_path / "begun"), ["mean"], start)[0].logits["mean"]
        for day in (other, days[2])
    )
    assert len(found) == ROWS
    assert [found[row] for row in range(half)] == [expected[row] for row in range(half)]
    assert [found[row] for row in range(half, ROWS)] != [expected[row] for row in range(half, ROWS)]


def test_ids_that_begin_anew_are_read_as_unseen(
    days: tuple[Path, ...], first_day: tuple[Path, Trained], rank_pool: RankPool, tmp_path: Path
) -> None:
    out, _ = first_day

    def with_unseen(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {**columns, "user": [1 if user in NEW else user for user in columns["user"]]}

    unseen = rewritten(days[2], tmp_path / "unseen", with_unseen)
    start = after(out, [days[1]])
    one, two = (
        joined(
            [part.logits["mean"] for part in rank_pool.run(2, begin, config(day, tmp_path / "run"), ["mean"], start)]
        )
        for day in (days[2], unseen)
    )
    assert one == two


def test_the_first_day_of_a_run_and_of_a_task_has_no_metrics(
    days: tuple[Path, ...], first_day: tuple[Path, Trained], rank_pool: RankPool, tmp_path: Path
) -> None:
    """Tasks come, go, and stand in another order; what belongs to a task goes on by its name."""
    _, everything = first_day
    for result in everything.results.values():
        assert all((task.rows, task.normalized_loss) == (0, None) for task in result.evaluation.tasks)
    arms = [
        "multibalance",
        "multibalance:reduction=delayed",
        "multibalance:reduction=local",
        "uncertainty",
        "single_task",
    ]
    one = config(days[0], tmp_path / "one")
    tasks = (TASKS[2], Task("late", "like"), TASKS[0])
    two = config(make_day(tmp_path / "two", 1, tasks), tmp_path / "run")
    [before] = rank_pool.run(1, train, one, arms, None, ["click", "buy"])
    [trained] = rank_pool.run(1, train, two, arms, after(one.out), None, None, False)
    for result in trained.results.values():
        buy, late, click = result.evaluation.tasks
        assert (late.rows, late.ne, late.auc) == (0, None, None)
        assert click.rows == ROWS > buy.rows > 0
        assert click.ne is not None
        assert "late" not in result.evaluation.products
    [begun] = rank_pool.run(1, begin, two, arms[:1], after(one.out))
    weights = {name: value for name, value in begun.state["multibalance"].items() if ".balancer.weights." in name}
    assert {name.rpartition(".")[2] for name in weights} == {"buy", "late", "click"}
    for name, value in weights.items():
        if name.endswith(".late"):
            assert value == pytest.approx(1 / 3)
        else:
            assert value == before.state["multibalance"][name]


def test_the_order_of_tasks_changes_nothing(
    days: tuple[Path, ...], first_day: tuple[Path, Trained], rank_pool: RankPool, tmp_path: Path
) -> None:
    out, _ = first_day
    swapped = make_day(tmp_path / "swapped", 1, TASKS[::-1])
    parts = {}
    for name, data in (("as before", days[1]), ("swapped", swapped)):
        [begun] = rank_pool.run(1, begin, config(data, tmp_path / name), ["multibalance"], after(out))
        [trained] = rank_pool.run(1, train, config(data, tmp_path / name), ["multibalance"], after(out))
        parts[name] = begun.logits["multibalance"], whole([trained], "multibalance")
    (logits, weights), (swapped_logits, swapped_weights) = parts.values()
    assert {row: values[::-1] for row, values in swapped_logits.items()} == logits
    assert weights.keys() == swapped_weights.keys()
    for name, value in weights.items():
        np.testing.assert_allclose(swapped_weights[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_padding_counts_nowhere(days: tuple[Path, ...], rank_pool: RankPool, tmp_path: Path) -> None:
    for part in rank_pool.run(2, run_part, config(days[0], tmp_path), tmp_path, ["mean"]):
        [windows] = part.windows
        assert [window.last_step for window in windows] == [2, 4]
        assert [sum(window.rows for window in windows), sum(window.rows_lost for window in windows)] == [ROWS, 0]
        assert windows[-1].lifetime[0].rows == ROWS


def test_one_rank_and_two_train_alike(days: tuple[Path, ...], rank_pool: RankPool, tmp_path: Path) -> None:
    """A day of fewer rows than a batch is one step of all its rows."""
    sgd = OptimizerConfig(table="sgd", table_lr=0.5, dense="sgd", dense_lr=0.1)
    states = []
    for world_size in (1, 2):
        runs = [
            replace(config(days[day], tmp_path / f"{world_size}-{day}"), batch_size=200, optimizer=sgd)
            for day in (0, 1)
        ]
        rank_pool.run(world_size, train, runs[0], ["multibalance"], None, None, None, False)
        trained = rank_pool.run(world_size, train, runs[1], ["multibalance"], after(runs[0].out))
        states.append(whole(trained, "multibalance"))
    one, two = states
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-5, atol=1e-7, err_msg=name)
