"""Clusters and segments from raw logs to evaluation batches, against plain Python."""

import gzip
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from data_prep import synthetic
from data_prep.census_income import Options as CensusOptions
from data_prep.census_income import prepare_census
from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, Layout
from data_prep.engine.options import ContextOptions, IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions, TimeOptions
from data_prep.generated.ground_truth import Distribution
from data_prep.output.summary import summary
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.reader import EvaluationReader
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import Schema, read_schema
from dlrm_mtl.segments import Segment
from tests.messages import mentions, naming

ROWS, TRAINED = 600, 400
LAYOUT = Layout("log", (CategoricalColumn("site"),), (LabelColumn("click"),), (Task("ctr", "click"),))
SPLIT = SplitOptions(train_rows=f":{TRAINED}", eval_rows=f"{TRAINED}:")
START = datetime(2024, 1, 1)


def write(path: Path, **columns: Sequence[Any] | pa.Array) -> Path:
    """A log of so many rows: parquet, or comma-separated text."""
    sites = [f"s{row % 7}" for row in range(ROWS)]
    table = pa.table({"site": sites, "click": [int(row % 3 == 0) for row in range(ROWS)], **columns})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=150)
    else:
        lines = [",".join("" if value is None else str(value) for value in row.values()) for row in table.to_pylist()]
        path.write_text("\n".join([",".join(table.column_names), *lines, ""]))
    return path


def run(raw: Path, layout: Layout, split: SplitOptions = SPLIT, out: str = "out") -> tuple[Path, Schema]:
    directory = raw.with_name(out)
    return directory, prepare("log", "test", layout, [raw], directory, IdOptions(), split, WorkOptions())


def kept(directory: Path) -> pa.Table:
    """Evaluation rows, with their columns of clusters and segments."""
    schema = read_schema(directory)
    return pa.concat_tables([pq.read_table(directory / shard.file) for shard in schema.splits["eval"]])


def values_of(directory: Path, name: str) -> list[str]:
    """A segment's value of each evaluation row, from batches."""
    reader = EvaluationReader(RowSource(open_dataset(directory)), 64, 0, 1, (name,))
    [segment] = reader.context.segments
    return [segment.values[code] for batch in reader for code in batch.context[:, 1].tolist()]


