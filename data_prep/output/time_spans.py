"""First and last times of each split, and how many training rows are later than the first evaluation row."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_prep.sources.times import Time, TimeArray
from dlrm_mtl.files import sha256, write_whole


class SeenTimes:
    """Collects the times of a log segment's rows.

    Args:
        path: file for the times of training rows, which are compared with the first evaluation time later; None: they
            are not kept.
    """

    def __init__(self, path: Path | None) -> None:
        self.spans: dict[str, list[Time]] = {}
        """First and last time of each split that has rows."""
        self._path = path
        self._training: list[TimeArray] = []

    def add(self, split: str, times: TimeArray) -> None:
        """Adds the times (B,) of rows of a split."""
        if len(times):
            first, last = times.min().item(), times.max().item()
            before = self.spans.get(split, [first, last])
            self.spans[split] = [min(first, before[0]), max(last, before[1])]
            if self._path is not None and split == "train":
                self._training.append(times)

    def finish(self) -> dict[Path, str]:
        """Writes the times of training rows; returns the file with its checksum."""
        if self._path is None:
            return {}
        with write_whole(self._path) as temporary, temporary.open("wb") as file:
            np.save(file, np.concatenate([np.empty(0, np.int64), *self._training]), allow_pickle=False)
        return {self._path: sha256(self._path)}


def join_spans(spans: Iterable[Mapping[str, Sequence[Time]]]) -> dict[str, tuple[Time, Time]]:
    """First and last time of each split, over all log segments."""
    ends: dict[str, list[Time]] = {}
    for segment in spans:
        for split, span in segment.items():
            ends.setdefault(split, []).extend(span)
    return {split: (min(times), max(times)) for split, times in ends.items()}


def count_later(parts: Mapping[Path, Time], first_evaluated: Time) -> int:
    """How many training rows are later than the first evaluation row.

    Args:
        parts: files of times (B,), and the last time in each.
    """
    later = [path for path, last in parts.items() if last > first_evaluated]
    return sum(int((np.load(path, allow_pickle=False) > first_evaluated).sum()) for path in later)
