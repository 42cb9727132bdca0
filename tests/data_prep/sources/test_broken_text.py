"""Text that breaks off, has too long lines, or ends in blank lines: the rows around it."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.columns import rows
from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from data_prep.output.summary import report
from data_prep.sources import raw_text
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import Schema
from tests.messages import naming

LAYOUT = Layout(
    "log",
    (CategoricalColumn("user", "integer"), CategoricalColumn("site")),
    (LabelColumn("click"),),
    (Task("ctr", "click"),),
    (DenseColumn("age", "integer"),),
)
HEADLESS = Layout(**{**vars(LAYOUT), "columns": ("user", "site", "click", "age")})
HEADER = "user,site,click,age\n"
ROWS = 300


def lines(number: int = ROWS) -> list[str]:
    random = np.random.default_rng(0)
    return [f"{random.integers(9)},site {random.integers(10**9)},{row % 2},{row}\n" for row in range(number)]


def compress(data: bytes, suffix: str) -> bytes:
    return gzip.compress(data, mtime=0) if suffix == ".gz" else pa.compress(data, codec="zstd", asbytes=True)


def run(raw: Path, out: Path, layout: Layout = LAYOUT, quarantine: bool = True, **split: str) -> Schema:
    work = WorkOptions(on_bad_row="quarantine" if quarantine else "stop")
    return prepare("log", "test", layout, [raw], out, IdOptions(), SplitOptions(**split), work)


def quarantined(out: Path) -> list[dict[str, object]]:
    path = out / "quarantine.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("layout", [LAYOUT, HEADLESS], ids=["header", "no header"])
def test_a_compressed_file_cut_anywhere(tmp_path: Path, layout: Layout, suffix: str) -> None:
    """The rows before the cut are there, one bad row stands for the others, and the summary names the file."""
    header = "" if layout.columns else HEADER
    text = (header + "".join(lines())).encode()
    data = compress(text, suffix)
    for name in ("a.csv", "c.csv"):
        (tmp_path / "raw").mkdir(exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(text)
    cut = tmp_path / f"raw/b.csv{suffix}"
    found = []
    for number, size in enumerate((0, 1, 5, 12, 60, len(data) // 2, len(data) * 9 // 10, len(data) - 1)):
        cut.write_bytes(data[:size])
        out = tmp_path / f"out-{number}"
        schema = run(tmp_path / "raw", out, layout, train_files="0:2", eval_files="2:")
        found.append(schema.source["files"][1]["rows"])
        assert schema.rows("train") == ROWS + found[-1]
        assert (schema.rows("eval"), schema.source["rows_quarantined"]) == (ROWS, 1)
        [bad] = quarantined(out)
        assert bad["file"] == cut.name
        assert list(schema.source["files_broken"]) == [cut.name]
        assert f"{cut.name}: cannot be read further" in report(schema)
    assert found == sorted(found)
    assert found[0] == 0
    if suffix == ".gz":
        # A block of Zstandard, 128 KiB, is there or not.
        assert found[-1] == ROWS
        assert 0.4 * ROWS < found[-3] < 0.6 * ROWS
    with pytest.raises(ValueError, match=naming("b.csv")):
        run(tmp_path / "raw", tmp_path / "out", layout, quarantine=False)


@pytest.mark.parametrize(
    ("damage", "at_least"),
    [
        (lambda data: data[len(data) // 3 :], 0),
        (lambda data: data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :], ROWS // 3),
        (lambda data: data[:-8] + bytes(8), ROWS),
        (lambda data: data + b"garbage", ROWS),
        (lambda data: b"user,site,click,age\n", 0),
    ],
)
def test_a_compressed_file_that_is_damaged(tmp_path: Path, damage: Callable[[bytes], bytes], at_least: int) -> None:
    (tmp_path / "raw").mkdir()
    text = (HEADER + "".join(lines())).encode()
    for name in ("a.csv", "c.csv"):
        (tmp_path / "raw" / name).write_bytes(text)
    (tmp_path / "raw/b.csv.gz").write_bytes(damage(compress(text, ".gz")))
    schema = run(tmp_path / "raw", tmp_path / "out")
    assert list(schema.source["files_broken"]) == ["b.csv.gz"]
    assert schema.source["rows_quarantined"] >= 1
    assert schema.rows("train") >= ROWS + at_least
    assert schema.rows("eval") == ROWS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n\n\n", "\r\n\r\n", "\n\r\n\n"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path, end: str, suffix: str) -> None:
    """The last tenth of a single file evaluates, counted in rows."""
    newline = "\r\n" if "\r" in end else "\n"
    text = (HEADER + "".join(lines(20))).replace("\n", newline) + end
    path = tmp_path / f"log.csv{suffix}"
    path.write_bytes(compress(text.encode(), ".gz") if suffix else text.encode())
    for layout in (LAYOUT, Layout(**{**vars(LAYOUT), "comment": "#", "quoted": True})):
        schema = run(path, tmp_path / f"out{layout.comment}", layout, quarantine=False)
        assert (schema.rows("train"), schema.rows("eval")) == (18, 2)
        blank = end.count("\n")
        assert (schema.source["rows_read"], schema.source["lines_ignored"]) == (20 + blank, blank)


def test_blank_lines_elsewhere_are_bad_without_comments(tmp_path: Path) -> None:
    rows_of = lines(20)
    path = tmp_path / "log.csv"
    path.write_text(HEADER + "".join(rows_of[:5]) + "\n\n" + "".join(rows_of[5:]) + "\n")
    with pytest.raises(ValueError, match=naming("log.csv, line 7", 1, 4)):
        run(path, tmp_path / "out", quarantine=False)
    schema = run(path, tmp_path / "other")
    assert [bad["line"] for bad in quarantined(tmp_path / "other")] == [7, 8]
    assert (schema.source["rows_quarantined"], schema.source["lines_ignored"]) == (2, 1)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("where", [0, 150, ROWS])
def test_a_line_without_end_is_one_bad_row(tmp_path: Path, where: int, suffix: str) -> None:
    """Reading continues after it, in the memory of a block."""
    good = lines()
    long = "x" * 3_500_000 + "\n"
    text = (HEADER + "".join(good[:where]) + long + "".join(good[where:])).encode()
    path = tmp_path / f"log.csv{suffix}"
    path.write_bytes(compress(text, ".gz") if suffix else text)
    schema = run(path, tmp_path / "out", train_rows=":200", eval_rows="200:")
    assert schema.rows("train") + schema.rows("eval") == ROWS
    [bad] = quarantined(tmp_path / "out")
    assert bad["line"] == where + 2
    assert bad["text"] == "x" * rows.TEXT_OF_TOO_LONG
    with pytest.raises(ValueError, match=naming(f"line {where + 2}", "1 MiB")) as error:
        run(path, tmp_path / "stopped", quarantine=False)
    assert len(str(error.value)) < 400


def test_lines_as_long_as_they_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_text, "BLOCK_BYTES", 1 << 21)
    good = lines(20)
    for over, bad in ((0, 0), (1, 1)):
        site = "s" * (rows.LINE_BYTES - len("1,,0,5") + over)
        path = tmp_path / f"{over}.csv"
        path.write_text(HEADER + "".join(good) + f"1,{site},0,5\n" + "".join(good))
        schema = run(path, tmp_path / f"out-{over}")
        assert schema.source["rows_quarantined"] == bad


@pytest.mark.parametrize("quoted", [False, True])
def test_fields_that_python_will_not_convert(tmp_path: Path, quoted: bool) -> None:
    layout = Layout(**{**vars(LAYOUT), "quoted": quoted})
    fields = {
        "9" * 4301: "user",
        "-" + "1" * 100_000: "user",
        "0" * 5000 + "7": "",
        "1" + "0" * 4301: "age",
    }
    text = HEADER + "".join(lines(40))
    for value, column in fields.items():
        text += f"1,s,0,{value}\n" if column == "age" else f"{value},s,0,5\n"
    # Python's reader of quoted fields takes none of more than 128 KiB.
    text += f"1,{'s' * 200_000},0,5\n2,x,1,{'9' * 200_000}\n"
    (tmp_path / "log.csv").write_text(text + "".join(lines(40)))
    schema = run(tmp_path / "log.csv", tmp_path / "out", layout)
    found = [(bad["line"], bad["column"]) for bad in quarantined(tmp_path / "out")]
    last = "" if quoted else "age"
    assert found == [(42, "user"), (43, "user"), (45, "age"), (47, last)]
    assert schema.rows("train") + schema.rows("eval") == 82
    with pytest.raises(ValueError, match=r"log\.csv, line 42, column 'user'") as error:
        run(tmp_path / "log.csv", tmp_path / "stopped", layout, quarantine=False)
    assert len(str(error.value)) < len(str(tmp_path)) + 300
