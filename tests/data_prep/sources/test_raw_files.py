"""Folders that users and other programs write: which files are read, of which kind, with which columns."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from data_prep.ali_ccp import find_parts
from data_prep.census_income import find_evaluation, find_training
from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from data_prep.kuairand_log import csv_files
from data_prep.output.summary import report
from data_prep.sources.raw_files import find_files
from data_prep.sources.source import open_source
from dlrm_mtl.location import name_below
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import Schema
from tests.messages import mentions, naming

LAYOUT = Layout("log", (CategoricalColumn("user", "integer"),), (LabelColumn("click"),), (Task("ctr", "click"),))
TEXT = "user,click\n" + "".join(f"{row % 7},{row % 2}\n" for row in range(40))


def table(rows: int = 40) -> pa.Table:
    return pa.table({"user": [row % 7 for row in range(rows)], "click": [row % 2 for row in range(rows)]})


def put(path: Path, data: str | bytes | pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, pa.Table):
        pq.write_table(data, path)
    else:
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def run(
    raw: Path | Sequence[Path], out: Path, layout: Layout = LAYOUT, quarantine: bool = False, **split: str
) -> Schema:
    paths = [raw] if isinstance(raw, Path) else raw
    work = WorkOptions(on_bad_row="quarantine" if quarantine else "stop")
    return prepare("log", "test", layout, paths, out, IdOptions(), SplitOptions(**split), work)


def test_what_other_programs_leave_is_passed_over(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("part-10.parquet", "part-2.parquet", "b/part-0.parquet"):
        put(raw / name, table())
    for name in ("_SUCCESS", "_metadata", "_common_metadata", ".part-2.parquet.crc", "._part-2.parquet"):
        put(raw / name, b"")
    for name in ("_temporary/0/part-3.parquet", ".ipynb_checkpoints/part-2.parquet", "b/_SUCCESS", "_delta_log/0.json"):
        put(raw / name, b"")
    files, passed_over = find_files([raw])
    assert [name_below(raw, path) for path in files] == ["b/part-0.parquet", "part-2.parquet", "part-10.parquet"]
    assert passed_over == 9
    schema = run(raw, tmp_path / "out")
    assert schema.source["files_passed_over"] == 9
    assert mentions(report(schema), 9, "passed over")
    # A file that is named itself is read.
    assert find_files([put(tmp_path / "_odd", table())]) == ([tmp_path / "_odd"], 0)
    with pytest.raises(ValueError, match=naming(2, "_")):
        find_files(
            [raw / "_delta_log", put(tmp_path / "hidden/.a", b"").parent, put(tmp_path / "x/_b", b"").parent][1:]
        )
    (raw / "loop").symlink_to(raw)
    with pytest.raises(ValueError, match=naming("loop", "link")):
        find_files([raw])


def test_sources_that_look_for_names_see_no_other_file(tmp_path: Path) -> None:
    for name in ("census-income.DATA.gz", "census-income.test-b.gz", "census-income.test-a", "census-income.names"):
        put(tmp_path / name, b"x")
    for name in ("_census-income.data", "census-income.data.bak", "census-income.test-a.txt", ".census-income.test"):
        put(tmp_path / name, b"x")
    (tmp_path / "census-income.test").mkdir()
    assert find_training(tmp_path).name == "census-income.DATA.gz"
    assert [path.name for path in find_evaluation(tmp_path)] == ["census-income.test-a", "census-income.test-b.gz"]
    put(tmp_path / "census-income.test.zst", b"x")
    with pytest.raises(ValueError, match=naming("census-income.test.zst", "census-income.test-a")):
        find_evaluation(tmp_path)
    for name in ("sample_skeleton_train.csv.GZ", "sample_skeleton_test.csv", "sample_skeleton_test.csv.md5"):
        put(tmp_path / name, b"x")
    found = find_parts(tmp_path, "sample_skeleton")
    assert [path.name for path in found] == ["sample_skeleton_train.csv.GZ", "sample_skeleton_test.csv"]
    for name in ("log_standard_1.csv", "log_standard_2.CSV.gz", "_log_standard_3.csv", "log_standard_4.csv.crc"):
        put(tmp_path / name, b"x")
    names = [path.name for path in csv_files.find(tmp_path, "log_standard_*")]
    assert names == ["log_standard_1.csv", "log_standard_2.CSV.gz"]


def tar(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("log.csv")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("log.csv", data)
    return buffer.getvalue()


def orc(data: bytes) -> bytes:
    buffer = io.BytesIO()
    pa.orc.write_table(table(), buffer)
    return buffer.getvalue()


def arrow(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table().schema) as writer:
        writer.write_table(table())
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (bz2.compress, "bzip2"),
        (lzma.compress, "xz"),
        (lambda data: pa.compress(data, codec="lz4", asbytes=True), "lz4"),
        (zipped, "zip"),
        (tar, "tar"),
        (lambda data: gzip.compress(tar(data)), "tar"),
        (lambda data: gzip.compress(zipped(data)), "zip"),
        (orc, "ORC"),
        (arrow, "Arrow IPC"),
        (lambda data: b"Obj\x01\x04\x14avro.codec", "Avro"),
        (lambda data: data.decode().encode("utf-16"), "UTF-16"),
        (lambda data: gzip.compress(data.decode().encode("utf-16")), "UTF-16"),
        (lambda data: data.decode().encode("utf-32"), "UTF-32"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (lambda data: data.replace(b"\n", b"\r"), "carriage return"),
        (lambda data: gzip.compress(data.replace(b"\n", b"\r")), "carriage return"),
    ],
)
@pytest.mark.parametrize("headed", [True, False])
def test_a_file_of_another_kind_is_named_by_its_bytes(
    tmp_path: Path, write: Callable[[bytes], bytes], kind: str, headed: bool
) -> None:
    layout = LAYOUT if headed else Layout(**{**vars(LAYOUT), "columns": ("user", "click")})
    text = TEXT if headed else TEXT.partition("\n")[2]
    for name in ("log.csv", "log.parq", "log"):
        path = put(tmp_path / name, write(text.encode()))
        with pytest.raises(ValueError, match=rf"{name}.*({kind})") as error:
            open_source(layout, [path])
        assert len(str(error.value)) < len(str(path)) + 300
        assert str(error.value).isprintable()


def test_a_header_of_no_text_is_quoted_briefly(tmp_path: Path) -> None:
    garbage = bytes(byte for byte in range(1, 256) if byte not in b"\r\n") * 90
    for data, message in (
        (TEXT.encode("utf-16-le"), "line 1: has NUL bytes"),
        (garbage * 50, "line 1: has more than 1 MiB"),
        (garbage + b"\n", "column 'user' is missing; the file has "),
        (
            (",".join(f"column {i}" for i in range(9999)) + "\n").encode(),
            "column 'user' is missing; the file has column 0",
        ),
    ):
        path = put(tmp_path / "log.csv", data)
        with pytest.raises(ValueError, match=message) as error:
            open_source(LAYOUT, [path])
        assert len(str(error.value)) < len(str(path)) + 300
        assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["log.csv", "log.CSV.GZ", "LOG.ZST", "log.snappy", "log.parq", "log"])
def test_what_a_file_holds_decides(tmp_path: Path, name: str) -> None:
    """The content decides, not the name; a byte order mark is no part of the text."""
    for number, data in enumerate(
        (
            gzip.compress(TEXT.encode()),
            pa.compress(TEXT.encode("utf-8-sig"), codec="zstd", asbytes=True),
            *([TEXT, TEXT.encode("utf-8-sig")] if not name.lower().endswith(("gz", "zst")) else []),
            table(),
        )
    ):
        schema = run(put(tmp_path / str(number) / name, data), tmp_path / f"out-{number}")
        assert (schema.rows("train"), schema.rows("eval")) == (36, 4)
        assert schema.source["missing"] == {"train": {}, "eval": {}}


def test_letters_of_other_formats_may_begin_a_header(tmp_path: Path) -> None:
    for name in ("PAR1", "ORC", "SEQ id", "ARROW1", "BZh1"):
        layout = Layout("log", (CategoricalColumn(name),), LAYOUT.labels, LAYOUT.tasks)
        assert run(put(tmp_path / name, TEXT.replace("user", name)), tmp_path / f"out {name}", layout).rows("eval") == 4


HIVE = Layout(
    "log",
    (
        CategoricalColumn("user", "integer"),
        CategoricalColumn("dt"),
        CategoricalColumn("shop id", "integer"),
        CategoricalColumn("code", "hex"),
    ),
    LAYOUT.labels,
    LAYOUT.tasks,
    (DenseColumn("price"),),
)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_directories_give_their_columns(tmp_path: Path, suffix: str) -> None:
    def data() -> Any:
        return {".parquet": table(20), ".csv": TEXT[:91], ".csv.gz": gzip.compress(TEXT[:91].encode())}[suffix]

    raw = tmp_path / "raw"
    for first, second in (
        ("dt=2024-01-02", "shop%20id=7/code=0000000a/price=1.5"),
        ("dt=a%2Fb", "shop%20id=-7/code=ffffffff/price=2"),
        (
            "dt=__HIVE_DEFAULT_PARTITION__",
            "shop%20id=8/code=__HIVE_DEFAULT_PARTITION__/price=__HIVE_DEFAULT_PARTITION__",
        ),
    ):
        put(raw / first / second / f"part-0{suffix}", data())
        put(raw / first / "_SUCCESS", b"")
    schema = run(raw, tmp_path / "out", HIVE, train_files="0:3", eval_files="0:3", train_rows=":50", eval_rows="50:")
    assert [Path(file["name"]).parts[0] for file in schema.source["files"]] == [
        "dt=2024-01-02",
        "dt=__HIVE_DEFAULT_PARTITION__",
        "dt=a%2Fb",
    ]
    values = {
        name: pq.read_table(tmp_path / f"out/vocabulary/{name}.parquet")["value"].to_pylist()
        for name in ("dt", "shop id", "code")
    }
    assert sorted(values["dt"]) == ["2024-01-02", "a/b"]
    assert sorted(values["shop id"]) == [-7, 7, 8] or sorted(values["shop id"]) == ["-7", "7", "8"]
    assert sorted(values["code"]) == ["0000000a", "ffffffff"]
    train = pa.concat_tables([pq.read_table(tmp_path / "out" / shard.file) for shard in schema.splits["train"]])
    rows = 20
    assert train["price"].to_pylist() == [1.5] * rows + [0.0] * rows + [2.0] * (50 - 2 * rows)
    assert train["price_missing"].to_pylist() == [0.0] * rows + [1.0] * rows + [0.0] * (50 - 2 * rows)
    assert schema.source["missing"]["train"] == {"dt": rows, "code": rows, "price": rows}


def test_a_column_of_the_file_wins_over_one_of_its_directory(tmp_path: Path) -> None:
    own = table().append_column("dt", pa.array(["own"] * 40))
    put(tmp_path / "raw/dt=path/a.parquet", own)
    put(tmp_path / "raw/dt=path/b.parquet", table())
    layout = Layout("log", (CategoricalColumn("dt"),), LAYOUT.labels, LAYOUT.tasks)
    log = open_source(layout, find_files([tmp_path / "raw"])[0])
    assert [set(piece.rows.table["dt"].to_pylist()) for file in (0, 1) for piece in log.read(file, 0, None)] == [
        {"own"},
        {"path"},
    ]


@pytest.mark.parametrize(
    ("directory", "column", "message"),
    [
        ("dt=x", CategoricalColumn("dt", "integer"), "dt='x': expected a 64-bit integer"),
        ("dt=" + "9" * 200, CategoricalColumn("dt", "integer"), "expected a 64-bit integer"),
        ("dt=1", CategoricalColumn("dt", "hex"), "dt='1': expected 8 hexadecimal digits"),
        ("dt=1", CategoricalColumn("dt", "integer", multi_hot=True), "multi_hot"),
        ("dt=%FF", CategoricalColumn("dt"), "is no UTF-8 once it is decoded"),
        ("dx=1", CategoricalColumn("dt"), "column 'dt' is missing; the file has user"),
    ],
)
def test_directories_that_cannot_be_used(
    tmp_path: Path, directory: str, column: CategoricalColumn, message: str
) -> None:
    layout = Layout("log", (column,), LAYOUT.labels, LAYOUT.tasks)
    with pytest.raises(ValueError, match=message):
        open_source(layout, [put(tmp_path / directory / "a.parquet", table())])


def test_a_label_may_be_a_directory(tmp_path: Path) -> None:
    for click in ("0", "1"):
        put(tmp_path / f"raw/click={click}/a.parquet", table().drop_columns(["click"]))
    schema = run(
        tmp_path / "raw", tmp_path / "out", train_files="0:2", eval_files="0:2", train_rows=":60", eval_rows="60:"
    )
    assert schema.tasks[0].base_rate == 20 / 60
    put(tmp_path / "raw/click=__HIVE_DEFAULT_PARTITION__/a.parquet", table().drop_columns(["click"]))
    with pytest.raises(ValueError, match="a label is missing"):
        open_source(LAYOUT, find_files([tmp_path / "raw"])[0])


LISTED = Layout("log", (CategoricalColumn("user"),), LAYOUT.labels, LAYOUT.tasks)


def test_parquet_files_that_cannot_be_used(tmp_path: Path) -> None:
    whole = put(tmp_path / "whole.parquet", table())
    data = whole.read_bytes()
    for name, bad, message in (
        ("cut.parquet", data[: len(data) // 2], r"cannot be read as parquet"),
        ("empty.parquet", b"", r"cannot be read as parquet"),
        ("text.parquet", TEXT.encode(), r"cannot be read as parquet"),
        ("footer.parquet", data[:-60] + bytes(52) + data[-8:], r"cannot be read as parquet"),
    ):
        files = [whole, put(tmp_path / name, bad), whole.rename(tmp_path / "whole.parquet")]
        with pytest.raises(ValueError, match=f"{name}: {message}") as error:
            run(files[:2], tmp_path / "out", LISTED)
        assert len(str(error.value)) < 600
        out = tmp_path / f"out-{name}"
        schema = run(files[:2], out, LISTED, quarantine=True, train_rows=":30", eval_rows="30:")
        assert schema.source["rows_quarantined"] == 1
        assert list(schema.source["files_broken"]) == [name]
        assert mentions(report(schema), name, "cannot be read")
    struct = pa.array([{"id": 1}] * 40)
    for column, message in (
        (struct, "is of type struct<id: int64>, which cannot be read as string"),
        (pa.array([{f"field_{i}": 1 for i in range(200)}] * 40), "cannot be read as string"),
        (pa.array([[("a", 1)]] * 40, pa.map_(pa.string(), pa.int64())), "cannot be read as string"),
        (pa.array([1] * 40, pa.duration("s")), "is of type duration"),
    ):
        path = put(tmp_path / "kind.parquet", table().set_column(0, "user", column))
        with pytest.raises(ValueError, match=message) as error:
            open_source(LISTED, [path])
        assert len(str(error.value)) < len(str(path)) + 300


def test_a_damaged_page_follows_the_policy_for_bad_rows(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw/a.parquet", table()).parent
    damaged = put(raw / "b.parquet", table(4000))
    data = bytearray(damaged.read_bytes())
    data[4:40] = b"\xff" * 36
    damaged.write_bytes(data)
    put(raw / "c.parquet", table())
    with pytest.raises(ValueError, match=naming("b.parquet, line 1")):
        run(raw, tmp_path / "out")
    schema = run(raw, tmp_path / "other", quarantine=True)
    assert (schema.rows("train"), schema.rows("eval"), schema.source["rows_quarantined"]) == (40, 40, 1)
