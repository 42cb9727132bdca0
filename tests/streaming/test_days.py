"""What is checked of all days before any of them is trained on."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.config import OptimizerConfig, ScheduleConfig
from dlrm_mtl.model_schema import Task
from dlrm_mtl.run_config import StreamConfig
from dlrm_mtl.streaming.days import Day, read_days
from tests.datasets import TASKS, make_dataset
from tests.json_edits import Change, edit, put
from tests.messages import naming
from tests.streaming.small_days import make_day, make_days


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return make_days(tmp_path_factory.mktemp("days"), 3)


@pytest.fixture
def days(chain: tuple[Path, ...], tmp_path: Path) -> tuple[Path, ...]:
    """Days that a test may change."""
    return tuple(Path(shutil.copytree(day, tmp_path / day.name)) for day in chain)


def read(*data: Path, **options: Any) -> tuple[Day, ...]:
    return read_days(StreamConfig(data, Path("out"), **options))


def test_days_are_named_by_number_and_directory(chain: tuple[Path, ...]) -> None:
    days = read(*chain)
    assert [day.name for day in days] == ["0000-a", "0001-b", "0002-c"]
    assert [day.tasks for day in days] == [("click", "like", "buy")] * 3
    assert [day.name for day in read(chain[1], chain[2])] == ["0000-b", "0001-c"]


def test_days_out_of_order_twice_or_left_out(chain: tuple[Path, ...], tmp_path: Path) -> None:
    a, b, c = chain
    with pytest.raises(ValueError, match=naming(str(a), "2024-01-01 to 2024-01-02", str(b), "2024-01-03")):
        read(b, a)
    link = tmp_path / "link"
    link.symlink_to(b)
    with pytest.raises(ValueError, match=naming(str(link), str(b))):
        read(a, b, link)
    with pytest.raises(ValueError, match=naming(str(c), "'day 1'", "'day 0'", "--extend", str(a))):
        read(a, c)


CHANGES: list[tuple[Change, tuple[str, ...]]] = [
    (put("period", "start", "2024-01-01T23:00:00"), ("overlaps", "2024-01-01T23:00:00", "2024-01-02")),
    (put("period", None), ("no period",)),
    (put("period", {"start": "5", "stop": "6"}), ("5 to 6", "numbers")),
    (put("continues", None), ("continues no data set",)),
    (put("continues", "tables", "user", "sha256", "f" * 64), ("'user'", "f" * 16, "0" * 16)),
    (lambda raw: raw["continues"]["tables"].pop("item"), ("'item'", "missing")),
    (lambda raw: raw["dense"].reverse(), ("dense features", "'price'", "'age'")),
    (put("categorical", 3, "multi_hot", False), ("'tags'", "False", "True")),
    (put("fingerprints", "dense", "age", "mean", 2.0), ("age", "2.0", "2.5")),
    (put("fingerprints", "tables", "tags", "seed", 4), ("tags", "seed 4", "seed 3")),
    (put("cluster", "visitor"), ("clusters", "'visitor'", "''")),
    (put("tasks", 1, "label", "click"), ("'like'", "label", "'click'")),
    (put("tasks", 2, "given", "like"), ("'buy'", "given", "'like'", "'click'")),
]


@pytest.mark.parametrize(("change", "named"), CHANGES, ids=[" ".join(named) for _, named in CHANGES])
def test_a_day_that_does_not_fit_the_one_before(days: tuple[Path, ...], change: Change, named: tuple[str, ...]) -> None:
    edit(days[1] / "schema.json", change)
    with pytest.raises(ValueError, match=naming(str(days[1]), *named)):
        read(*days)


def test_days_without_periods_are_ordered_by_what_they_continue(days: tuple[Path, ...]) -> None:
    for day in days:
        edit(day / "schema.json", put("period", None))
    assert len(read(*days)) == 3
    with pytest.raises(ValueError, match=naming(str(days[0]), "continues no data set")):
        read(days[1], days[0])
    with pytest.raises(ValueError, match=naming(str(days[0]), "no period", "'like'")):
        read(*days, task_begins=("like=2024-01-02",))


def test_other_data_sets_are_no_days(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", 64, 64)
    with pytest.raises(ValueError, match=naming(str(data), "train, eval", "stream")):
        read(data)


def test_tasks_begin_and_end(chain: tuple[Path, ...]) -> None:
    days = read(*chain, task_begins=("like=2024-01-02",), task_ends=("buy=2024-01-02", "like=2024-01-02"))
    assert [day.tasks for day in days] == [("click", "buy"), ("click", "like", "buy"), ("click",)]


def test_tasks_that_begin_with_a_day_or_come_back(tmp_path: Path) -> None:
    click, like, buy = TASKS
    chain = make_days(tmp_path, 2, [(click, like), (click, buy)])
    back = make_day(tmp_path / "c", 2, (click, like))
    assert [day.tasks for day in read(*chain, back)] == [("click", "like"), ("click", "buy"), ("click", "like")]
    other = make_day(tmp_path / "c", 2, (click, Task("like", "like", given="click")))
    with pytest.raises(ValueError, match=naming(str(other), "'like'", "given", "'click'", str(chain[0]))):
        read(*chain, other)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"task_begins": ("lik=2024-01-02",)}, ("'lik'", "'click', 'like', 'buy'")),
        ({"task_ends": ("lik=2024-01-02",)}, ("'lik'", "'click', 'like', 'buy'")),
        ({"task_begins": ("like=1",)}, ("a", "'1'", "2024-01-01", "numbers")),
        ({"task_begins": tuple(f"{task}=2024-01-02" for task in ("click", "like", "buy"))}, ("a", "no task", "'like'")),
        ({"task_weights": ("click=1", "like=2")}, ("task_weights", "'buy'")),
    ],
)
def test_wrong_options_of_tasks(chain: tuple[Path, ...], options: Any, named: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=naming(*named)):
        read(*chain, **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"task_begins": ("like",)}, ("task_begins", "'like'", "TASK=TIME")),
        ({"task_ends": ("like=monday",)}, ("task_ends", "'like=monday'", "ISO 8601")),
        ({"task_begins": ("like=1", "like=2")}, ("task_begins", "'like'", "twice")),
        (
            {"task_begins": ("like=2024-01-03",), "task_ends": ("like=2024-01-02",)},
            ("'like'", "2024-01-02", "2024-01-03"),
        ),
        ({"data": ()}, ("data", "at least one")),
        ({"publish": "sum"}, ("publish", "'sum'", "mean, multibalance")),
        ({"every": 0}, ("every", "0", "positive")),
        (
            {"optimizer": OptimizerConfig(dense_schedule=ScheduleConfig(decay_share=0.4))},
            ("optimizer.dense_schedule.decay_share", "0.4", "steps"),
        ),
    ],
)
def test_wrong_options_by_themselves(options: Any, named: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=naming(*named)):
        replace(StreamConfig((Path("a"),), Path("out")), **options)


def test_the_run_of_a_day_is_a_comparison() -> None:
    config = StreamConfig((Path("a"),), Path("out"), 64, task_weights=("like=2", "click=1"), seeds=2, keep_models=True)
    day = config.day(Path("b"), Path("out/days/0001-b"), ["click"])
    assert (day.data, day.out, day.batch_size, day.seeds) == (Path("b"), Path("out/days/0001-b"), 64, 2)
    assert (day.epochs, day.max_steps, day.task_weights) == (1, None, ("click=1.0",))
