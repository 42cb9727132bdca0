"""Descriptions of data sets of a period."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep import describe
from data_prep.engine.options import IdOptions, StreamOptions
from data_prep.statistics.period_description import describe_period
from data_prep.statistics.period_tables import render_period
from dlrm_mtl.schema import STREAM, read_schema
from tests.data_prep.logs import LAYOUT, lines_of, read_split, run_prepare, write_log
from tests.messages import mentions

SCALED = replace(LAYOUT, dense=(replace(LAYOUT.dense[0], standardise=True), LAYOUT.dense[1]))


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two days; on the second one, weights are larger and there are other words."""
    directory = tmp_path_factory.mktemp("days")
    lines = lines_of(300, seed=1)
    rows = [line.replace("wörd1", "new").split("\t") for line in lines_of(300, seed=2)]
    later = ["\t".join([*row[:2], f"{3 * float(row[2]):.4f}" if row[2] else "", *row[3:]]) for row in rows]
    for number, of_day in enumerate((lines, later)):
        raw = write_log(directory / f"raw-{number}", of_day)
        previous = directory / f"day-{number - 1}" if number else None
        ids = IdOptions() if number else IdOptions(table_max_ids={"word": 15})
        stream = StreamOptions(not number, previous)
        run_prepare(raw, directory / f"day-{number}", SCALED, ids, stream=stream)
    return [directory / f"day-{number}" for number in range(2)]


def test_dense_features_are_in_units_of_the_kept_scale(days: list[Path]) -> None:
    first, second = (describe_period(day) for day in days)
    for feature in first.dense[:2]:
        assert (feature.mean, feature.deviation) == pytest.approx((0.0, 1.0), abs=1e-5)
        assert not feature.drifts
    values = read_split(days[1], read_schema(days[1]), STREAM)
    is_missing = np.asarray(values["weight_missing"]) == 1.0
    known = np.asarray(values["weight"])[~is_missing].astype(np.float64)
    weight = second.dense[1]
    assert (weight.mean, weight.deviation) == pytest.approx((known.mean(), known.std()))
    assert weight.missing_share == is_missing.mean() > 0.05
    assert [feature.name for feature in second.dense if feature.drifts] == ["weight"]
    assert (second.dense[3].mean, second.dense[3].missing_share) == (None, None)


def test_ids_are_those_of_the_schema(days: list[Path]) -> None:
    first, second = (describe_period(day) for day in days)
    assert (first.continues, second.continues, second.rows) == (None, "small", 300)
    assert {feature.unseen_before for feature in first.categorical} == {None}
    source = read_schema(days[1]).source
    assert {feature.name: feature.unseen_before for feature in second.categorical} == source["unseen_before"]
    for table in second.tables:
        for kind in ("appended", "reset", "waiting"):
            assert getattr(table, kind) == source["chain"][kind][table.name]
    word = next(table for table in second.tables if table.name == "word")
    assert (word.ids, word.capacity) == (15, 15)
    labels = pa.compute.sum(read_split(days[1], read_schema(days[1]), STREAM)["click"]).as_py()
    assert second.tasks[0].labels.positives == labels


def test_the_entry_point_prints_and_keeps_it(
    days: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["describe", str(days[1]), "--json", str(tmp_path / "described.json")])
    describe.main()
    printed = capsys.readouterr().out
    assert render_period(describe_period(days[1])) in printed
    assert mentions(printed, "word", 15, 15)
    assert mentions(printed, "weight", "drifts")
    described = json.loads((tmp_path / "described.json").read_text())
    assert [feature["name"] for feature in described["dense"] if feature["drifts"]] == ["weight"]