USERS = [None if row % 9 == 0 else int(row * 7919 % 83) for row in range(ROWS)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("kind", ["", "string", "integer"])
def test_rows_of_a_user_share_a_key_and_known_users_have_training_rows(tmp_path: Path, suffix: str, kind: Any) -> None:
    """The user may be a feature or not; rare users, who share an id, stay distinct."""
    users = [None if user is None else user if row < TRAINED else user * 2 for row, user in enumerate(USERS)]
    layout = replace(LAYOUT, cluster="user")
    if kind:
        layout = replace(layout, categorical=(*LAYOUT.categorical, CategoricalColumn("user", kind)))
    directory, schema = run(write(tmp_path / f"log{suffix}", user=users), layout)
    assert (schema.cluster, schema.segment_names) == ("user", ("user",))
    evaluated, keys = users[TRAINED:], kept(directory)["cluster:user"].to_pylist()
    by_user = defaultdict(set)
    for user, key in zip(evaluated, keys, strict=True):
        by_user[user].add(key)
    assert by_user.pop(None) == {None}
    assert all(len(found) == 1 for found in by_user.values())
    assert len(set().union(*by_user.values())) == len(by_user)
    trained = {*users[:TRAINED]} - {None}
    expected = ["missing" if user is None else "known" if user in trained else "new" for user in evaluated]
    assert set(expected) == {"missing", "known", "new"}
    assert values_of(directory, "user") == expected
    assert schema.source["segments"]["user"] == {
        "rows": {value: expected.count(value) for value in ("known", "new", "missing")},
        "values_in_other": 0,
    }
    assert schema.source["cluster"] == {
        "column": "user",
        "evaluated": len({*evaluated} - {None}),
        "of_which_known": len(trained & {*evaluated}),
        "rows_without": evaluated.count(None),
    }
    assert mentions(summary(schema, directory), "cluster user", len({*evaluated} - {None}))


def test_keys_do_not_depend_on_the_type_that_a_file_stores(tmp_path: Path) -> None:
    numbers = {
        "int64": pa.array(USERS, pa.int64()),
        "uint8": pa.array(USERS, pa.uint8()),
        "double": pa.array(USERS, pa.float64()),
        "decimal": pa.array([None if user is None else Decimal(user) for user in USERS], pa.decimal128(20, 4)),
        "text": pa.array([None if user is None else str(user) for user in USERS]),
    }
    found = []
    for name, users in numbers.items():
        directory, _ = run(write(tmp_path / f"{name}.parquet", user=users), replace(LAYOUT, cluster="user"), out=name)
        found.append(kept(directory).select(["cluster:user", "segment:user"]))
    assert all(table.equals(found[0]) for table in found)


def test_the_most_frequent_values_are_kept_by_number_and_the_others_are_counted(tmp_path: Path) -> None:
    """Value k has more rows the smaller k is; ``other`` of the log itself is one of the others."""
    draw = np.random.default_rng(0)
    ages = [None if row % 20 == 0 else int(120 * draw.random() ** 2) for row in range(ROWS)]
    places = [
        "other" if row % 50 == 1 else "missing" if row % 50 == 2 else "a\tb" if row % 50 == 3 else f"p{row % 2}"
        for row in range(ROWS)
    ]
    layout = replace(LAYOUT, segments=("age", "place"))
    directory, schema = run(write(tmp_path / "log.parquet", age=ages, place=places), layout)
    rows = Counter(age for age in ages[TRAINED:] if age is not None)
    assert len(rows) > 64
    frequent = sorted(rows, key=lambda age: (-rows[age], str(age)))[:64]
    age, place = schema.segments
    assert age.values == (*map(str, sorted(frequent)), "other", "missing")
    expected = ["missing" if a is None else str(a) if a in frequent else "other" for a in ages[TRAINED:]]
    assert values_of(directory, "age") == expected
    told = schema.source["segments"]
    assert told["age"] == {
        "rows": {value: expected.count(value) for value in age.values},
        "values_in_other": len(rows) - 64,
    }
    assert place.values == ("p0", "p1", "other", "missing")
    assert told["place"]["rows"] == {"p0": 96, "p1": 92, "other": 8, "missing": 4}
    assert told["place"]["values_in_other"] == 2


def test_columns_of_every_use_can_be_segments(tmp_path: Path) -> None:
    colours = [f"{row % 3:08X}" for row in range(ROWS)]
    layout = Layout(
        "log",
        (
            CategoricalColumn("site"),
            CategoricalColumn("colour", "hex", name="shade"),
            CategoricalColumn("age", "integer"),
        ),
        (LabelColumn("click"),),
        (Task("ctr", "click"),),
        segments=("shade", "age", "click", "score"),
    )
    scores = [None if row % 4 == 0 else row % 4 + 0.5 * (row % 4 == 1) for row in range(ROWS)]
    raw = write(tmp_path / "log.parquet", colour=colours, age=[row % 5 for row in range(ROWS)], score=scores)
    directory, _ = run(raw, layout)
    assert values_of(directory, "shade") == [colour.lower() for colour in colours[TRAINED:]]
    assert values_of(directory, "age") == [str(row % 5) for row in range(TRAINED, ROWS)]
    assert values_of(directory, "click") == [str(int(row % 3 == 0)) for row in range(TRAINED, ROWS)]
    texts = ["missing", "1.5", "2", "3"]
    assert values_of(directory, "score") == [texts[row % 4] for row in range(TRAINED, ROWS)]


def hours(row: int) -> datetime:
    return START + timedelta(hours=row)


FORMS: dict[str, Callable[[int], Any]] = {
    "timestamps": hours,
    "zones": lambda row: hours(row).replace(tzinfo=UTC),
    "text": lambda row: hours(row).isoformat(),
    "zone in text": lambda row: f"{(hours(row) + timedelta(hours=9)).isoformat()}+09:00",
    "dates": lambda row: hours(row).date(),
    "seconds": lambda row: int(hours(row).replace(tzinfo=UTC).timestamp()),
    "fractions": lambda row: hours(row).replace(tzinfo=UTC).timestamp() + 0.25,
    "milliseconds": lambda row: 1000 * int(hours(row).replace(tzinfo=UTC).timestamp()) + 999,
    "nanoseconds": lambda row: 10**9 * int(hours(row).replace(tzinfo=UTC).timestamp()),
    "dates as numbers": lambda row: int(f"{hours(row):%Y%m%d}"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_row_with_a_time_has_its_day_in_utc(tmp_path: Path, form: str) -> None:
    raw = write(tmp_path / "log.parquet", at=[FORMS[form](row) for row in range(ROWS)])
    directory, schema = run(raw, LAYOUT, replace(SPLIT, time_column="at"))
    assert schema.segment_names == ("day",)
    assert values_of(directory, "day") == [str(hours(row).date()) for row in range(TRAINED, ROWS)]


def test_numbers_that_may_be_anything_have_no_day(tmp_path: Path) -> None:
    _, schema = run(write(tmp_path / "log.csv", at=range(ROWS)), LAYOUT, replace(SPLIT, time_column="at"))
    assert schema.segments == ()


def test_a_column_that_is_named_takes_the_place_of_what_comes_by_itself(tmp_path: Path) -> None:
    days = [f"d{row % 2}" for row in range(ROWS)]
    raw = write(tmp_path / "log.csv", day=days, at=[hours(row).date() for row in range(ROWS)])
    split = replace(SPLIT, time_column="at")
    directory, schema = run(raw, replace(LAYOUT, segments=("day",), cluster="site"), split)
    assert schema.segment_names == ("day", "user")
    assert values_of(directory, "day") == days[TRAINED:]


def test_train_and_eval_shards_differ_by_these_columns_alone(tmp_path: Path) -> None:
    raw = write(tmp_path / "log.parquet", user=USERS, tab=[row % 2 for row in range(ROWS)])
    directory, _ = run(raw, replace(LAYOUT, cluster="user", segments=("tab",)))
    train, evaluation = (pq.read_schema(next(directory.glob(f"{split}/*.parquet"))) for split in ("train", "eval"))
    assert [*train, *list(evaluation)[len(train) :]] == list(evaluation)
    assert evaluation.names[len(train) :] == ["cluster:user", "segment:tab", "segment:user"]
    plain, _ = run(raw, LAYOUT, out="plain")
    assert kept(plain).equals(kept(directory).select(train.names))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ContextOptions(cluster="who"), r"log.csv.*column 'who' is missing; the file has site, click"),
        (ContextOptions(segments=("hour",)), r"column 'hour' is missing"),
        (ContextOptions(segments=("tab", "tab")), "segment 'tab' is named twice"),
        (ContextOptions(segments=("a\rb",)), r"segment 'a\\rb': expected 1 to 200 printable"),
        (ContextOptions(segments=("many",)), "segment 'many': .* values among .* expected at most 10000"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    tmp_path: Path, options: ContextOptions, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if options.segments == ("many",):
        monkeypatch.setattr("data_prep.output.raw_context.MAX_DISTINCT", 100)
        message = message.replace("10000", "100")
    raw = write(tmp_path / "log.csv", tab=[0] * ROWS, many=range(ROWS))
    with pytest.raises(ValueError, match=message):
        run(raw, options.apply(LAYOUT))


def test_columns_of_lists_and_names_that_are_taken_are_refused() -> None:
    tags = CategoricalColumn("tags", multi_hot=True)
    with pytest.raises(ValueError, match=naming("'tags'", "lists")):
        replace(LAYOUT, categorical=(tags,), cluster="tags")
    with pytest.raises(ValueError, match=naming("column 'segment:tab'")):
        replace(LAYOUT, categorical=(CategoricalColumn("segment:tab"),), segments=("tab",))


def test_a_layouts_own_columns_hold_unless_options_name_others() -> None:
    layout = replace(LAYOUT, cluster="user", segments=("tab",))
    assert ContextOptions().apply(layout) == layout
    found = ContextOptions(cluster="visitor", segments=("hour",)).apply(layout)
    assert (found.cluster, found.segments) == ("visitor", ("hour",))


def test_census_rows_are_split_by_their_time_on_demand(tmp_path: Path, test_data: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("census-income.data", "census-income.test-a"):
        with gzip.open(test_data / "census-income-kdd" / f"{name}.gz", "rt") as file:
            (raw / name).write_text("".join(next(file) for _ in range(800)))
    context = ContextOptions(segments=("sex",))
    times = TimeOptions(time_column="year", eval_from="95")
    options = CensusOptions(raw=raw, out=tmp_path / "time", tasks="income", times=times, context=context)
    by_time = prepare_census(options)
    assert by_time.rows("train") + by_time.rows("eval") == 1600
    assert by_time.source["time"]["train"] == ["94", "94"]
    assert by_time.segment_names == ("sex",)


def test_generated_users_share_the_first_id_and_part_of_their_logits(tmp_path: Path) -> None:
    """Rates of users differ by more where there is an effect of the user."""
    calm = Distribution((500, 20), (), rates=(0.4,), conversion_rate=0.0, users=300, user_effect=0.0)
    spreads = []
    for number, knobs in enumerate((calm, replace(calm, user_effect=1.0))):
        directory = tmp_path / str(number)
        schema = synthetic.generate(synthetic.Options(directory, 400, 20_000, distribution=knobs))
        assert (schema.cluster, schema.segments) == ("user", (Segment("user", ("known", "new")),))
        table = kept(directory)
        users, rows = np.unique(table["cluster:user"].to_numpy(), return_inverse=True)
        assert 290 <= len(users) <= 300
        assert len({*zip(rows.tolist(), table["id_0"].to_pylist(), strict=True)}) == len(users)
        known, new = (table.filter(pc.equal(table["segment:user"], code))["cluster:user"] for code in (0, 1))
        assert 0.1 < len(new) / len(table) < 0.4  # exp(-400 / 300) = 0.26
        assert not {*known.to_pylist()} & {*new.to_pylist()}
        spreads.append(np.var(np.bincount(rows, table["click"].to_numpy()) / np.bincount(rows)))
    assert spreads[1] > 1.5 * spreads[0]
