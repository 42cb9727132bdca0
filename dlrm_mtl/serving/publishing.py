"""Publications of a model that is trained period by period: full exports, and deltas between them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlrm_mtl.export_options import ExportOptions, Precision
from dlrm_mtl.location import Location
from dlrm_mtl.serving.deltas.applying import apply_deltas
from dlrm_mtl.serving.deltas.manifest import Delta
from dlrm_mtl.serving.deltas.writing import find_obstacle, write_delta
from dlrm_mtl.serving.directories import PARTIAL, check_place, new_directory
from dlrm_mtl.serving.manifest import Manifest, read_manifest
from dlrm_mtl.serving.text import format_delta
from dlrm_mtl.serving.writing import write_export
from dlrm_mtl.units import format_size

FULL, DELTA = "full", "delta"
"""Folders of a publication."""

_BEFORE = "before"


@dataclass(frozen=True)
class Publication:
    """What was published."""

    full: Manifest | None
    delta: Delta | None
    obstacle: str | None
    """Why there is no delta; None: there is one, or nothing was published before."""

    def __str__(self) -> str:
        parts = []
        if self.full is not None:
            parts.append(f"full, {format_size(self.full.bytes)}")
        if self.delta is not None:
            parts.append(f"delta, {format_delta(self.delta)}")
        if self.obstacle is not None:
            parts.append(f"no delta: {self.obstacle}")
        return "; ".join(parts)


def publish(
    checkpoint: Path, arm: str, data: Location, out: Path, every: int, precision: Precision = "float"
) -> Publication | None:
    """Publishes a model as the next in a folder of publications, as a full export, as a delta of the publication
    before, or both; None: it is there already. It is whole or not there. Full ones are the first, those that ``every``
    publications lie between, and those that cannot be a delta.

    Meanwhile up to two more full exports are on the disk. Any process may call it, one at a time.

    Args:
        checkpoint: see :class:`ExportOptions`; ``arm``, ``data`` and ``precision`` too.
        out: directory of the publication: RUN/published/NUMBER-NAME. Its siblings whose names sort before it are the
            earlier publications.

    Raises:
        ValueError: see :func:`write_export`; an earlier publication that is needed is missing or damaged.
    """
    if out.exists():
        return None
    check_place(out, (FULL, DELTA, _BEFORE))
    since = _since_full(out)
    with new_directory(out) as directory:
        full = write_export(ExportOptions(checkpoint, directory / FULL, arm, data, precision))
        if not since:
            return Publication(full, None, None)
        before = _restore(since, directory / _BEFORE)
        obstacle = find_obstacle(read_manifest(before), full)
        delta = write_delta(before, directory / FULL, directory / DELTA) if obstacle is None else None
        shutil.rmtree(directory / _BEFORE, ignore_errors=True)
        if delta is None or len(since) >= every:
            return Publication(full, delta, obstacle)
        shutil.rmtree(directory / FULL)
    return Publication(None, delta, None)


def _since_full(out: Path) -> list[Path]:
    """The earlier publications from the last full one on."""
    siblings = sorted(out.parent.iterdir()) if out.parent.exists() else []
    earlier = [path for path in siblings if path.name < out.name and not path.name.endswith(PARTIAL)]
    starts = [number for number, path in enumerate(earlier) if (path / FULL).exists()]
    if earlier and not starts:
        raise ValueError(f"{out.parent}: no full export in {', '.join(path.name for path in earlier)}")
    return earlier[starts[-1] :] if starts else []


def _restore(since: Sequence[Path], out: Path) -> Path:
    """The full export of the last publication."""
    first, *later = since
    if not later:
        return first / FULL
    apply_deltas(first / FULL, [path / DELTA for path in later], out)
    return out
