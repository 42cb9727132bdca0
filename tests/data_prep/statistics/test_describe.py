"""Descriptions of data sets: statistics against a plain recount, drift, the entry point, and bad data."""

import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.generated.ground_truth import Distribution
from data_prep.output.writer import DatasetWriter
from data_prep.statistics.description import Description, describe, stability_index
from data_prep.statistics.text_tables import render
from data_prep.synthetic import Options as SyntheticOptions
from data_prep.synthetic import generate
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.schema import read_schema
from tests.entry_points.processes import python
from tests.messages import mentions

FEATURES = (
    CategoricalFeature("user", 300),
    CategoricalFeature("item", 40),
    CategoricalFeature("tags", 40, multi_hot=True, table="item"),
    CategoricalFeature("shifted", 25),
)
DENSE = ("age", "price", "constant")
TASKS = (Task("click", "click"), Task("like", "like"), Task("buy", "buy", given="click"))
RESERVED = {"generator": "data_prep.shop"}


def make_rows(split: str, rows: int, seed: int = 0) -> pa.Table:
    """In eval rows a fifth of the users is new or unseen, ``shifted`` prefers other ids, prices are higher and there
    are fewer clicks; all else is drawn alike."""
    rng = np.random.default_rng([seed, split == "eval"])
    evaluated = split == "eval"
    user = np.where(rng.random(rows) < 0.03, 0, rng.integers(2, 250, rows))
    if evaluated:
        user = np.where(rng.random(rows) < 0.2, rng.choice([1, 290], rows), user)
    skewed = 2 + (38 * rng.random(rows) ** 3).astype(np.int64)
    shifted = np.where(rng.random(rows) < (0.6 if evaluated else 0.3), 7, rng.integers(25, size=rows))
    lengths = rng.integers(5, size=rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.table(
        {
            "user": user,
            "item": skewed,
            "tags": pa.ListArray.from_arrays(offsets, rng.integers(40, size=offsets[-1]).astype(np.int32)),
            "shifted": shifted,
            "age": np.maximum(rng.normal(size=rows), 0.0).astype(np.float32),
            "price": rng.normal(1000.0 + 0.5 * evaluated, 1.0, rows).astype(np.float32),
            "constant": np.full(rows, 0.1, np.float32),
            "click": (rng.random(rows) < (0.2 if evaluated else 0.4)).astype(np.int8),
            "like": (rng.random(rows) < 0.1).astype(np.int8),
            "buy": (rng.random(rows) < 0.5).astype(np.int8),
        }
    )


def write(
    directory: Path,
    train: pa.Table | None = None,
    evaluated: pa.Table | None = None,
    source: dict[str, Any] = RESERVED,
    row_group_rows: int = 500,
) -> Path:
    with DatasetWriter(directory, "shop", FEATURES, DENSE, TASKS, row_group_rows, 3 * row_group_rows) as writer:
        writer.write("train", make_rows("train", 4000) if train is None else train)
        writer.write("eval", make_rows("eval", 2000) if evaluated is None else evaluated)
        writer.finish(source=source)
    return directory


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("describe") / "shop")


