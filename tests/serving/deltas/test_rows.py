"""Rows are compared by their bytes."""

from pathlib import Path

import numpy as np
import pytest

from dlrm_mtl.serving.deltas.rows import replace_rows, write_changed_rows


@pytest.mark.parametrize("block", [1, 3, 100])
def test_rows_that_changed_in_any_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("dlrm_mtl.serving.deltas.rows.BLOCK_ROWS", block)
    before = np.array([[0, 1], [np.nan, 2], [3, 4], [0, 5]], np.float32)
    after = np.array([[0, 1], [np.nan, 2], [3, 4.5], [-0.0, 5], [6, 7]], np.float32)
    old, new = (rows.view("V8")[:, 0] for rows in (before, after))
    changes = write_changed_rows(old, new, tmp_path / "rows.parquet")
    assert (changes.replaced, changes.appended, changes.rows) == (2, 1, 5)
    result = np.concatenate([old, np.zeros(1, "V8")])
    replace_rows(result, tmp_path / "rows.parquet")
    assert result.tobytes() == new.tobytes()
