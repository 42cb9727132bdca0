"""Ids of keys, and their expansion to several."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.ids.assignment import Assignment, Hashed, Learnt, Modulo, of_values, read_vocabulary, with_missing
from data_prep.ids.keys import keys_of
from data_prep.ids.multi_hot import expand

KEYS = {
    np.uint32: st.lists(st.integers(0, 2**32 - 1), max_size=50),
    np.uint64: st.lists(st.integers(0, 2**64 - 1), max_size=50),
}
METHODS: list[type[Hashed] | type[Modulo]] = [Hashed, Modulo]


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("method", METHODS)
def test_ids_are_in_their_range(method: type[Hashed] | type[Modulo], kind: type[np.unsignedinteger]) -> None:
    @settings(deadline=None)
    @given(KEYS[kind], st.integers(3, 2**31 - 1))
    def check(keys: list[int], cardinality: int) -> None:
        assignment = method(cardinality)
        ids = assignment.ids(np.array(keys, kind))
        assert ids.dtype == np.int32
        assert len(ids) == len(keys)
        assert all(2 <= number < cardinality for number in ids.tolist())
        assert assignment.ids(np.array(keys[::-1], kind)).tolist() == ids[::-1].tolist()
        if method is Modulo:
            assert ids.tolist() == [2 + key % (cardinality - 2) for key in keys]

    check()


@pytest.mark.parametrize("kind", KEYS)
def test_hashes_spread_keys_that_follow_each_other(kind: type[np.unsignedinteger]) -> None:
    cardinality, number = 1002, 400_000
    for step in (1, 1000, 1 << 12):
        ids = Hashed(cardinality).ids(np.arange(number, dtype=kind) * kind(step))
        counts = np.bincount(ids, minlength=cardinality)
        assert counts[:2].tolist() == [0, 0]
        # Of 1000 binomial numbers of mean 400, the standard deviation is 20 and the largest deviation about 65.
        assert abs(counts[2:].std() - 20) < 4
        assert np.abs(counts[2:] - 400).max() < 110
    assert len(np.unique(Hashed(2**31 - 1).ids(np.arange(1000, dtype=kind)))) == 1000


def test_hashes_are_those_of_any_other_process() -> None:
    program = (
        "import numpy as np; from data_prep.ids.assignment import Hashed; from data_prep.ids.multi_hot import expand;"
        "ids = [Hashed(10_000).ids(np.arange(50, dtype=t)) for t in (np.uint32, np.uint64)];"
        "print([i.tolist() for i in ids], expand(ids[0], 'user', 4, 10_000).tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    ids = [Hashed(10_000).ids(np.arange(50, dtype=kind)) for kind in (np.uint32, np.uint64)]
    assert printed.strip() == f"{[i.tolist() for i in ids]} {expand(ids[0], 'user', 4, 10_000).tolist()}"


def test_hashes_are_those_of_published_data_sets() -> None:
    keys = [0, 1, 0xFFFFFFFF]
    assert Hashed(1002).ids(np.array(keys, np.uint32)).tolist() == [2 + (murmur(key) * 1000 >> 32) for key in keys]
    assert Hashed(1002).ids(np.array(keys, np.uint64)).tolist() == [
        2 + ((splitmix(key) >> 32) * 1000 >> 32) for key in keys
    ]


def murmur(key: int) -> int:
    key = (key ^ key >> 16) * 0x85EBCA6B % 2**32
    key = (key ^ key >> 13) * 0xC2B2AE35 % 2**32
    return key ^ key >> 16


def splitmix(key: int) -> int:
    key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    key = (key ^ key >> 27) * 0x94D049BB133111EB % 2**64
    return key ^ key >> 31


@settings(deadline=None)
@given(st.sets(st.integers(0, 30)), st.lists(st.integers(0, 40), max_size=60))
def test_learnt_ids_are_positions(vocabulary: set[int], keys: list[int]) -> None:
    known = sorted(vocabulary)
    learnt = Learnt(np.array(known, np.uint64))
    assert learnt.cardinality == len(known) + 2
    ids = learnt.ids(np.array(keys, np.uint64))
    assert ids.dtype == np.int32
    assert ids.tolist() == [known.index(key) + 2 if key in vocabulary else 1 for key in keys]


@pytest.mark.parametrize("assignment", [Hashed(10), Modulo(10), Learnt(np.array([1, 5], np.uint32))])
def test_missing_values_have_an_id_of_their_own(assignment: Assignment) -> None:
    keys = np.array([1, 5, 7, 1], np.uint32)
    ids = assignment.ids(keys)
    marked = with_missing(ids.copy(), np.array([False, True, False, True]))
    assert marked.tolist() == [ids[0], 0, ids[2], 0]
    assert with_missing(ids.copy(), None).tolist() == ids.tolist()


@settings(deadline=None)
@given(st.integers(3, 2**31 - 1), st.integers(1, 8), st.data())
def test_expanded_ids(cardinality: int, length: int, data: st.DataObject) -> None:
    number = st.integers(0, min(cardinality - 1, 50))
    ids = np.array(data.draw(st.lists(number, max_size=20)), np.int32)
    expanded = expand(ids, "user", length, cardinality)
    assert expanded.shape == (len(ids), length)
    assert expanded.dtype == np.int32
    assert expanded[:, 0].tolist() == ids.tolist()
    assert ((expanded[:, 1:] >= 2) & (expanded[:, 1:] < cardinality)).all()
    for row, value in zip(expanded, ids, strict=True):
        assert row.tolist() == expand(np.array([value], np.int32), "user", length, cardinality)[0].tolist()
    # A longer list begins with the shorter one.
    assert expand(ids, "user", length + 1, cardinality)[:, :-1].tolist() == expanded.tolist()


def test_expanded_ids_are_spread_and_differ_by_feature_id_and_place() -> None:
    ids = np.arange(2, 20_002, dtype=np.int32)
    one, other = (expand(ids, name, 5, 20_002) for name in ("user", "item"))
    drawn = one[:, 1:]
    counts = np.bincount(drawn.reshape(-1), minlength=20_002)[2:]
    assert abs(counts.mean() - 4.0) < 1e-9
    # 80,000 uniform draws of 20,000: Poisson numbers of mean and variance 4.
    assert abs(counts.var() - 4.0) < 0.3
    chance = 20 / 20_000
    assert np.mean(drawn == other[:, 1:]) < chance
    assert np.mean(drawn[:, 1:] == drawn[:, :-1]) < chance
    assert np.mean(drawn[1:, :-1] == drawn[:-1, 1:]) < chance


def test_a_table_of_reserved_ids_alone_is_expanded_within_it() -> None:
    assert expand(np.array([0, 1], np.int32), "user", 3, 2).max() < 2


@pytest.mark.parametrize("texts", [list("bacdefgh"), []])
def test_a_vocabulary_in_any_order_is_written_and_read(tmp_path: Path, texts: list[str]) -> None:
    learnt = of_values(pa.chunked_array([texts], pa.string()), "string")
    learnt.write(tmp_path / "keys.npy")
    read = read_vocabulary(tmp_path / "keys.npy")
    assert read.cardinality == learnt.cardinality == len(texts) + 2
    assert read.ids(keys_of(pa.array([*texts, "z"]))).tolist() == [*range(2, len(texts) + 2), 1]
