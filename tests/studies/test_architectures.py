"""The experiment ``architectures``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlrm_mtl.architecture_options import with_architecture
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.ranker import DenseModules
from dlrm_mtl.schema import Schema, read_schema
from dlrm_mtl.studies.architectures.case import ArchitecturesConfig
from dlrm_mtl.studies.architectures.parameters import count_parameters, match_parameters
from tests.entry_points.processes import python
from tests.messages import mentions

OPTIONS = (
    *("--architectures", "bottom", "mmoe:head_mlp=16,shared_experts=2", "--arms", "mean", "mgda", "--seeds", "2"),
    *("--batch-size", "64", "--log-every", "1", "--max-steps", "2", "--model.head-mlp", "24"),
)


@pytest.fixture(scope="module")
def out(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "architectures"
    process = python("dlrm_mtl.experiments", "architectures", "--data", small_dataset, "--out", out, *OPTIONS)
    assert process.returncode == 0, process.stderr
    return out


def test_gains_are_paired_with_the_first_control(out: Path) -> None:
    written = json.loads((out / "architectures.json").read_text())
    runs = {name: out / entry["run"] for name, entry in written["architectures"].items()}
    assert list(runs) == ["bottom", "mmoe:head_mlp=16,shared_experts=2"]
    seeds = {name: [_seed(run, seed) for seed in (0, 1)] for name, run in runs.items()}
    joined = written["comparison"]
    assert joined["control"] == "bottom + mean"
    assert len(joined["arms"]) == 4
    for name, of_architecture in seeds.items():
        for arm in ("mean", "mgda"):
            for task in joined["tasks"]:
                by_seed = [
                    100 * (before["mean"]["tasks"][task]["ne"] - after[arm]["tasks"][task]["ne"])
                    for before, after in zip(seeds["bottom"], of_architecture, strict=True)
                ]
                gain = joined["arms"][f"{name} + {arm}"]["tasks"][task]["ne_gain_percent"]
                assert gain["mean"] == pytest.approx(np.mean(by_seed), abs=1e-9)
    # Paired by row: the same arm has the same interval here as in its own comparison.
    own = json.loads((runs["bottom"] / "comparison.json").read_text())["arms"]["mgda"]["average_ne_gain_percent"]
    here = joined["arms"]["bottom + mgda"]["average_ne_gain_percent"]
    assert [here[end] for end in ("mean", "low", "high")] == pytest.approx(
        [own[end] for end in ("mean", "low", "high")]
    )
    assert here["covers"] == "seeds and rows"
    text = (out / "report.md").read_text()
    for pair, arm in joined["arms"].items():
        assert pair == "bottom + mean" or f"{arm['average_ne_gain_percent']['mean']:+.3f}" in text


def test_parameters_are_counted_and_matched(out: Path) -> None:
    entries = json.loads((out / "architectures.json").read_text())["architectures"].values()
    bottom, mmoe = (entry["parameters"] for entry in entries)
    assert mmoe["tables"] == bottom["tables"]
    assert mmoe["dense"] == pytest.approx(bottom["dense"], rel=0.05)
    assert mentions((out / "report.md").read_text(), *(f"{parameters['dense']:,}" for parameters in (bottom, mmoe)))
    assert [entry["model"]["head_mlp"] for entry in entries] == [[24], [16]]


def test_what_is_finished_is_not_done_again(out: Path, small_dataset: Path) -> None:
    files = sorted(out.glob("architectures/*/seed-*.json"))
    assert len(files) == 4
    written = (out / "architectures.json").read_bytes()
    (out / "architectures.json").unlink()
    before = [file.stat().st_mtime_ns for file in files]
    process = python("dlrm_mtl.experiments", "architectures", "--data", small_dataset, "--out", out, *OPTIONS)
    assert process.returncode == 0, process.stderr
    assert [file.stat().st_mtime_ns for file in files] == before
    assert (out / "architectures.json").read_bytes() == written


@pytest.mark.parametrize("sharing", ["mmoe", "cgc", "ple", "adatt", "cross_stitch"])
def test_experts_are_scaled_to_the_nearest_count(small_dataset: Path, sharing: str) -> None:
    schema, model = read_schema(small_dataset), ModelConfig(sharing=sharing, expert_mlp=(64, 32), head_mlp=(16,))
    assert count_parameters(schema, model).dense == _built(schema, model)
    matched = match_parameters(schema, model, 60_000)
    width = matched.expert_mlp[0]
    assert matched == replace(model, expert_mlp=(width, matched.expert_mlp[1]))
    assert matched.expert_mlp[1] == pytest.approx(width / 2, abs=4)
    distance = abs(_built(schema, matched) - 60_000)
    for other in (width - 4, width + 4):
        sizes = (other, 4 * round(other / 8))
        assert abs(_built(schema, replace(model, expert_mlp=sizes)) - 60_000) >= distance


@pytest.mark.parametrize("sharing", ["bottom", "mmoe"])
def test_what_cannot_be_matched_keeps_its_sizes(small_dataset: Path, sharing: str) -> None:
    """No experts to scale; more parameters in the heads alone."""
    model = ModelConfig(sharing=sharing)
    assert match_parameters(read_schema(small_dataset), model, 10) == model


def test_options_of_an_architecture() -> None:
    model = with_architecture(ModelConfig(levels=3), "ple:own_experts=2,expert_mlp=64/32,gate_mlp=none")
    assert (model.sharing, model.own_experts, model.expert_mlp, model.gate_mlp) == ("ple", 2, (64, 32), ())
    assert model.levels == 3


@pytest.mark.parametrize(
    "names",
    [
        ["pple"],
        ["ple:experts=2"],
        ["ple:levels=0"],
        ["ple:levels=1.5"],
        ["ple:expert_mlp=a"],
        ["ple", "ple"],
        ["ple:levels"],
    ],
)
def test_a_wrong_architecture_is_named(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pple|experts|levels|expert_mlp|different"):
        ArchitecturesConfig(tmp_path, tmp_path, architectures=tuple(names))


def _seed(run: Path, seed: int) -> dict[str, Any]:
    arms: dict[str, Any] = json.loads((run / f"seed-{seed}.json").read_text())["arms"]
    return arms


def _built(schema: Schema, model: ModelConfig) -> int:
    modules = DenseModules(schema, model)
    return sum(weight.numel() for weight in modules.parameters())
