"""seed-S.npz: the estimates of every arm's evaluation, from which later comparisons take intervals over rows."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from dlrm_mtl.files import parse_json, write_whole
from dlrm_mtl.metrics.estimates import Estimates
from dlrm_mtl.metrics.evaluation import EvaluationEstimates, SegmentEvaluation
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import build

INDEX = "index"
"""Member of the file that lists the others, since names of arms and segments may not suit a member's name."""

PRODUCTS = "products"
"""Folder of the members for products of tasks."""


@dataclass(frozen=True)
class _Arm:
    name: str
    metrics: tuple[str, ...]
    segments: Mapping[str, Mapping[str, int]]
    """Rows by segment and value."""
    product_metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Index:
    arms: tuple[_Arm, ...]


def write_estimates(path: Path, arms: Mapping[str, EvaluationEstimates]) -> None:
    """Writes the estimates of arms atomically. Influence is rounded to float32."""
    index = {"arms": [_arm_record(name, arm) for name, arm in arms.items()]}
    members: dict[str, npt.NDArray[Any]] = {INDEX: np.array(json.dumps(index))}
    for place, arm in enumerate(arms.values()):
        for stem, of_metric in ((f"{place}", arm.estimates), (f"{place}/{PRODUCTS}", arm.product_estimates)):
            for metric, estimates in of_metric.items():
                members[f"{stem}/{metric}/values"] = estimates.values
                members[f"{stem}/{metric}/influence"] = estimates.influence.astype(np.float32)
        for number, values in enumerate(arm.segments.values()):
            of_values = [segment.ne for segment in values.values()]
            stem = f"{place}/segment-{number}"
            members[f"{stem}/values"] = np.stack([ne.values for ne in of_values])
            members[f"{stem}/influence"] = np.stack([ne.influence for ne in of_values], axis=1).astype(np.float32)
    with write_whole(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **members)


def read_estimates(path: Path) -> dict[str, EvaluationEstimates]:
    """Reads what :func:`write_estimates` wrote.

    Raises:
        ValueError: the file is missing or has another content; the message names it.
    """
    try:
        with path.open("rb") as file:
            members = np.load(file, allow_pickle=False)
            if not isinstance(members, NpzFile):
                raise ValueError("a single array")
            return _read(members)
    except FileNotFoundError:
        raise ValueError(f"{path}: not found") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not valid estimates ({error})") from None


def _arm_record(name: str, arm: EvaluationEstimates) -> dict[str, Any]:
    rows = {segment: {value: part.rows for value, part in values.items()} for segment, values in arm.segments.items()}
    return {
        "name": name,
        "metrics": list(arm.estimates),
        "segments": rows,
        "product_metrics": list(arm.product_estimates),
    }


def _read(members: NpzFile) -> dict[str, EvaluationEstimates]:
    text = _member(members, INDEX)
    if text.dtype.kind != "U" or text.ndim:
        raise ValueError(f"{INDEX}: expected a text")
    index = build(_Index, parse_json(str(text), INDEX), INDEX)
    return {arm.name: _read_arm(members, place, arm) for place, arm in enumerate(index.arms)}


def _read_arm(members: NpzFile, place: int, arm: _Arm) -> EvaluationEstimates:
    estimates = {metric: _read_estimates(members, f"{place}/{metric}", ()) for metric in arm.metrics}
    segments: dict[str, dict[str, SegmentEvaluation]] = {}
    for number, (segment, rows) in enumerate(arm.segments.items()):
        joined = _read_estimates(members, f"{place}/segment-{number}", (len(rows),))
        segments[segment] = {
            value: SegmentEvaluation(count, Estimates(joined.values[which], joined.influence[:, which]))
            for which, (value, count) in enumerate(rows.items())
        }
    products = {metric: _read_estimates(members, f"{place}/{PRODUCTS}/{metric}", ()) for metric in arm.product_metrics}
    if len({one.values.shape for one in products.values()}) > 1:
        raise ValueError(f"arm {quote(arm.name)}: estimates of different numbers of products")
    of_all = [*estimates.values(), *(part.ne for values in segments.values() for part in values.values())]
    if len({one.values.shape for one in of_all}) > 1:
        raise ValueError(f"arm {quote(arm.name)}: estimates of different numbers of tasks")
    return EvaluationEstimates(estimates, segments, products)


def _read_estimates(members: NpzFile, stem: str, before: tuple[int, ...]) -> Estimates:
    """Estimates of (*before, M) values."""
    values, influence = (_member(members, f"{stem}/{name}") for name in ("values", "influence"))
    if values.dtype != np.float64 or influence.dtype != np.float32:
        raise ValueError(f"{stem}: {values.dtype} and {influence.dtype}, expected float64 and float32")
    if values.ndim != len(before) + 1 or values.shape[:-1] != before or influence.shape[1:] != values.shape:
        raise ValueError(f"{stem}: values of shape {values.shape} and influence of shape {influence.shape}")
    if not np.isfinite(influence).all():
        raise ValueError(f"{stem}/influence: expected finite numbers")
    return Estimates(values, influence.astype(np.float64))


def _member(members: NpzFile, name: str) -> npt.NDArray[Any]:
    if name not in members.files:
        raise ValueError(f"{name} is missing")
    member: npt.NDArray[Any] = members[name]
    return member
