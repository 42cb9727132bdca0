"""Data sets of the split stream, each of which continues the one before."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout
from data_prep.engine import encode_pass, learning
from data_prep.engine.options import IdOptions, StreamOptions
from data_prep.engine.split import SplitOptions
from dlrm_mtl.continuation import Period
from dlrm_mtl.data.new_ids import read_new_ids
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import STREAM, Schema, read_schema
from tests.data_prep.engine.test_preparation_errors import no_space
from tests.data_prep.logs import LAYOUT, checksums, lines_of, read_split, run_prepare, write_log
from tests.messages import naming

DAYS = 3
FIRST = IdOptions(min_count=2, table_max_ids={"word": 20})
STREAMED = replace(LAYOUT, cluster="user", segments=("unused",))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The logs of days, of two files each. Words of the last day are others than before."""
    directory = tmp_path_factory.mktemp("raw")
    for day in range(DAYS):
        for file in range(2):
            lines = [line.replace("wörd", f"w{day // 2}") for line in lines_of(150, seed=2 * day + file)]
            write_log(directory / f"{day}" / f"part_{file}", lines)
    return [directory / f"{day}" for day in range(DAYS)]


@pytest.fixture(scope="module")
def chain(logs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("chain")
    days = [directory / f"day-{day}" for day in range(DAYS)]
    stream(logs[0], days[0], FIRST)
    for day in range(1, DAYS):
        stream(logs[day], days[day], extend=days[day - 1])
    return days


def stream(
    raw: Path,
    out: Path,
    ids: IdOptions | None = None,
    extend: Path | None = None,
    layout: Layout = STREAMED,
    split: SplitOptions | None = None,
) -> Schema:
    options = StreamOptions(extend is None, extend)
    return run_prepare(raw, out, layout, ids, split, stream=options)


def rows_of(directory: Path) -> pa.Table:
    schema = read_schema(directory)
    rows = pa.concat_tables(read_split(directory, schema, split).select(columns(schema)) for split in schema.splits)
    return rows.replace_schema_metadata(None)


def columns(schema: Schema) -> list[str]:
    return [*(feature.name for feature in schema.categorical), *schema.dense, *schema.label_columns]


def read_as_unseen(directory: Path) -> pa.Table:
    """The rows, where ids that begin anew are those of unseen values."""
    schema, rows = read_schema(directory), rows_of(directory)
    new = read_new_ids(directory, schema)
    for place, feature in enumerate(schema.categorical):
        column = rows[feature.name].combine_chunks()
        ids = column.values if feature.multi_hot else column
        ids = pc.if_else(pc.is_in(ids, pa.array(new.get(feature.table_name, []), pa.int32())), 1, ids).cast(pa.int32())
        column = pa.ListArray.from_arrays(column.offsets, ids) if feature.multi_hot else ids
        rows = rows.set_column(place, feature.name, column)
    return rows


@pytest.mark.parametrize("day", range(1, DAYS))
def test_a_day_read_without_its_new_ids_is_encoded_by_the_day_before(
    logs: list[Path], chain: list[Path], tmp_path: Path, day: int
) -> None:
    """What a model predicts before it is trained on a day uses nothing that was learnt from the day's rows."""
    before = run_prepare(logs[day], tmp_path / "out", ids=IdOptions(encoding=chain[day - 1]))
    schema = read_schema(chain[day])
    assert [*schema.splits] == [STREAM]
    assert read_as_unseen(chain[day]).to_pylist() == rows_of(tmp_path / "out").to_pylist()
    assert not rows_of(chain[day]).equals(read_as_unseen(chain[day]))
    assert schema.fingerprints.dense == before.fingerprints.dense
    assert schema.continues is not None
    assert schema.continues.tables == before.fingerprints.tables
    unseen = {split: before.source["unseen"][split] for split in before.splits}
    for feature in schema.categorical:
        number = sum(of_split.get(feature.name, 0) for of_split in unseen.values())
        ids = pc.sum(pc.list_value_length(rows_of(chain[day])["tags"])).as_py() if feature.multi_hot else 300
        assert schema.source["unseen_before"][feature.name] == number / ids


def test_what_a_schema_says_of_a_chain(chain: list[Path]) -> None:
    first, second, last = (read_schema(day) for day in chain)
    assert (first.continues, first.period) == (None, None)
    chain_of_last = last.source["chain"]
    assert {name: chain_of_last[name]["word"] for name in ("capacities", "appended", "reset", "waiting")} == {
        "capacities": 20, "appended": 0, "reset": 18, "waiting": 20,
    }  # fmt: skip
    assert (chain_of_last["number"], chain_of_last["min_count"]) == (2, 2)
    assert last.continues is not None
    assert last.continues.reset.keys() == {"word"}
    assert second.fingerprints.tables["site"].size > first.fingerprints.tables["site"].size
    assert first.source["segments"]["user"]["rows"]["known"] == 0
    assert second.source["segments"]["user"]["rows"]["known"] > 200
    assert second.source["cluster"]["of_which_known"] == 41
    vocabulary = pq.read_table(chain[2] / "vocabulary/word.parquet")
    assert vocabulary.column_names == ["value", "count", "last_seen"]
    assert pc.all(pc.starts_with(vocabulary["value"], "w1")).as_py()
    assert set(vocabulary["last_seen"].to_pylist()) == {2}
    waiting = pq.read_table(chain[0] / "waiting/word.parquet")
    assert len(waiting) == 31 - 18 == first.source["chain"]["waiting"]["word"]


def test_it_resumes_with_the_same_bytes(
    logs: list[Path], chain: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = checksums(chain[2])
    for module, name in ((learning, "extend_table"), (encode_pass, "ShardWriter")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, no_space)
            with pytest.raises(OSError, match=naming("out.partial")):
                stream(logs[2], tmp_path / "out", extend=chain[1])
    with pytest.raises(ValueError, match=naming("out.partial", "extend")):
        stream(logs[2], tmp_path / "out", extend=chain[0])
    stream(logs[2], tmp_path / "out", extend=chain[1])
    assert checksums(tmp_path / "out") == wanted


def test_options_of_the_chain_stay_unless_given(logs: list[Path], chain: list[Path], tmp_path: Path) -> None:
    grown = stream(logs[1], tmp_path / "grown", IdOptions(min_count=1, table_max_ids={"word": 25}), extend=chain[0])
    assert grown.source["chain"]["capacities"]["word"] == grown.fingerprints.tables["word"].size == 25
    assert grown.source["chain"]["min_count"] == 1
    later = stream(logs[2], tmp_path / "later", extend=tmp_path / "grown")
    assert (later.source["chain"]["capacities"]["word"], later.source["chain"]["min_count"]) == (25, 1)
    with pytest.raises(ValueError, match=naming("'word'", 24, 25, tmp_path / "grown")):
        stream(logs[2], tmp_path / "no", IdOptions(table_max_ids={"word": 24}), extend=tmp_path / "grown")


def test_tasks_may_change_and_have_one_class(logs: list[Path], chain: list[Path], tmp_path: Path) -> None:
    labels = (LabelColumn("click"), LabelColumn("long", "unused", positive=("no such text",), missing_is_negative=True))
    layout = replace(STREAMED, labels=labels, tasks=(Task("long", "long"),), segments=())
    schema = stream(logs[1], tmp_path / "out", extend=chain[0], layout=layout)
    assert [(task.name, task.base_rate) for task in schema.tasks] == [("long", 0.0)]


def test_hashes_go_on_as_they_are(logs: list[Path], tmp_path: Path) -> None:
    first = stream(logs[0], tmp_path / "first", IdOptions("hash", max_ids=50, multi_hot={"user": 2}))
    later = stream(logs[1], tmp_path / "later", extend=tmp_path / "first")
    assert later.fingerprints == first.fingerprints
    assert (later.source["chain"]["appended"], later.source["unseen_before"]) == ({}, {})
    run_prepare(logs[1], tmp_path / "encoded", ids=IdOptions(encoding=tmp_path / "first"))
    assert rows_of(tmp_path / "later").equals(rows_of(tmp_path / "encoded"))
    with pytest.raises(ValueError, match=naming("max_ids", 60, "extend")):
        stream(logs[1], tmp_path / "no", IdOptions(max_ids=60), extend=tmp_path / "first")


def timed(directory: Path, day: str, hours: list[int]) -> Path:
    rows = [f"{hour % 2},{day}T{hour:02d}:30:00,u{hour}" for hour in hours]
    return write_log(directory / f"{day}.csv", ["click,at,user", *rows])


def test_periods_are_those_of_the_times_and_in_order(tmp_path: Path) -> None:
    layout = Layout(
        "timed", (CategoricalColumn("user"),), (LabelColumn("click"),), (Task("click", "click"),), time_column="at"
    )
    raws = [timed(tmp_path, f"2022-04-{25 + day}", [1, 2, 23]) for day in range(2)]
    first = stream(raws[0], tmp_path / "first", layout=layout)
    assert first.period == Period("2022-04-25T01:30:00", "2022-04-25T23:30:01")
    assert first.source["segments"]["day"]["rows"] == {"2022-04-25": 3}
    later = stream(raws[1], tmp_path / "later", extend=tmp_path / "first", layout=layout)
    assert later.period == Period("2022-04-26T01:30:00", "2022-04-26T23:30:01")
    for raw in raws:
        with pytest.raises(ValueError, match=naming("'at'", "2022-04-26T23:30:01", tmp_path / "later")):
            stream(raw, tmp_path / raw.stem, extend=tmp_path / "later", layout=layout)


def without_an_encoding(directory: Path) -> None:
    (directory / "encoding.json").unlink()


def without_waiting_values(directory: Path) -> None:
    (directory / "waiting/word.parquet").unlink()


def with_other_waiting_values(directory: Path) -> None:
    shutil.copy(directory / "waiting/tags.parquet", directory / "waiting/word.parquet")


def without_clusters(directory: Path) -> None:
    (directory / "clusters.parquet").unlink()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without_an_encoding, ["encoding.json"]),
        (without_waiting_values, ["waiting/word.parquet"]),
        (with_other_waiting_values, ["waiting/word.parquet", 13]),
        (without_clusters, ["clusters.parquet"]),
    ],
)
def test_a_damaged_data_set_is_not_continued(
    logs: list[Path], chain: list[Path], tmp_path: Path, change: Callable[[Path], None], named: list[object]
) -> None:
    directory = shutil.copytree(chain[0], tmp_path / "first")
    change(directory)
    with pytest.raises(ValueError, match=naming(directory, *named)):
        stream(logs[1], tmp_path / "out", extend=directory)


