"""Raw rows of every source: the model for serving gives what the model for training gives on the prepared rows."""

import csv
import gzip
from collections.abc import Callable
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data_prep import kuairand, synthetic
from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout, read_layout
from data_prep.encoding.encoding import of_encoded
from data_prep.encoding.files import write_encoding
from data_prep.encoding.kuairand import HISTORY_LISTS, USES
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from data_prep.generated.ground_truth import Distribution
from data_prep.kuairand_log.options import Options as KuaiRandOptions
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import read_schema
from dlrm_mtl.serving.raw_inputs import RawInputs
from dlrm_mtl.serving.served_model import model_inputs
from tests.data_prep.ali_ccp_log import raw_ali_ccp
from tests.data_prep.ali_ccp_log.prepared import run as prepare_ali_ccp
from tests.data_prep.kuairand_log.raw_kuairand import (
    default_log,
    default_users,
    default_videos,
    write_history,
    write_raw,
)
from tests.data_prep.logs import LAYOUT, lines_of, run_prepare, write_bytes, write_log
from tests.messages import naming
from tests.serving.models import SMALL, real_batches, trained

Row = dict[str, Any]
Prepared = tuple[Path, list[Row]]
"""The data set, and the raw rows of its eval split."""

READ = {"integer": int, "number": float, "hex": str, "string": str}


def typed(row: dict[str, str], layout: Layout) -> Row:
    """A row of a text log, with numbers as such; texts as they stand in the log."""
    kinds: dict[str, str] = {column.column: column.kind for column in layout.dense}
    kinds |= {feature.column: feature.kind for feature in layout.categorical}
    return {
        name: None if kind in ("integer", "number") and row[name].strip() in layout.missing else READ[kind](row[name])
        for name, kind in kinds.items()
    } | {"of_no_feature": object()}


def of_text_log(directory: Path, layout: Layout, files: list[Path], ids: IdOptions, rows: int = 150) -> Prepared:
    """A data set from the first lines of files; the last lines evaluate."""
    texts: list[str] = []
    for path in files:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            texts += islice(file, rows)
    raw = write_bytes(directory / "log", "".join(texts).encode())
    out = directory / "data"
    run_prepare(raw, out, layout, ids)
    lines = [line for line in texts if not (layout.comment and line.startswith(layout.comment)) and line.strip()]
    quoted = csv.reader(lines, delimiter=layout.separator)
    fields = list(quoted if layout.quoted else csv.reader(lines, delimiter=layout.separator, quoting=csv.QUOTE_NONE))
    names = list(layout.columns) or fields.pop(0)
    parsed = [typed(dict(zip(names, line, strict=True)), layout) for line in fields]
    return out, parsed[-read_schema(out).rows("eval") :]


def small_log(ids: IdOptions) -> Callable[[Path, Path], Prepared]:
    def prepared(directory: Path, test_data: Path) -> Prepared:
        return of_text_log(directory, LAYOUT, [write_log(directory / "lines", lines_of(400))], ids, 400)

    return prepared


def real_log(layout: str, *files: str) -> Callable[[Path, Path], Prepared]:
    def prepared(directory: Path, test_data: Path) -> Prepared:
        return of_text_log(directory, read_layout(layout), [test_data / file for file in files], IdOptions(), 1000)

    return prepared


def parquet_log(directory: Path, test_data: Path) -> Prepared:
    """Every Arrow type that lists, texts and numbers may have."""
    rows = [
        {
            "click": i % 3 == 0,
            "user": None if i % 7 == 0 else i % 20,
            "price": None if i % 5 == 0 else i / 4,
            "word": ["", "a", None, "b"][i % 4],
            "shops": None if i % 6 == 0 else [i % 11, i % 3][: i % 3],
            "day": f"2024-01-{i % 28 + 1:02d}",
        }
        for i in range(300)
    ]
    layout = Layout(
        name="shop",
        labels=(LabelColumn("click"),),
        tasks=(Task("click", "click"),),
        dense=(DenseColumn("price", name="cost", standardise=True, mark_missing=False),),
        categorical=(
            CategoricalColumn("user", "integer"),
            CategoricalColumn("word"),
            CategoricalColumn("shops", "integer", multi_hot=True, table="shop"),
            CategoricalColumn("day"),
        ),
    )
    table = pa.Table.from_pylist(rows)
    day = table["day"].cast(pa.timestamp("s")).cast(pa.date32())
    pq.write_table(table.set_column(table.column_names.index("day"), "day", day), directory / "log.parquet")
    prepare(
        "shop",
        "tests",
        layout,
        [directory / "log.parquet"],
        directory / "data",
        IdOptions(),
        SplitOptions(),
        WorkOptions(),
    )
    return directory / "data", rows[-30:]


def ali_ccp(directory: Path, test_data: Path) -> Prepared:
    raw_ali_ccp.write(directory / "raw", rows=80)
    prepare_ali_ccp(directory / "raw", directory / "data")
    return directory / "data", raw_ali_ccp.join(directory / "raw", "test")


