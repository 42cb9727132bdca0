"""Vocabularies that go on, against a reading of the rules with dictionaries."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.columns.layout import CategoricalColumn, Kind
from data_prep.ids import extension
from data_prep.ids.assignment import write_counted
from data_prep.ids.counting import Span
from data_prep.ids.extension import CountedValues, Extension, extend_vocabulary, read_counted, span_of
from data_prep.ids.keys import keys_of_values
from tests.messages import naming

Value = int | str


@dataclass
class Reference:
    """The rules, value by value."""

    kind: Kind
    ids: dict[Value, int] = field(default_factory=dict)
    counts: dict[Value, int] = field(default_factory=dict)
    last_seen: dict[Value, int] = field(default_factory=dict)

    def extend(self, day: dict[Value, int], min_count: int, capacity: int, number: int) -> list[int]:
        """Goes on with a day's counts; returns the ids that have another value than before."""
        for value, count in day.items():
            self.counts[value] = self.counts.get(value, 0) + count
            self.last_seen[value] = number
        before = len(self.ids)
        new = [value for value in day if value not in self.ids and self.counts[value] >= min_count]
        new.sort(key=lambda value: (-self.counts[value], self.key(value)))
        growth = min(len(new), capacity - 2 - before) if capacity else len(new)
        for number_of_new, value in enumerate(sorted(new[:growth], key=self.key)):
            self.ids[value] = 2 + before + number_of_new
        old = [value for value, at in self.ids.items() if at < 2 + before and self.last_seen[value] < number]
        old.sort(key=lambda value: (self.last_seen[value], self.ids[value]))
        reset = []
        for value, gone in zip(new[growth:], old, strict=False):
            self.ids[value] = self.ids.pop(gone)
            del self.counts[gone], self.last_seen[gone]
            reset.append(self.ids[value])
        waiting = [value for value in self.counts if value not in self.ids]
        waiting.sort(key=lambda value: (-self.last_seen[value], -self.counts[value], self.key(value)))
        for value in waiting[capacity or max(2 + len(self.ids), extension.LEAST_WAITING) :]:
            del self.counts[value], self.last_seen[value]
        return sorted(reset)

    def key(self, value: Value) -> int:
        return int(keys_of_values(pa.chunked_array([as_array([value], self.kind)]), self.kind)[0])

    def rows(self, values: list[Value]) -> list[tuple[Value, int, int]]:
        return [(value, self.counts[value], self.last_seen[value]) for value in values]

    @property
    def vocabulary(self) -> list[tuple[Value, int, int]]:
        return self.rows(sorted(self.ids, key=lambda value: self.ids[value]))

    @property
    def waiting(self) -> list[tuple[Value, int, int]]:
        return self.rows(sorted(self.counts.keys() - self.ids.keys(), key=self.key))


class Spans:
    """Counts of a day in spans that begin at these places."""

    def __init__(self, day: dict[Value, int], kind: Kind, cuts: list[int]) -> None:
        whole = span_of(as_array(list(day), kind), np.array(list(day.values()), np.int64), kind)
        ends = sorted({0, *(cut for cut in cuts if cut < len(day)), len(day)})
        self._spans = [Span(whole.keys[a:b], whole.counts[a:b], whole.values[a:b]) for a, b in pairwise(ends)]

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)


def as_array(values: list[Value], kind: Kind) -> pa.Array:
    return pa.array(values, pa.int64() if kind == "integer" else pa.string())


def rows_of(values: CountedValues) -> list[tuple[Value, int, int]]:
    return list(zip(*(column.to_pylist() for column in values.table().columns), strict=True))


def hexadecimal(number: int) -> str:
    return f"{number:08x}"


VALUES: dict[Kind, st.SearchStrategy[Value]] = {
    "integer": st.integers(-9, 9),
    "hex": st.integers(0, 14).map(hexadecimal),
    "string": st.text("abä", max_size=3),
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_chain_follows_the_rules(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "LEAST_WAITING", 4)
    days = st.lists(st.dictionaries(VALUES[kind], st.integers(1, 4), max_size=14), min_size=1, max_size=6)

    @settings(max_examples=50, deadline=None)
    @given(days, st.integers(1, 4), st.sampled_from([0, 3, 6, 9]), st.integers(0, 4), st.lists(st.integers(0, 14)))
    def check(days: list[dict[Value, int]], min_count: int, capacity: int, growth: int, cuts: list[int]) -> None:
        wanted = Reference(kind)
        got = Extension(CountedValues.none(kind), CountedValues.none(kind), np.empty(0, np.int64))
        for number, day in enumerate(days):
            room = capacity + number * growth if capacity else 0
            known, size = dict(wanted.ids), 2 + len(wanted.ids)
            reset = wanted.extend(day, min_count, room, number)
            spans = Spans(day, kind, cuts)
            got = extend_vocabulary(got.vocabulary, got.waiting, spans, kind, min_count, room, number)
            assert rows_of(got.vocabulary) == wanted.vocabulary
            assert rows_of(got.waiting) == wanted.waiting
            assert got.reset.tolist() == reset
            ids = {value: 2 + place for place, (value, _, _) in enumerate(wanted.vocabulary)}
            anew = {*reset, *range(size, 2 + len(ids))}
            # But for ids that begin anew, the vocabulary before gives the values of the day the same ids.
            for value in day:
                assert known.get(value, 1) == (1 if ids.get(value, 1) in anew else ids.get(value, 1))

    check()


def test_the_first_period_gives_a_learnt_vocabulary(tmp_path: Path) -> None:
    day: dict[Value, int] = {word * times: 1 + times % 3 for word in ("ab", "x", "ö") for times in range(1, 9)}
    for min_count, capacity in ((1, 0), (2, 0), (2, 12)):
        spans = Spans(day, "string", [7, 15])
        none = CountedValues.none("string")
        got = extend_vocabulary(none, none, spans, "string", min_count, capacity, 0)
        learnt = write_counted(spans, CategoricalColumn("word"), min_count, capacity, tmp_path / "0.npy")
        table = got.vocabulary.table()
        assert table.select(["value", "count"]) == pq.read_table(learnt)
        assert table["last_seen"].to_pylist() == [0] * len(table)
        assert len(table) + len(got.waiting) == len(day) if capacity == 0 else len(got.waiting) == capacity
        pq.write_table(table, tmp_path / "0.parquet")
        assert rows_of(read_counted(tmp_path / "0.parquet", "string")) == rows_of(got.vocabulary)


def test_a_text_with_the_hash_of_a_known_one_is_refused() -> None:
    seen = CountedValues(
        np.array([5], np.uint64), pa.chunked_array([["one"]]), np.array([3]), np.array([0])
    )  # fmt: skip
    none = CountedValues.none("string")
    day = [Span(np.array([5], np.uint64), np.array([1]), pa.array(["other"]))]
    for vocabulary, waiting in ((seen, none), (none, seen)):
        with pytest.raises(ValueError, match=naming("'words'", "one", "other")):
            extend_vocabulary(vocabulary, waiting, day, "string", 2, 0, 1, "words")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"value": ["a"], "count": [1]}), tmp_path / "old.parquet")
    with pytest.raises(ValueError, match=naming("old.parquet", "'last_seen'")):
        read_counted(tmp_path / "old.parquet", "string")
