"""What a run shows while it goes on and when it ends: status.json, Prometheus text, calls of a logger."""

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.config import CheckpointConfig, ModelConfig
from dlrm_mtl.run_config import CompareConfig
from tests.messages import mentions
from tests.monitoring.recording import calls, compare
from tests.ranks import RankPool

ARMS = ("mean", "multibalance:beta=0.1")
STEPS = 9
INTERRUPTED_AT = 4
SAMPLE = re.compile(r'(dlrm_mtl_\w+)\{(\w+="(?:[^"\\\n]|\\[\\"n])*"(?:,\w+="(?:[^"\\\n]|\\[\\"n])*")*)\} (\S+)')


@dataclass
class Watched:
    """A comparison that was interrupted in its second seed and went on."""

    out: Path
    interrupted: dict[str, Any]
    """Its status then."""
    text: str
    """As Prometheus text."""
    finished: dict[str, Any]


def status(out: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((out / "status.json").read_text())
    return value


def configure(data: Path, out: Path) -> CompareConfig:
    return CompareConfig(
        data, out, 64, log_every=2, eval_every=4, arms=ARMS, seeds=2,
        model=ModelConfig(embedding_dim=4, bottom_mlp=(8,), head_mlp=(8,)), checkpoint=CheckpointConfig(every_steps=2),
        logger="tests.monitoring.recording:Recorder", prometheus=out.parent / "run.prom",
    )  # fmt: skip


@pytest.fixture(scope="module")
def watched(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory, rank_pool: RankPool) -> Watched:
    out = tmp_path_factory.mktemp("watched") / 'the "run"'
    config = configure(small_dataset, out)
    windows_of_a_seed = len(ARMS) * -(-STEPS // config.log_every)
    [message] = rank_pool.run(1, compare, config, windows_of_a_seed + len(ARMS))
    assert message.startswith("Terminated")
    interrupted, text = status(out), (out.parent / "run.prom").read_text()
    assert rank_pool.run(1, compare, config) == [""]
    return Watched(out, interrupted, text, status(out))


def test_the_status_of_an_interrupted_run(watched: Watched) -> None:
    facts = watched.interrupted
    assert facts["status"] == "interrupted"
    assert mentions(facts["error"], INTERRUPTED_AT, STEPS)
    assert (facts["seeds"], facts["seed"], facts["step"], facts["steps"]) == ([0, 1], 1, INTERRUPTED_AT, STEPS)
    assert facts["checkpoint"]["step"] == INTERRUPTED_AT
    assert facts["checkpoint"]["seconds"] > 0
    assert datetime.now(UTC) - datetime.fromisoformat(facts["time"]) < timedelta(minutes=10)


def test_the_status_has_the_last_lines_of_the_logs(watched: Watched) -> None:
    facts = watched.finished
    assert facts["status"] == "finished"
    assert "error" not in facts
    assert facts["step"] == STEPS
    assert facts["samples_per_second"] > 0
    assert list(facts["arms"]) == list(ARMS)
    for arm, folder in zip(ARMS, ("mean", "multibalance-beta=0.1"), strict=True):
        log = (watched.out / "seed-1" / folder / "metrics.jsonl").read_text().splitlines()
        *_, train = (line for line in map(json.loads, log) if line["kind"] == "train")
        evaluation = json.loads(log[-1])
        of_arm = facts["arms"][arm]
        assert (of_arm["step"], of_arm["qps"]) == (train["step"], train["qps"])
        assert of_arm["window"] == {task: {"ne": values["ne"]} for task, values in train["window"].items()}
        assert of_arm["evaluation"] == {task: {"ne": values["ne"]} for task, values in evaluation["tasks"].items()}
        assert of_arm["evaluated_step"] == STEPS


def test_prometheus_text_has_the_numbers_of_the_status(watched: Watched) -> None:
    facts = watched.interrupted
    samples: dict[str, dict[str, float]] = {}
    for line in watched.text.splitlines():
        if not line.startswith("#"):
            name, labels, value = SAMPLE.fullmatch(line).groups()  # type: ignore[union-attr]
            samples.setdefault(name, {})[labels] = float(value)
    run = f'run="{watched.out}"'.replace('"run""', '\\"run\\""')
    assert samples["dlrm_mtl_status"] == {
        f'{run},status="{name}"': float(name == "interrupted")
        for name in ("running", "finished", "interrupted", "failed")
    }
    seed = f'{run},seed="1"'
    assert samples["dlrm_mtl_step"] == {seed: INTERRUPTED_AT}
    assert samples["dlrm_mtl_steps"] == {seed: STEPS}
    assert samples["dlrm_mtl_samples_per_second"] == {seed: facts["samples_per_second"]}
    assert samples["dlrm_mtl_checkpoint_step"] == {seed: INTERRUPTED_AT}
    assert samples["dlrm_mtl_updated_timestamp_seconds"] == {run: datetime.fromisoformat(facts["time"]).timestamp()}
    for rows in ("window", "evaluation"):
        assert samples[f"dlrm_mtl_{rows}_ne"] == {
            f'{seed},arm="{arm}",task="{task}"': values["ne"]
            for arm, of_arm in facts["arms"].items()
            for task, values in of_arm[rows].items()
            if values["ne"] is not None
        }
    names = set(re.findall(r"^# TYPE (\w+) gauge$", watched.text, flags=re.MULTILINE))
    assert names == samples.keys()


def test_a_logger_is_told_of_every_arm_and_its_errors_end_nothing(watched: Watched) -> None:
    name = "seed-1/multibalance-beta=0.1"
    told = calls(watched.out / name)
    assert {tuple(call[:3]) for call in told} == {(name, ARMS[1], 1)}
    assert [call[3:5] for call in told if call[3] != "log"] == [
        ["begin", 0], ["end", "interrupted"], ["begin", INTERRUPTED_AT], ["end", "finished"],
    ]  # fmt: skip
    logged = [(call[4], call[5]) for call in told if call[3] == "log"]
    assert [step for step, _ in logged] == [2, 6, 8, 8, 9, 9], "without step 4, at which it fails"
    log = map(json.loads, (watched.out / name / "metrics.jsonl").read_text().splitlines())
    expected = next(line for line in log if line["step"] == 6)
    assert logged[1][1]["train/lifetime/click/ne"] == expected["lifetime"]["click"]["ne"]
    assert watched.interrupted["logger_failures"] == 8, "training and evaluation of two arms with two seeds"


def test_the_status_of_a_failed_run(small_dataset: Path, tmp_path: Path, rank_pool: RankPool) -> None:
    config = replace(configure(small_dataset, tmp_path / "run"), logger=None)
    rank_pool.run(1, compare, config, 2, "shard 7 is damaged")
    facts = status(config.out)
    assert (facts["status"], facts["error"], facts["step"]) == ("failed", "shard 7 is damaged", 2)


@pytest.mark.parametrize(
    ("logger", "named"),
    [
        ("tests.nowhere:Recorder", ("tests.nowhere",)),
        ("tests.monitoring.recording:Nothing", ("Nothing",)),
        ("tests.monitoring.recording:NoEnd", ("NoEnd", "end")),
        ("tests.monitoring.recording:Unreachable", ("Unreachable", "no tracking server")),
    ],
)
def test_a_logger_that_cannot_be_made_is_refused_before_work_begins(
    small_dataset: Path, tmp_path: Path, rank_pool: RankPool, logger: str, named: tuple[str, ...]
) -> None:
    config = replace(configure(small_dataset, tmp_path / "run"), logger=logger)
    for message in rank_pool.run(2, compare, config):
        assert message.startswith("ValueError")
        assert mentions(message, *named)
    assert not config.out.exists()


def test_a_prometheus_file_is_refused_where_nothing_collects_it(
    small_dataset: Path, tmp_path: Path, rank_pool: RankPool
) -> None:
    config = replace(configure(small_dataset, tmp_path / "run"), prometheus=tmp_path / "nowhere/run.prom")
    [message] = rank_pool.run(1, compare, config)
    assert mentions(message, tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"run\.txt"):
        replace(config, prometheus=tmp_path / "run.txt")
