"""seed-S.npz: a round trip, and refusals that name the file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.metrics.estimates import Estimates
from dlrm_mtl.metrics.estimates_file import read_estimates, write_estimates
from dlrm_mtl.metrics.evaluation import EvaluationEstimates, SegmentEvaluation
from tests.messages import naming

Members = dict[str, Any]


def estimates(buckets: int, seed: int) -> Estimates:
    """Of two tasks, the second without a value."""
    influence = np.random.default_rng(seed).normal(size=(buckets, 2)).astype(np.float32).astype(np.float64)
    influence[:, 1] = 0
    return Estimates(np.array([0.5 + seed, np.nan]), influence)


def arms() -> dict[str, EvaluationEstimates]:
    """Names with characters that paths forbid."""
    segments = {
        "hour / UTC": {"0": SegmentEvaluation(7, estimates(5, 1)), "": SegmentEvaluation(0, estimates(5, 2))},
        "user": {"new": SegmentEvaluation(3, estimates(5, 3))},
    }
    return {
        "static:weights=0.5/0.5": EvaluationEstimates(
            {"ne": estimates(9, 4), "auc": estimates(9, 5)}, segments, {"ne": estimates(9, 7), "auc": estimates(9, 8)}
        ),
        "mean": EvaluationEstimates({"ne": estimates(9, 6)}, {}),
    }


def assert_same(found: Estimates, expected: Estimates) -> None:
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.influence, expected.influence)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "seed-0.npz"
    write_estimates(path, arms())
    read, expected = read_estimates(path), arms()
    assert list(read) == list(expected)
    for name, arm in expected.items():
        assert list(read[name].estimates) == list(arm.estimates)
        for metric, one in arm.estimates.items():
            assert_same(read[name].estimates[metric], one)
        assert list(read[name].product_estimates) == list(arm.product_estimates)
        for metric, one in arm.product_estimates.items():
            assert_same(read[name].product_estimates[metric], one)
        assert list(read[name].segments) == list(arm.segments)
        for segment, values in arm.segments.items():
            assert list(read[name].segments[segment]) == list(values)
            for value, part in values.items():
                assert read[name].segments[segment][value].rows == part.rows
                assert_same(read[name].segments[segment][value].ne, part.ne)


def test_the_same_estimates_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_estimates(tmp_path / name, arms())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def put(name: str, change: Callable[[Any], Any]) -> Callable[[Members], Members]:
    return lambda members: {**members, name: change(members[name])}


def without(name: str) -> Callable[[Members], Members]:
    return lambda members: {key: value for key, value in members.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("index"), "index is missing"),
        (without("0/auc/values"), "0/auc/values is missing"),
        (without("0/segment-1/influence"), "0/segment-1/influence is missing"),
        (put("index", lambda text: np.array(str(text)[:-1])), "index: not valid JSON"),
        (put("index", lambda text: np.array(str(text).replace("rows", "x").replace(": 7", ': "7"'))), "expected int"),
        (put("index", lambda text: np.zeros(3)), "index: expected a text"),
        (put("0/ne/values", lambda values: values.astype(np.float32)), "0/ne: float32 and float32, expected float64"),
        (put("0/ne/influence", lambda influence: influence[:, :1]), "0/ne: values of shape"),
        (put("0/segment-0/values", lambda values: values[:1]), "0/segment-0: values of shape"),
        (
            put("0/ne/influence", lambda influence: influence + np.float32(np.inf)),
            "0/ne/influence: expected finite numbers",
        ),
        (put("0/ne/values", lambda values: np.array([{}], dtype=object)), "Object arrays cannot be loaded"),
    ],
)
def test_what_is_not_so_is_refused(tmp_path: Path, change: Callable[[Members], Members], message: str) -> None:
    path = tmp_path / "seed-0.npz"
    write_estimates(path, arms())
    with np.load(path) as file:
        members: Mapping[str, Any] = change({name: file[name] for name in file.files})
    np.savez(path, **members)
    with pytest.raises(ValueError, match=message) as caught:
        read_estimates(path)
    assert str(path) in str(caught.value)


def test_arms_of_other_tasks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "seed-0.npz"
    one = Estimates(np.zeros(1), np.zeros((9, 1)))
    write_estimates(path, {"mean": EvaluationEstimates({"ne": estimates(9, 0), "auc": one}, {})})
    with pytest.raises(ValueError, match=naming("arm 'mean'", "numbers of tasks")):
        read_estimates(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "seed-0.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not valid estimates"):
        read_estimates(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=naming("seed-0.npz", "not found")):
        read_estimates(tmp_path / "seed-0.npz")