def rows_of(directory: Path, split: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pq.read_table(directory / split).to_pydict()
    return columns


def ids_of(directory: Path, split: str, feature: CategoricalFeature) -> list[int]:
    values = rows_of(directory, split)[feature.name]
    return [i for row in values for i in row] if feature.multi_hot else values


def plain_psi(train: list[int], evaluated: list[int]) -> float:
    """As the docstring of ``stability_index`` has it, id by id."""
    train_count = Counter(train)
    eval_count = Counter(i for i in evaluated if i in train_count)
    head = sorted(train_count, key=lambda i: (-train_count[i], i))[:10]
    buckets = [[i] for i in head] + [[] for _ in range(10)]
    tail = sorted(set(train_count) - set(head))
    tail_total, before = sum(train_count[i] for i in tail), 0
    for i in tail:
        buckets[10 + 10 * before // tail_total].append(i)
        before += train_count[i]
    psi = 0.0
    for bucket in buckets:
        t = max(sum(train_count[i] for i in bucket) / sum(train_count.values()), 1e-4)
        e = max(sum(eval_count[i] for i in bucket) / sum(eval_count.values()), 1e-4)
        psi += (e - t) * math.log(e / t)
    return psi


def drifting(description: Description) -> list[str]:
    """Names of what drifts."""
    return [
        *(task.name for task in description.tasks if task.drifts),
        *(feature.name for feature in description.categorical if feature.drifts),
        *(feature.name for feature in description.dense if feature.drifts),
    ]


def test_rows_and_base_rates(shop: Path) -> None:
    description = describe(shop)
    assert (description.name, description.rows) == ("shop", {"train": 4000, "eval": 2000})
    for task, described in zip(TASKS, description.tasks, strict=True):
        assert (described.name, described.label, described.given) == (task.name, task.label, task.given)
        n, k = {}, {}
        for split in ("train", "eval"):
            rows = rows_of(shop, split)
            labels = [y for i, y in enumerate(rows[task.label]) if not task.given or rows[task.given][i]]
            n[split], k[split] = len(labels), sum(labels)
            assert (described.splits[split].rows, described.splits[split].positives) == (n[split], k[split])
            assert described.splits[split].base_rate == pytest.approx(k[split] / n[split])
        train, evaluated = k["train"] / n["train"], k["eval"] / n["eval"]
        p = (k["train"] + k["eval"]) / (n["train"] + n["eval"])
        z = (evaluated - train) / math.sqrt(p * (1 - p) * (1 / n["train"] + 1 / n["eval"]))
        assert described.ratio == pytest.approx(evaluated / train)
        assert described.z == pytest.approx(z)
        assert described.splits["train"].base_rate == pytest.approx(
            read_schema(shop).tasks[TASKS.index(task)].base_rate
        )


def test_ids_are_counted(shop: Path) -> None:
    for feature, described in zip(FEATURES, describe(shop).categorical, strict=True):
        assert (described.name, described.cardinality) == (feature.name, feature.cardinality)
        assert (described.table, described.multi_hot) == (feature.table_name, feature.multi_hot)
        for split in ("train", "eval"):
            ids, rows = ids_of(shop, split, feature), rows_of(shop, split)[feature.name]
            lengths = [len(row) for row in rows] if feature.multi_hot else [1] * len(rows)
            count = Counter(ids)
            found = described.splits[split]
            assert (found.ids, found.distinct, found.max_length) == (len(ids), len(count), max(lengths))
            assert found.mean_length == pytest.approx(statistics.fmean(lengths))
            assert found.empty_share == pytest.approx(lengths.count(0) / len(rows))
            assert found.missing_share == pytest.approx(count[0] / len(ids))
            assert found.unseen_share == pytest.approx(count[1] / len(ids))
            assert found.head_share == pytest.approx(sum(n for _, n in count.most_common(10)) / len(ids))
        train, evaluated = ids_of(shop, "train", feature), ids_of(shop, "eval", feature)
        known = set(train)
        assert described.new_share == pytest.approx(sum(i not in known for i in evaluated) / len(evaluated))
        assert described.psi == pytest.approx(plain_psi(train, evaluated))
    user = describe(shop).categorical[0]
    assert 0.1 < (user.splits["eval"].unseen_share or 0.0) < (user.new_share or 0.0)
    assert user.splits["train"].unseen_share == 0.0


def test_dense_values_are_summarised(shop: Path) -> None:
    described = {feature.name: feature for feature in describe(shop).dense}
    assert tuple(described) == DENSE
    for name, feature in described.items():
        values = {split: rows_of(shop, split)[name] for split in ("train", "eval")}
        for split, found in feature.splits.items():
            assert found.mean == pytest.approx(statistics.fmean(values[split]))
            assert found.std == pytest.approx(statistics.pstdev(values[split]), rel=1e-9, abs=1e-12)
            assert (found.min, found.max) == (min(values[split]), max(values[split]))
            assert found.zero_share == pytest.approx(values[split].count(0.0) / len(values[split]))
        if name != "constant":
            difference = statistics.fmean(values["eval"]) - statistics.fmean(values["train"])
            assert feature.smd == pytest.approx(difference / statistics.pstdev(values["train"]), rel=1e-6)
    assert described["age"].splits["train"].zero_share > 0.4


def test_what_drifts_is_marked(shop: Path) -> None:
    description = describe(shop)
    assert drifting(description) == ["click", "user", "shifted", "price"]
    marked = [line.split()[0] for line in render(description).splitlines() if line.endswith("  drifts")]
    assert marked == ["click", "user", "shifted", "price"]


def test_chance_among_rare_ids_is_no_drift() -> None:
    rng = np.random.default_rng(0)
    train, evaluated = (np.bincount(rng.integers(20_000, size=n), minlength=20_000) for n in (100_000, 30_000))
    assert stability_index(train, train) == 0.0
    assert (stability_index(train, evaluated) or 1.0) < 0.01
    assert stability_index(train[:5000], 1 + np.arange(5000) // 500) == pytest.approx(
        plain_psi(
            np.repeat(np.arange(5000), train[:5000]).tolist(),
            np.repeat(np.arange(5000), 1 + np.arange(5000) // 500).tolist(),
        )
    )


def test_what_is_not_defined_is_null(tmp_path: Path) -> None:
    evaluated = make_rows("eval", 50)
    nothing = pa.array([[]] * 50, pa.list_(pa.int32()))
    for name, values in (
        ("tags", nothing),
        ("click", pa.array([0] * 50, pa.int8())),
        ("constant", pa.array([0.2] * 50, pa.float32())),
        ("shifted", pa.array([24] * 50)),
    ):
        evaluated = evaluated.set_column(evaluated.column_names.index(name), name, values)
    train = make_rows("train", 400)
    train = train.filter(pc.not_equal(train["shifted"], 24))
    description = describe(write(tmp_path / "shop", train, evaluated))
    _, _, buy = description.tasks
    _, _, tags, shifted = description.categorical
    constant = description.dense[2]
    assert (buy.splits["eval"].rows, buy.splits["eval"].base_rate, buy.ratio, buy.z) == (0, None, None, None)
    assert not buy.drifts
    none = tags.splits["eval"]
    assert (none.ids, none.max_length, none.empty_share, none.head_share) == (0, 0, 1.0, None)
    assert (tags.psi, tags.new_share, tags.drifts) == (None, None, False)
    assert (shifted.psi, shifted.new_share, shifted.drifts) == (None, 1.0, True)
    assert (constant.splits["train"].std, constant.smd, constant.drifts) == (0.0, None, True)
    json.dumps(description.as_dict(), allow_nan=False)
    assert re.search(r"^tags .* -      -$", render(description), flags=re.MULTILINE)


@pytest.mark.parametrize("source", [{}, {"generator": "elsewhere"}, {"generator": "data_prep.synthetic"}])
def test_no_reserved_ids_are_claimed(tmp_path: Path, source: dict[str, Any]) -> None:
    for feature in describe(write(tmp_path / "shop", source=source)).categorical:
        for ids in feature.splits.values():
            assert (ids.missing_share, ids.unseen_share) == (None, None)


def test_a_synthetic_data_set(tmp_path: Path) -> None:
    small = Distribution(cardinalities=(300, 20), multi_hot_cardinalities=(50,), mean_length=1.5, dense=2)
    generate(SyntheticOptions(tmp_path, rows=20_000, eval_rows=8_000, distribution=small))
    description = describe(tmp_path)
    assert drifting(description) == []
    lines = render(description).splitlines()
    assert re.fullmatch(r"id_1 +20 +20 +20( +-){4} +[\d.]+% +[\d.]+% +0 +0\.00\d", next(filter(is_of("id_1"), lines)))
    assert any(re.match(r"list_0 +list_0 .* 1\.5\d\d +1\.[45]\d\d ", line) for line in lines)


def is_of(name: str) -> Callable[[str], bool]:
    return lambda line: line.split()[:1] == [name]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1000), sizes=st.tuples(st.integers(5, 90), st.integers(5, 90)), budget=st.integers(1, 500))
def test_row_groups_and_passes_do_not_matter(seed: int, sizes: tuple[int, int], budget: int) -> None:
    train, evaluated = make_rows("train", 200, seed), make_rows("eval", 60, seed)
    with tempfile.TemporaryDirectory() as directory:
        one, other = (
            write(Path(directory) / str(index), train, evaluated, row_group_rows=size)
            for index, size in enumerate(sizes)
        )
        a, b = describe(one).as_dict(), describe(other, counted_at_once=budget).as_dict()
    # Only sums of dense values are rounded.
    numbers, others = dense_numbers(a.pop("dense")), dense_numbers(b.pop("dense"))
    assert a == b
    assert numbers == pytest.approx(others, rel=1e-9, abs=1e-9)


def dense_numbers(features: list[dict[str, Any]]) -> list[float]:
    return [
        number
        for feature in features
        for number in (*feature["splits"]["train"].values(), *feature["splits"]["eval"].values(), feature["smd"] or 0.0)
    ]


def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return python("data_prep.describe", *arguments)


def test_entry_point(shop: Path, tmp_path: Path) -> None:
    result = run(shop, "--json", tmp_path / "shop.json")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert mentions(lines[0], "shop", "4,000", "2,000")
    assert result.stdout.rstrip("\n") == render(describe(shop))
    titles = [line for line in lines if line.endswith(("Tasks", "features"))]
    assert titles == ["Tasks", "Categorical features", "Multi-hot features", "Dense features"]
    assert max(map(len, lines)) <= 120
    assert "PSI > 0.1 or new > 5%" in result.stdout

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    written = json.loads((tmp_path / "shop.json").read_text(), parse_constant=refuse)
    described = describe(shop).as_dict()
    assert written == json.loads(json.dumps(described))
    assert written["thresholds"]["psi"] == 0.1
    assert written["categorical"][0]["splits"]["eval"]["ids"] == 2000


def test_torch_is_not_imported() -> None:
    code = "import sys, data_prep.describe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def rewrite(directory: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = directory / "eval" / "part-00000.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def put(column: str, row: int, value: Any) -> Callable[[Path], None]:
    """Another value in a row of the eval split."""

    def replaced(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        kind = table.schema.field(column).type
        return table.set_column(table.column_names.index(column), column, pa.array(values, kind))

    return lambda directory: rewrite(directory, replaced)


def truncate(directory: Path) -> None:
    path = directory / "eval" / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (put("user", 7, 300), r"part-00000\.parquet, row group 0, column 'user', row 7 is 300, .* \[0, 299\]"),
        (put("item", 7, -1), r"column 'item', row 7 is -1, expected an id in \[0, 39\]"),
        (put("tags", 9, [3, 40]), r"column 'tags', row 9 is 40, expected an id"),
        (
            put("like", 3, 2),
            r"part-00000\.parquet, row group 0, column 'like', row 3 is 2, expected a label in \[0, 1\]",
        ),
        (put("age", 3, math.nan), r"column 'age', row 3 is nan, expected a finite number"),
        (put("user", 3, None), r"column 'user', row 3 is null"),
        (lambda out: rewrite(out, lambda table: table.drop_columns(["price"])), r"parquet: column 'price' is missing"),
        (truncate, r"part-00000\.parquet: no row group can be read"),
        (lambda out: (out / "eval" / "part-00000.parquet").unlink(), r"part-00000\.parquet: not found"),
        (lambda out: (out / "schema.json").unlink(), r"schema\.json: not found"),
    ],
)
def test_bad_data_is_refused(tmp_path: Path, damage: Callable[[Path], None], expected: str) -> None:
    out = write(tmp_path / "shop", make_rows("train", 100), make_rows("eval", 50))
    damage(out)
    with pytest.raises(ValueError, match=expected):
        describe(out)


@pytest.mark.parametrize("damage", [put("like", 3, 2), truncate])
def test_errors_take_one_line(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    out = write(tmp_path / "shop", make_rows("train", 100), make_rows("eval", 50))
    damage(out)
    result = run(out, "--json", tmp_path / "shop.json")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    assert re.fullmatch(r"describe: .*part-00000\.parquet.*", result.stderr.splitlines()[-1].strip())
    assert not (tmp_path / "shop.json").exists()


def test_a_json_file_that_cannot_be_written_is_refused_first(shop: Path, tmp_path: Path) -> None:
    for file in (tmp_path / "missing" / "shop.json", tmp_path):
        result = run(shop, "--json", file)
        assert (result.returncode, result.stdout) == (2, "")
        assert mentions(result.stderr, "describe", file)
        assert result.stderr.count("\n") == 1
