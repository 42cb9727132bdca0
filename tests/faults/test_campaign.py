"""A small campaign: every kind of fault once."""

from pathlib import Path

from tests.datasets import make_dataset
from tests.faults.campaign import ROWS, STRIKES, Campaign, Report


def test_every_kind_of_fault_is_survived_or_refused(tmp_path: Path) -> None:
    data, report = make_dataset(tmp_path / "data", rows=ROWS), Report()
    Campaign(tmp_path, data, 1, report).run([2], len(STRIKES), list(STRIKES))
    assert report.succeeded, str(report)
    assert report.tried == len(STRIKES) + 1
    assert report.ne_difference == 0


def test_rows_are_counted_where_ranks_change(tmp_path: Path) -> None:
    data, report = make_dataset(tmp_path / "data", rows=ROWS), Report()
    Campaign(tmp_path, data, 2, report).run([1, 2, 3], 4, ["killed rank", "SIGTERM"])
    assert report.succeeded, str(report)