WITHOUT_TAGS = replace(STREAMED, categorical=STREAMED.categorical[:-1])
OTHER_SCALE = replace(STREAMED, dense=(STREAMED.dense[0], DenseColumn("weight")))


@pytest.mark.parametrize(
    ("layout", "ids", "split", "named"),
    [
        (WITHOUT_TAGS, IdOptions(), SplitOptions(), ["number 4", "'tags'"]),
        (OTHER_SCALE, IdOptions(), SplitOptions(), ["'weight'", "standardise"]),
        (LAYOUT, IdOptions(), SplitOptions(), ["cluster", "''", "'user'"]),
        (STREAMED, IdOptions("hash", max_ids=50), SplitOptions(), ["ids", "'hash'", "extend"]),
        (STREAMED, IdOptions(multi_hot={"user": 3}), SplitOptions(), ["multi_hot", "'user': 3"]),
        (STREAMED, IdOptions(min_count=0), SplitOptions(), ["min_count", 0]),
        (STREAMED, IdOptions(), SplitOptions(eval_rows="5:"), ["eval_rows", "'5:'", "stream"]),
        (STREAMED, IdOptions(encoding=Path("other")), SplitOptions(), ["encoding", "other", "extend"]),
    ],
)
def test_options_that_contradict_a_chain_are_refused(
    logs: list[Path],
    chain: list[Path],
    tmp_path: Path,
    layout: Layout,
    ids: IdOptions,
    split: SplitOptions,
    named: list[object],
) -> None:
    with pytest.raises(ValueError, match=naming(*named)):
        stream(logs[1], tmp_path / "out", ids, extend=chain[0], layout=layout, split=split)
    assert not list(tmp_path.iterdir())


def test_other_data_sets_are_not_continued(logs: list[Path], chain: list[Path], tmp_path: Path) -> None:
    run_prepare(logs[0], tmp_path / "split")
    with pytest.raises(ValueError, match=naming(tmp_path / "split", "train", "--stream")):
        stream(logs[1], tmp_path / "out", extend=tmp_path / "split")
    with pytest.raises(ValueError, match=naming("out", chain[0])):
        stream(logs[1], chain[0], extend=chain[0])
