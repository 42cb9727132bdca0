"""The theory study from its options to its tables."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.studies.theory_case import TheoryCase
from dlrm_mtl.studies.theory_table import format_theory
from tests.entry_points.processes import complaint, python
from tests.messages import mentions

SIZES = [16, 64, 256]
OPTIONS = (
    *("--steps", "12", "--train-batch-size", "64", "--batch-sizes", "16", "64", "--batches", "3", "--seeds", "2"),
    *("--log-every", "4", "--model.interaction", "dcn", "--model.embedding-dim", "4"),
    *("--model.bottom-mlp", "8", "--model.head-mlp", "8"),
)
"""More steps than an epoch holds."""


def measure(data: Path, out: Path, population: int = 256, processes: int = 0) -> "subprocess.CompletedProcess[str]":
    options = ["--data", str(data), "--json", str(out), "--population", str(population), *OPTIONS]
    return python("dlrm_mtl.experiments", "theory", *options, processes=processes)


@pytest.fixture(scope="module")
def study(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("theory") / "study.json"
    process = measure(small_dataset, out)
    assert process.returncode == 0, process.stderr
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def test_every_batch_of_every_seed_is_counted(study: dict[str, Any]) -> None:
    for name in ("residual", "agreement"):
        assert {record["batch_size"] for record in study[name]} == set(SIZES)
        for record in study[name]:
            # The whole population is one batch per seed.
            expected = 2 if record["batch_size"] == 256 else 6
            assert {value["count"] for value in record.values() if isinstance(value, dict)} == {expected}


def test_the_residual_goes_to_its_mean(study: dict[str, Any]) -> None:
    for parameters in ("dense", "tables", "all"):
        records = [record for record in study["residual"] if record["parameters"] == parameters]
        distances = [record["distance_from_mean"]["median"] for record in records]
        assert distances[0] > distances[1] > distances[2] == 0
        for record in records:
            assert record["relative_norm"]["p10"] > 0
            assert -1 <= record["cosine_of_mean_term"]["median"] <= 1


def test_no_weights_beat_the_min_norm_ones(study: dict[str, Any]) -> None:
    pairs = {(record["parameters"], record["weights_from"]) for record in study["agreement"]}
    assert len(pairs) == 11
    for record in study["agreement"]:
        assert record["excess"]["p10"] >= 1 - 1e-6
        assert 0 < record["cosine"]["p10"] <= record["cosine"]["p90"] <= 1
        assert 0 <= record["total_variation"]["p10"] <= record["total_variation"]["p90"] <= 1


def test_weights_are_learned_at_every_level(study: dict[str, Any]) -> None:
    found = {(record["step"], record["level"]): record for record in study["learned"]}
    assert found.keys() == {(step, level) for step in (4, 8, 12) for level in ("dense", "embedding", "uniform")}
    for record in found.values():
        assert record["cosine"]["count"] == 2
    assert all(found[12, level]["total_variation"]["p10"] > 0 for level in ("dense", "embedding", "uniform"))


def test_sizes(study: dict[str, Any]) -> None:
    width = 4 * 5  # a crossnet over the dense embedding and four features
    bottom = (2 * 8 + 8) + (8 * 4 + 4)
    assert study["sizes"] == {
        "population": 256,
        "representation": width,
        "dense": bottom + 2 * (width * width + width),
        "tables": 4 * (50 + 30 + 7),
    }


def test_the_tables_hold_what_was_measured(study: dict[str, Any]) -> None:
    text = format_theory({"studies": [study, study]})
    assert text.count(f"## {study['data']}\n") == 2
    record = next(r for r in study["residual"] if r["parameters"] == "tables" and r["batch_size"] == 64)
    cells = [
        f"{record[name]['median']:.3g} ({record[name]['p10']:.3g} to {record[name]['p90']:.3g})"
        for name in ("relative_norm", "cosine_of_mean_term", "distance_from_mean")
    ]
    assert "| tables | 64 | " + " | ".join(cells) + " |" in text
    for table in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_population_larger_than_the_split(small_dataset: Path, tmp_path: Path) -> None:
    process = measure(small_dataset, tmp_path / "study.json", 601)
    assert mentions(complaint(process), "population", 601, 600)


def test_one_process_alone(small_dataset: Path, tmp_path: Path) -> None:
    process = measure(small_dataset, tmp_path / "study.json", processes=2)
    assert process.returncode != 0
    assert sum(mentions(line, "experiments", "processes", 2, 1) for line in process.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch_sizes": (64, 512), "population": 256}, r"batch_sizes is \(64, 512\), expected sizes from 1 to the"),
        ({"batch_sizes": ()}, r"batch_sizes is \(\)"),
        ({"steps": 25}, "log_every is 10, expected a divisor of the 25 steps"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TheoryCase(Path("data"), **options)
