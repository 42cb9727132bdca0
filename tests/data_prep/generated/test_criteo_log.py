"""The generated raw logs: exactly Criteo's format, reproducible, and distributed as their constants say."""

import gzip
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.criteo_log import (
    CATEGORICALS,
    CHUNK_ROWS,
    INTEGERS,
    MISSING,
    NAMES,
    NEGATIVE_COLUMN,
    NEGATIVE_SHARES,
    Options,
    chunk,
    generate,
    id_bits,
    power_law_ranks,
)
from dlrm_mtl import cli
from tests.entry_points.processes import python
from tests.messages import mentions

FIELDS = 40


def fields(path: Path) -> list[list[str]]:
    text = path.read_bytes().decode("ascii")
    assert text.endswith("\n")
    return [line.split("\t") for line in text[:-1].split("\n")]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chunks, the second one cut."""
    [path] = generate(Options(tmp_path_factory.mktemp("log") / "day_0", rows=CHUNK_ROWS + 100, seed=3))
    return path


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """As many as the shares are tested on."""
    return pa.concat_tables([chunk(5, 0, index, CHUNK_ROWS) for index in range(20)])


def test_every_line_has_the_format(log: Path) -> None:
    lines = fields(log)
    assert len(lines) == CHUNK_ROWS + 100
    assert {len(line) for line in lines} == {FIELDS}
    label, integer, hexadecimal = re.compile("[01]"), re.compile("|-?[0-9]+"), re.compile("|[0-9a-f]{8}")
    for line in lines:
        assert label.fullmatch(line[0])
        assert all(integer.fullmatch(field) for field in line[1:14]), line
        assert all(hexadecimal.fullmatch(field) for field in line[14:]), line


def test_the_file_holds_the_rows_of_the_chunks(log: Path) -> None:
    table = pa.concat_tables([chunk(3, 0, 0, CHUNK_ROWS), chunk(3, 0, 1, 100)])
    assert table.column_names == list(NAMES)
    columns = zip(*fields(log), strict=True)
    for name, texts in zip(NAMES, columns, strict=True):
        assert ["" if value is None else str(value) for value in table[name].to_pylist()] == list(texts), name


def test_bytes_depend_on_seed_and_file_alone(log: Path, tmp_path: Path) -> None:
    options = Options(tmp_path / "again", rows=CHUNK_ROWS + 100, seed=3)
    [again] = generate(options)
    [other] = generate(replace(options, out=tmp_path / "other", seed=4))
    assert again.read_bytes() == log.read_bytes()
    assert fields(other)[:10] != fields(log)[:10]


@pytest.mark.parametrize("count", [1, CHUNK_ROWS, CHUNK_ROWS + 3])
def test_a_larger_log_begins_with_the_smaller(log: Path, tmp_path: Path, count: int) -> None:
    [smaller] = generate(Options(tmp_path / "day_0", rows=count, seed=3))
    assert log.read_bytes().startswith(smaller.read_bytes())
    assert len(fields(smaller)) == count


def test_files_of_a_directory(tmp_path: Path) -> None:
    paths = generate(Options(tmp_path / "logs", rows=50, files=3))
    assert [path.name for path in paths] == ["day_0", "day_1", "day_2"]
    assert sorted((tmp_path / "logs").iterdir()) == paths
    assert [len(fields(path)) for path in paths] == [50, 50, 50]
    assert len({path.read_bytes() for path in paths}) == 3
    [alone] = generate(Options(tmp_path / "alone", rows=50))
    assert alone.read_bytes() == paths[0].read_bytes()


def test_compressed_logs_hold_the_same_bytes(tmp_path: Path) -> None:
    [plain] = generate(Options(tmp_path / "log.tsv", rows=500))
    [zipped] = generate(Options(tmp_path / "log.tsv.gz", rows=500, compression="gz"))
    [zstd] = generate(Options(tmp_path / "logs", rows=500, files=1, compression="zst"))
    assert zstd.name == "day_0.zst"
    assert gzip.decompress(zipped.read_bytes()) == plain.read_bytes()
    with pa.input_stream(str(zstd)) as stream:
        assert stream.read() == plain.read_bytes()


def test_clicks_depend_on_features(rows: pa.Table) -> None:
    labels = np.asarray(rows["label"])
    assert labels.mean() == pytest.approx(0.03, abs=0.0015)
    values = np.asarray(rows["C13"])
    rates = [labels[values == value].mean() for value in set(values)]
    assert max(rates) > 2 * min(rates)


def test_missing_shares(rows: pa.Table) -> None:
    shares = {name: share for share, names in MISSING for name in names}
    for name in NAMES:
        assert rows[name].null_count / len(rows) == pytest.approx(shares.get(name, 0.0), abs=0.005), name
    for _, names in MISSING:
        assert len({tuple(rows[name].is_null().to_pylist()[:1000]) for name in names}) == 1


def test_integers_have_heavy_tails_and_one_column_negative_values(rows: pa.Table) -> None:
    for name, (lowest, _, _) in INTEGERS.items():
        values = np.asarray(rows[name].drop_null())
        assert values.max() > 5 * max(np.quantile(values, 0.9), 1.0), name
        if name != NEGATIVE_COLUMN:
            assert values.min() >= lowest, name
    negative = np.asarray(rows[NEGATIVE_COLUMN])
    assert set(negative[negative < 0]) == NEGATIVE_SHARES.keys()
    for value, share in NEGATIVE_SHARES.items():
        assert np.mean(negative == value) == pytest.approx(share, rel=0.1)


def test_ids_follow_their_power_laws(rows: pa.Table) -> None:
    for number, (name, (cardinality, exponent)) in enumerate(CATEGORICALS.items()):
        top = f"{id_bits(number, np.zeros(1, np.uint32))[0]:08x}"
        # Ranks r of the continuous law are those from r to r + 1, beginning with 1.
        expected = (1 - 2.0 ** (1 - exponent)) / (1 - (cardinality + 1.0) ** (1 - exponent))
        values = rows[name].drop_null().to_numpy()
        assert np.mean(values == top) == pytest.approx(expected, abs=0.005), name
        assert len(set(values)) <= cardinality


def test_all_ranks_and_no_others() -> None:
    uniform = np.array([0.0, np.nextafter(1.0, 0.0)])
    for cardinality, exponent in CATEGORICALS.values():
        assert power_law_ranks(uniform, cardinality, exponent).tolist() == [0, cardinality - 1]
    assert len(np.unique(id_bits(7, np.arange(100_000, dtype=np.uint32)))) == 100_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "rows 0"),
        ({"seed": -1}, "seed -1"),
        ({"files": 0}, "files 0"),
        ({"out": "log.gz"}, "compression none expects a name without"),
        ({"compression": "gz"}, "compression gz expects a name that ends in .gz"),
        ({"compression": "gz", "out": "log.zst"}, "compression gz expects"),
        ({"out": "."}, "is a directory"),
        ({"out": "taken"}, "exists already"),
        ({"out": ".", "files": 2}, "exists already"),
    ],
)
def test_bad_options(tmp_path: Path, change: dict[str, object], message: str) -> None:
    (tmp_path / "taken").touch()
    values = {"out": "log.tsv", "rows": 10, **change}
    options = Options(**{**values, "out": tmp_path / str(values["out"])})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape(message)):
        generate(options)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_log_that_is_not_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("data_prep.criteo_log.write_rows", fail)
    with pytest.raises(OSError, match="disk full"):
        generate(Options(tmp_path / "log.tsv", rows=10))
    assert list(tmp_path.iterdir()) == []


def test_command_line(tmp_path: Path) -> None:
    options = cli.parse(Options, "criteo_log", ["--out", str(tmp_path / "x"), "--rows", "7", "--files", "2"])
    assert options == Options(tmp_path / "x", rows=7, files=2)
    process = python("data_prep.criteo_log", "--out", tmp_path / "x.tsv", "--rows", "0")
    assert process.returncode == 2
    assert mentions(process.stderr, "criteo_log", "rows", 0, 1)
