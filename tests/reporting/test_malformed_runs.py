"""Run directories with malformed files: one line that names the file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.metrics.estimates_file import write_estimates
from dlrm_mtl.reporting.runs.join import join_runs
from dlrm_mtl.reporting.runs.report_data import read_run
from tests.json_edits import Change, drop, edit, put
from tests.reporting.estimates import drawn_estimates
from tests.reporting.runs import summarized, write_run

RESULTS = Path(__file__).parents[2] / "docs/results"
DECILE = {"rows": 1, "predicted": 0.5, "rate": 0.5}
SHARD = {"split": "train", "file": "a", "rows": 1, "bytes": 1, "sha256": "0" * 64, "row_groups": [1]}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    seeds = [summarized(seed, {"mean": (0.9, 0.9), "x": (0.8, 0.9)}) for seed in range(2)]
    return write_run(tmp_path / "run", seeds, windows=2, shards=[SHARD])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(("comparison.json", drop(key)) for key in ("control", "tasks", "bayes_ne", "intervals", "arms")),
        *(("comparison.json", drop(key)) for key in ("clusters", "chance_range", "evaluation", "task_weights")),
        ("comparison.json", put("control", "y")),
        ("comparison.json", put("tasks", [])),
        ("comparison.json", put("tasks", "click")),
        ("comparison.json", put("arms", [])),
        ("comparison.json", put("arms", "x", 5)),
        ("comparison.json", put("arms", "x", "seeds", [])),
        ("comparison.json", put("arms", "x", "seeds", ["../../etc/passwd"])),
        ("comparison.json", put("arms", "x", "qps", {"median": 1.0})),
        ("comparison.json", put("arms", "x", "average_ne_gain_percent", 5)),
        ("comparison.json", drop("arms", "x", "tasks", "click")),
        ("comparison.json", put("arms", "x", "tasks", "click", "ne", "0.5")),
        ("comparison.json", put("training", {})),
        ("config.json", drop("data")),
        ("config.json", put("data", 5)),
        *(("environment.json", drop(key)) for key in ("time", "command", "versions", "world_size", "device")),
        ("environment.json", put("time", 5)),
        ("environment.json", put("command", [])),
        ("environment.json", put("versions", ["torch"])),
        ("seed-0.json", drop("seed")),
        ("seed-0.json", put("seed", 1)),
        ("seed-0.json", put("arms", {})),
        ("seed-0.json", put("arms", "x", "qps", 5)),
        ("seed-0.json", put("arms", "x", "qps", [0])),
        ("seed-0.json", drop("arms", "x", "skipped_steps")),
        ("seed-0.json", drop("arms", "x", "tasks", "click")),
        ("seed-0.json", put("arms", "x", "tasks", "click", "ne_gain_percent", {"low": 1.0})),
        ("data.json", drop("shards")),
        ("data.json", put("shards", 5)),
        ("data.json", drop("shards", 0, "sha256")),
        *((name, None) for name in ("comparison.json", "config.json", "environment.json", "seed-1.json", "data.json")),
    ],
)
def test_a_malformed_file_is_named(run: Path, name: str, change: Change | None) -> None:
    if change is None:
        write_json(run / name, [read_json(run / name)])
    else:
        edit(run / name, change)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read_run(run)
    assert str(error.value).startswith(str(run / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("nes", "message"),
    [
        ({"mean": (0.9, 0.9), "y": (0.8, 0.9)}, "arms ['mean', 'y'], expected ['mean', 'x']"),
        ({"mean": (0.9, 0.9)}, "arms ['mean'], expected ['mean', 'x']"),
        ({"mean": (0.9,), "x": (0.8,)}, "arm 'mean' has 1 tasks, expected 2"),
        (b"PK not a zip", "not valid estimates"),
        (b"", "not valid estimates"),
    ],
)
def test_malformed_estimates_are_named(run: Path, nes: Any, message: str) -> None:
    file = run / "seed-1.npz"
    if isinstance(nes, bytes):
        file.write_bytes(nes)
    else:
        write_estimates(file, drawn_estimates(nes))
    with pytest.raises(ValueError, match=r"seed-1\.npz: ") as error:
        read_run(run)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_estimates_of_arms_in_other_segments_are_refused(run: Path) -> None:
    arms = drawn_estimates({"mean": (0.9, 0.9), "x": (0.8, 0.9)}, segments={"hour": ["0", "1"]})
    write_estimates(run / "seed-1.npz", {**arms, "x": replace(arms["x"], segments={})})
    with pytest.raises(ValueError, match=r"seed-1\.npz: arm 'x' was evaluated in other buckets or segments"):
        read_run(run)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("average_ne_gain_percent", "verdict"), "better"),
        (("average_ne_gain_percent", "p"), 1.5),
        (("average_ne_gain_percent", "low"), None),
        (("average_ne_gain_percent", "low"), 1e9),
        (("average_ne_gain_percent", "over_seeds"), {"low": 1.0}),
        (("loses_nothing",), "yes"),
        (("qps", "change_percent", "high"), None),
        (("tasks", "click", "auc_gain_percent"), 5),
        (("tasks", "click", "calibration_by_seed"), [{"seed": 0}]),
        (
            ("tasks", "click", "deciles_by_seed"),
            [{"seed": 0, "deciles": [{"rows": -1, "predicted": 0.5, "rate": 0.5}]}],
        ),
        (("tasks", "click", "deciles_by_seed"), [{"seed": 0, "deciles": [{"rows": 1, "predicted": 1.5, "rate": 0.5}]}]),
        (("segments",), {"hour": {"0": {"rows": 5, "average_ne_gain_percent": None, "tasks": {}}}}),
    ],
)
def test_what_the_report_shows_is_checked(run: Path, place: tuple[str, ...], value: Any) -> None:
    edit(run / "comparison.json", put("arms", "x", *place, value))
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read_run(run)
    assert str(error.value).startswith(str(run / "comparison.json"))


@pytest.mark.parametrize(
    "line",
    [
        b"5",
        b"{}",
        b"\xff",
        b'{"kind": "train"}',
        b'{"kind": "train", "step": "5"}',
        b'{"kind": "train", "step": 5, "qps": [1]}',
        b'{"kind": "train", "step": 5, "task_weights": [0.5]}',
        b'{"kind": "train", "step": 5, "pareto_gap": NaN}',
        b'{"kind": "train", "step": 5, "step": 5}',
        b"[" * 10_000,
    ],
)
def test_a_malformed_line_of_a_log_is_named(run: Path, line: bytes) -> None:
    log = run / "seed-1" / "x" / "metrics.jsonl"
    log.write_bytes(log.read_bytes() + line + b"\n")
    with pytest.raises(ValueError, match=r"seed-1/x/metrics\.jsonl: line 3"):
        read_run(run)


def test_what_later_versions_add_is_left_alone(run: Path) -> None:
    for name in ("comparison.json", "environment.json", "seed-0.json", "data.json"):
        write_json(run / name, {**read_json(run / name), "more": 1})
    assert read_run(run).comparison["more"] == 1


def test_the_same_shards_of_another_time_are_the_same(run: Path, tmp_path: Path) -> None:
    seeds = [summarized(seed, {"mean": (0.9, 0.9), "y": (0.8, 0.9)}) for seed in range(2)]
    other = write_run(tmp_path / "other", seeds, shards=[{**SHARD, "mtime_ns": 5}])
    assert list(join_runs([read_run(run), read_run(other)])["arms"]) == ["mean", "x", "y"]


def test_the_published_results_are_read() -> None:
    directories = [file.parent for file in RESULTS.rglob("comparison.json")]
    assert len(directories) > 20
    for directory in directories:
        assert read_run(directory).arms


def older(raw: dict[str, Any]) -> dict[str, Any]:
    """A comparison.json as earlier versions wrote it."""
    arms = {}
    for name, arm in raw["arms"].items():
        tasks = {
            task: {
                **{key: values[key] for key in ("ne", "auc", "calibration", "exploded_seeds")},
                "ne_gain_percent": bare(values["ne_gain_percent"]),
            }
            for task, values in arm["tasks"].items()
        }
        kept = {key: arm[key] for key in ("seeds", "skipped_steps", "rows_lost", "qps", "end_to_end_qps")}
        change = {**arm["qps"]["change_percent"], "low": -20.0, "high": 5.0}
        average = bare(arm["average_ne_gain_percent"])
        arms[name] = {**kept, "qps": {**arm["qps"], "change_percent": change}, "tasks": tasks}
        arms[name]["average_ne_gain_percent"] = average
    return {**{key: raw[key] for key in ("control", "tasks", "bayes_ne", "intervals")}, "arms": arms}


def bare(gain: dict[str, Any]) -> dict[str, Any]:
    return {key: gain[key] for key in ("mean", "low", "high")}


def test_what_an_earlier_version_wrote_is_judged_by_its_intervals(tmp_path: Path) -> None:
    """Converts it to the present form, without errors over rows and without the median QPS of each seed."""
    nes = [{"mean": (0.9, 0.9), "x": (0.8 + n / 1000, 0.9), "y": (0.9, 0.95 + n / 500)} for n in range(3)]
    run = write_run(tmp_path / "run", [summarized(n, of_arms) for n, of_arms in enumerate(nes)])
    now = read_run(run).comparison
    write_json(run / "comparison.json", older(read_json(run / "comparison.json")))
    completed = read_run(run).comparison
    for key in ("families", "chance_range", "task_weights", "clusters", "intervals"):
        assert completed[key] == now[key]
    for name, arm in now["arms"].items():
        then = completed["arms"][name]
        pairs = [(arm["average_ne_gain_percent"], then["average_ne_gain_percent"])]
        tasks = [(arm["tasks"][task], then["tasks"][task]) for task in now["tasks"]]
        pairs += [(new["ne_gain_percent"], old["ne_gain_percent"]) for new, old in tasks]
        for new, old in pairs:
            assert (new["verdict"], new["covers"]) == (old["verdict"], old["covers"])
            assert bare(old) == pytest.approx(bare(new))
            assert old["detectable"] == pytest.approx(new["detectable"])
        assert then["loses_nothing"] == arm["loses_nothing"]
        if name != "mean":
            assert (then["qps"]["change_percent"]["low"], then["qps"]["change_percent"]["high"]) == (None, None)
