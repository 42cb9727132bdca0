"""Counts of keys: runs, their merge, and vocabularies."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, Layout
from data_prep.ids import counting
from data_prep.ids.assignment import most_frequent, read_vocabulary, write_counted
from data_prep.ids.counting import KeyCounter, Span, merge_runs
from data_prep.ids.keys import hash_strings
from dlrm_mtl.model_schema import Task

FEATURES = {
    "hex": CategoricalColumn("hex", "hex"),
    "integer": CategoricalColumn("integer", "integer"),
    "string": CategoricalColumn("string"),
}
LAYOUT = Layout(
    "counted",
    (*FEATURES.values(), CategoricalColumn("other", table="string"), CategoricalColumn("list", multi_hot=True)),
    (LabelColumn("label"),),
    (Task("label", "label"),),
)
TYPES = {"hex": pa.uint32(), "integer": pa.int64(), "string": pa.string()}
TABLES = list(LAYOUT.tables)

VALUES = {
    "hex": st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1), st.just(2**32 - 1)),
    "integer": st.one_of(st.integers(-10, 10), st.sampled_from([2**63 - 1, -(2**63), -1, 0])),
    "string": st.one_of(st.text("ab", max_size=3), st.text(max_size=12)),
}


def rows_strategy(kind: str) -> st.SearchStrategy[list[list[Any]]]:
    """Values of some segments; few distinct ones among many."""
    return st.lists(st.lists(st.none() | VALUES[kind], max_size=60), min_size=1, max_size=4)


def table_of(kind: str, values: Sequence[Any]) -> pa.Table:
    columns = {name: pa.array(values if name == kind else [None] * len(values), TYPES[name]) for name in FEATURES}
    other = pa.array(list(reversed(values)) if kind == "string" else [None] * len(values), pa.string())
    lists = pa.array([["x", None]] * len(values), pa.list_(pa.string()))
    return pa.table({**columns, "other": other, "list": lists})


def write_runs(directory: Path, kind: str, segments: Sequence[Sequence[Any]]) -> list[Path]:
    paths = []
    for number, values in enumerate(segments):
        counter = KeyCounter(LAYOUT)
        for start in range(0, len(values), 7):
            counter.add(table_of(kind, values[start : start + 7]))
        paths.append(directory / f"{number}.arrow")
        counter.write(paths[-1])
    return paths


def counted(spans: Sequence[Span], kind: str) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for span in spans:
        keys = span.keys.tolist()
        if kind == "string":
            keys = span.values.to_pylist()
            assert hash_strings(span.values).tolist() == span.keys.tolist()
        elif kind == "integer":
            keys = span.keys.view(np.int64).tolist()
        found.update(zip(keys, span.counts.tolist(), strict=True))
    assert len(found) == sum(len(span.keys) for span in spans)
    return found


@pytest.mark.parametrize("kind", FEATURES)
@pytest.mark.parametrize("span_entries", [256, 1 << 24])
def test_counts_are_those_of_a_counter(kind: str, span_entries: int) -> None:
    @settings(max_examples=60, deadline=None)
    @given(rows_strategy(kind))
    @example([[]])
    @example([[None]])
    @example([[], ["" if kind == "string" else 0]])
    @example([["a" if kind == "string" else 7] * 50, ["a" if kind == "string" else 7] * 3])
    def check(segments: list[list[Any]]) -> None:
        with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
            patch.setattr(counting, "SPAN_ENTRIES", span_entries)
            patch.setattr(counting, "PENDING_KEYS", 3)
            runs = write_runs(Path(directory), kind, segments)
            spans = list(merge_runs(runs, TABLES.index(kind), kind))
            times = 2 if kind == "string" else 1
            wanted = Counter({value: times * count for value, count in Counter(chain(*segments)).items()})
            del wanted[None]
            assert counted(spans, kind) == dict(wanted)
            lists = counted(list(merge_runs(runs, TABLES.index("list"), "list")), "string")
            number = sum(map(len, segments))
            assert lists == ({"x": number} if number else {})

    check()


@pytest.mark.parametrize("kind", FEATURES)
def test_many_entries_are_merged_span_by_span(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "SPAN_ENTRIES", 512)
    rng = np.random.default_rng(0)
    numbers = [rng.integers(0, 3000, 4000) * {"hex": 1_000_003, "integer": -7, "string": 1}[kind] for _ in range(3)]
    segments = [[str(n) if kind == "string" else int(n) for n in part] for part in numbers]
    spans = list(merge_runs(write_runs(tmp_path, kind, segments), TABLES.index(kind), kind))
    assert len(spans) > 8
    assert max(len(span.keys) for span in spans) < 1500
    keys = np.concatenate([span.keys for span in spans])
    assert (keys[1:] > keys[:-1]).all()
    times = 2 if kind == "string" else 1
    assert counted(spans, kind) == {value: times * count for value, count in Counter(chain(*segments)).items()}


def test_two_strings_of_one_hash_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def poor_hash(array: pa.Array) -> np.ndarray:
        return np.array([len(text or "") for text in array.to_pylist()], np.uint64)

    monkeypatch.setattr(counting, "keys_of", poor_hash)
    for segments in ([["ab", "cd", "x"]], [["ab"], ["x"], ["cd"]]):
        runs = write_runs(tmp_path, "string", segments)
        with pytest.raises(ValueError, match=r"table 'string': (ab and cd|cd and ab).*64-bit"):
            list(merge_runs(runs, TABLES.index("string"), "string"))


def spans_of(counts: dict[int, int]) -> list[Span]:
    keys = np.array(sorted(counts), np.uint64)
    numbers = np.array([counts[int(key)] for key in keys], np.int64)
    cuts = [slice(0, len(keys) // 2), slice(len(keys) // 2, None)]
    return [Span(keys[cut], numbers[cut], pa.nulls(len(keys[cut]), pa.string())) for cut in cuts]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(0, 2**32 - 1), st.integers(1, 5), max_size=40), st.integers(1, 6), st.integers(0, 30)
)
def test_a_vocabulary_keeps_the_most_frequent_keys(counts: dict[int, int], min_count: int, room: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        cap = room + 2 if room else 0
        file = Path(directory) / "0.npy"
        readable = write_counted(spans_of(counts), FEATURES["hex"], min_count, cap, file)
        frequent = {key: count for key, count in counts.items() if count >= min_count}
        first = sorted(frequent, key=lambda key: (-frequent[key], key))
        kept = sorted(first[:room] if room else first)
        learnt = read_vocabulary(file)
        assert learnt.cardinality == len(kept) + 2
        assert learnt.ids(np.array(kept, np.uint32)).tolist() == list(range(2, len(kept) + 2))
        others = np.array(sorted(counts.keys() - set(kept)), np.uint32)
        assert learnt.ids(others).tolist() == [1] * len(others)
        table = pq.read_table(readable)
        assert table["value"].to_pylist() == [f"{key:08x}" for key in kept]
        assert table["count"].to_pylist() == [frequent[key] for key in kept]
        assert sorted(path.name for path in Path(directory).iterdir()) == ["0.npy", "0.parquet"]


def test_values_stand_in_a_vocabulary_as_in_the_log(tmp_path: Path) -> None:
    for kind, values in (("integer", [5, -3, 2**63 - 1, -(2**63), 5]), ("string", ["ä", "", "b", "ä"])):
        runs = write_runs(tmp_path, kind, [values])
        spans = merge_runs(runs, TABLES.index(kind), kind)
        readable = write_counted(spans, FEATURES[kind], 1, 0, tmp_path / f"{kind}.npy")
        column = pa.array(values, TYPES[kind])
        keys = hash_strings(column) if kind == "string" else np.array(values, np.int64).view(np.uint64)
        ids = read_vocabulary(tmp_path / f"{kind}.npy").ids(keys)
        table = pq.read_table(readable)
        assert [table["value"].to_pylist()[number - 2] for number in ids] == values
        assert len(set(ids.tolist())) == len(set(values))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), st.data())
def test_of_equally_frequent_ones_the_first_are_taken(counts: list[int], data: st.DataObject) -> None:
    number = data.draw(st.integers(1, len(counts)))
    wanted = sorted(sorted(range(len(counts)), key=lambda at: (-counts[at], at))[:number])
    assert most_frequent(np.array(counts), number).tolist() == wanted
