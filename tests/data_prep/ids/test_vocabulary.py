"""Vocabularies and scales against plain Python and NumPy."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.columns.arrays import NULL, missing_of
from data_prep.ids.assignment import of_values, with_missing
from data_prep.ids.keys import keys_of
from data_prep.ids.scaling import Moments, Scaler
from data_prep.ids.vocabulary import MISSING_ID, RESERVED_IDS, UNSEEN_ID, ValueCounter

values = st.integers(-5, 12) | st.just(NULL)
batches = st.lists(st.lists(values, max_size=20), max_size=8)


@given(batches, st.integers(1, 4))
def test_values_are_counted_over_batches(batches: list[list[int]], min_count: int) -> None:
    counter = ValueCounter()
    for batch in batches:
        counter.add(np.array(batch, np.int64))
    occurrences = Counter(value for batch in batches for value in batch if value != NULL)
    expected = sorted(value for value, count in occurrences.items() if count >= min_count)
    assert counter.vocabulary(min_count).values.tolist() == expected


@given(st.lists(st.tuples(values, st.integers(0, 3)), max_size=30), st.integers(1, 4))
def test_a_weight_is_a_repetition(weighted: list[tuple[int, int]], min_count: int) -> None:
    counter, repeated = ValueCounter(), ValueCounter()
    numbers = np.array([value for value, _ in weighted], np.int64)
    weights = np.array([weight for _, weight in weighted], np.int64)
    counter.add(numbers, weights)
    repeated.add(np.repeat(numbers, weights))
    assert counter.vocabulary(min_count).values.tolist() == repeated.vocabulary(min_count).values.tolist()


@given(st.lists(st.integers(-5, 12), unique=True), st.lists(st.integers(-5, 12) | st.none()))
def test_ids_are_dense_and_reserved_ones_kept(known: list[int], asked: list[int | None]) -> None:
    vocabulary = of_values(pa.chunked_array([pa.array(known, pa.int64())]), "integer")
    expected = []
    for value in asked:
        if value is None:
            expected.append(MISSING_ID)
        elif value in known:
            expected.append(known.index(value) + RESERVED_IDS)
        else:
            expected.append(UNSEEN_ID)
    values = pa.array(asked, pa.int64())
    assert with_missing(vocabulary.ids(keys_of(values)), missing_of(values)).tolist() == expected
    assert vocabulary.cardinality == len(known) + RESERVED_IDS


def test_moments_over_batches_equal_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    # A mean far above the deviation: sums of squares would cancel here.
    numbers = 1e8 + rng.standard_normal(1000)
    numbers[::7] = np.nan
    weights = rng.integers(0, 4, 1000)
    moments = Moments()
    for part in np.split(np.arange(1000), [1, 1, 300, 301, 800]):
        moments.add(numbers[part], weights[part])
    scaler = moments.scaler()
    whole = np.repeat(numbers, weights)
    assert scaler.mean == pytest.approx(np.nanmean(whole), rel=1e-14)
    assert scaler.deviation == pytest.approx(np.nanstd(whole), rel=1e-6)
    assert scaler.has_missing


def test_missing_values_are_remembered() -> None:
    moments = Moments()
    moments.add(np.array([1.0, 3.0]))
    assert moments.scaler() == Scaler(2.0, 1.0, False)
    moments.add(np.array([2.0, np.nan]))
    assert moments.scaler().has_missing


@pytest.mark.parametrize("numbers", [[2.3, 2.3, 2.3], [np.nan, np.nan], []])
def test_a_feature_without_variance_is_not_scaled(numbers: list[float]) -> None:
    moments = Moments()
    moments.add(np.array(numbers))
    assert moments.scaler().deviation == 1.0