def kuairand_log(directory: Path, test_data: Path) -> Prepared:
    raw = write_raw(directory / "raw")
    histories = {1: ([77, 10, 12], [], [10]), 2: ([10], [11, 11], [])}
    write_history(raw / "user_history_to_4_24.parquet", histories, 1_650_800_000_000)
    kuairand.prepare(KuaiRandOptions(raw, directory / "data", "feeds", history_length=2))
    users = {row["user_id"]: row for row in default_users()}
    videos = {row["video_id"]: row for row in default_videos()}
    rows = []
    for impression in default_log():
        lists = dict(zip(HISTORY_LISTS, histories.get(impression["user_id"], [None] * 3), strict=True))
        row = {**users[impression["user_id"]], **videos[impression["video_id"]], **lists, **impression}
        for name, use in USES.items():
            if use == "string" and row[name] is not None:
                row[name] = str(row[name])
            if use == "number":
                row[name] = float(row[name])
        rows += [row] if impression["date"] >= 20220504 else []
    return directory / "data", rows


def generated(directory: Path, test_data: Path) -> Prepared:
    distribution = Distribution((50, 20), (30,), dense=2)
    synthetic.generate(synthetic.Options(directory / "data", 1000, 100, 0, distribution))
    return directory / "data", encoded_rows(directory / "data")


def encoded(directory: Path, test_data: Path) -> Prepared:
    out = directory / "data"
    run_prepare(write_log(directory / "log", lines_of(400)), out)
    write_encoding(of_encoded(read_schema(out)), out, {})
    return out, encoded_rows(out)


def encoded_rows(data: Path) -> list[Row]:
    return pa.concat_tables([pq.read_table(path) for path in sorted((data / "eval").iterdir())]).to_pylist()


SOURCES = {
    "text": small_log(IdOptions()),
    "hash": small_log(IdOptions("hash", max_ids=40, multi_hot={"word": 3})),
    "modulo": small_log(IdOptions("modulo", max_ids=40)),
    "criteo": real_log("criteo", "criteo-1tb-sample/day_0_head1000.tsv"),
    "adult": real_log("adult", "adult/adult.data.gz"),
    "bank": real_log("bank_marketing", "bank-marketing/bank-additional-full.csv.gz"),
    "census": real_log("census_income", "census-income-kdd/census-income.data.gz"),
    "parquet": parquet_log,
    "ali_ccp": ali_ccp,
    "kuairand": kuairand_log,
    "synthetic": generated,
    "encoded": encoded,
}


@pytest.mark.parametrize("source", SOURCES)
def test_raw_rows_get_the_probabilities_of_prepared_ones(source: str, tmp_path: Path, test_data: Path) -> None:
    data, rows = SOURCES[source](tmp_path, test_data)
    schema = read_schema(data)
    raw_inputs = RawInputs(data, schema.meaning)
    torch.manual_seed(3)
    model, plain = trained(schema, SMALL)
    [batch] = real_batches(data, 10_000)
    assert len(batch) == len(rows) > 0
    [(dense, values, lengths)] = raw_inputs.encode(rows)
    for found, expected in zip((dense, values, lengths), model_inputs(batch), strict=True):
        assert torch.equal(found, expected)
    with torch.no_grad():
        probabilities = model(batch)[1].logits.sigmoid()
    torch.testing.assert_close(plain(dense, values, lengths).sigmoid(), probabilities, rtol=0, atol=1e-6)
    singles = [next(raw_inputs.encode([row])) for row in rows[:20]]
    assert torch.equal(torch.cat([of_row[0] for of_row in singles]), dense[:20])
    assert torch.equal(torch.cat([of_row[2] for of_row in singles], dim=1), lengths[:, :20])


def test_dates_and_texts_of_kuairand(tmp_path: Path, test_data: Path) -> None:
    data, rows = kuairand_log(tmp_path, test_data)
    raw_inputs = RawInputs(data, read_schema(data).meaning)
    [(dense, _, _)] = raw_inputs.encode(rows)
    for convert in (date.fromisoformat, datetime.fromisoformat, lambda text: f"{text} 08:00"):
        [(again, _, _)] = raw_inputs.encode([{**row, "upload_dt": convert(row["upload_dt"])} for row in rows])
        assert torch.equal(again, dense)
    assert not torch.equal(next(raw_inputs.encode([{**row, "upload_dt": None} for row in rows]))[0], dense)
    for name, value in {
        "date": 20221301,
        "date ": "2022-05-04",
        "upload_dt": "yesterday",
        "upload_dt ": 3,
        "onehot_feat4": 2.0,
        "watch_seq": 10,
        "tag": ["39"],
    }.items():
        with pytest.raises(ValueError, match=naming("row 1", repr(name.strip()))):
            list(raw_inputs.encode([rows[0], {**rows[1], name.strip(): value}]))
