"""Parsed rows that the stage count keeps for encode do not change the data set."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from data_prep.engine import prepare as preparing
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from data_prep.sources import raw_text
from dlrm_mtl.schema import Schema
from tests.data_prep.logs import LAYOUT, checksums, lines_of, write_log

FAULTS = {3: "1\t2", 40: "7" + "\t" * 7, 41: "", 500: "\t" * 7}


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_text, "SEGMENT_BYTES", 5000)
    monkeypatch.setattr(raw_text, "BLOCK_BYTES", 1500)


def run(raw: Sequence[Path], out: Path, keep: bool, split: SplitOptions | None = None) -> Schema:
    work = WorkOptions(on_bad_row="quarantine", keep_parsed=keep)
    return prepare("small", "tests", LAYOUT, raw, out, IdOptions(), split or SplitOptions(), work)


def log(seed: int) -> list[str]:
    lines = lines_of(600, seed)
    for position, line in FAULTS.items():
        lines[position] = line
    return lines


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("rows", ["", "700:"])
def test_the_data_set_is_the_same(tmp_path: Path, suffix: str, rows: str) -> None:
    raw = [write_log(tmp_path / "raw" / f"day_{day}{suffix}", log(day)) for day in range(2)]
    split = SplitOptions(train_rows=":700" if rows else "", eval_rows=rows)
    run(raw, tmp_path / "kept", True, split)
    run(raw, tmp_path / "parsed", False, split)
    assert len(list((tmp_path / "kept" / "train").iterdir())) > 2
    assert len((tmp_path / "kept" / "quarantine.jsonl").read_text().splitlines()) == 2 * len(FAULTS)
    assert checksums(tmp_path / "kept") == checksums(tmp_path / "parsed")


def test_a_file_that_breaks_off(tmp_path: Path) -> None:
    raw = [write_log(tmp_path / "raw" / f"day_{day}.gz", log(day)) for day in range(2)]
    raw[0].write_bytes(raw[0].read_bytes()[:-400])
    for keep in (True, False):
        run(raw, tmp_path / str(keep), keep)
    assert "can be read" in (tmp_path / "True" / "quarantine.jsonl").read_text()
    assert checksums(tmp_path / "True") == checksums(tmp_path / "False")


@pytest.mark.parametrize("how", ["gone", "empty", "cut", "changed"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_what_is_damaged_is_parsed_again(
    tmp_path: Path, suffix: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = [write_log(tmp_path / "raw" / f"day_{day}{suffix}", log(day)) for day in range(2)]
    run(raw, tmp_path / "whole", True)

    def interrupt(*_: object) -> None:
        raise RuntimeError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "EncodePass", interrupt)
        with pytest.raises(RuntimeError, match="interrupted"):
            run(raw, tmp_path / "out", True)
    kept = sorted((tmp_path / "out.partial" / "work" / "parsed").iterdir())
    assert len(kept) > 2
    data = kept[1].read_bytes()
    middle = len(data) // 2
    if how == "gone":
        kept[1].unlink()
    else:
        changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        kept[1].write_bytes({"cut": data[:middle], "empty": b"", "changed": changed}[how])
    run(raw, tmp_path / "out", True)
    assert checksums(tmp_path / "out") == checksums(tmp_path / "whole")
    assert not (tmp_path / "out.partial").exists()
