"""The values of a vocabulary and their changes."""

from pathlib import Path

import pyarrow as pa
import pytest

from data_prep.encoding.values import changed_values, load_values, with_changes, write_values


@pytest.mark.parametrize(
    ("before", "after", "ids"),
    [
        (["a", "b", "c", "d"], ["a", "x", "c", "y", "ü", ""], [3, 5, 6, 7]),
        ([1, 2, 3], [1, 2, 3], []),
        ([1, 2, 3], [-(2**63), 2, 2**63 - 1], [2, 4]),
        ([1], [1, 5, 4], [3, 4]),
    ],
)
def test_changes_lead_from_the_values_before_to_those_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: list[str | int], after: list[str | int], ids: list[int]
) -> None:
    """And the bytes of a file do not depend on the chunks in which values are in memory."""
    monkeypatch.setattr("data_prep.encoding.values.GROUP_ROWS", 3)
    old, new = (pa.chunked_array([some[:1], some[1:]]) for some in (before, after))
    changes = changed_values(old, new)
    assert changes["id"].to_pylist() == ids
    result = with_changes(old, changes)
    assert result.to_pylist() == after
    write_values(result, tmp_path / "a")
    write_values(pa.chunked_array([after]), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_values(tmp_path / "a").to_pylist() == after
