"""``python -m dlrm_mtl.plan``."""

import json
from pathlib import Path

import pytest

from dlrm_mtl.distributed.host_memory import host_memory
from tests.entry_points.processes import complaint, python, run
from tests.messages import mentions

CRITEO = ("--preset", "criteo-1tb")


@pytest.mark.parametrize("ranks", [2])
def test_the_plan_is_that_of_training(small_dataset: Path, tmp_path: Path, ranks: int) -> None:
    options = ("--batch-size", "64", "--model.embedding-dim", "32", "--optimizer.table", "adagrad")
    kinds = ("--sharding.kinds", "column_wise", "table_wise")
    training = python(
        *("dlrm_mtl.train", "--data", small_dataset, "--out", tmp_path / "run", *options, *kinds),
        *("--max-steps", "1", "--model.head-mlp", "8"),
        processes=ranks,
    )
    assert training.returncode == 0, training.stderr
    memory = host_memory()
    machine = ("--device", "cpu", "--gpus-per-host", str(ranks), "--ddr", f"{memory}B")
    planning = python(
        "dlrm_mtl.plan", "--data", small_dataset, *machine, *options, *kinds, "--json", tmp_path / "plan.json"
    )
    assert planning.returncode == 0, planning.stderr
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["plan"]["tables"] == json.loads((tmp_path / "run" / "plan.json").read_text())
    assert found["fits"]


def test_the_plan_does_not_depend_on_the_process(tmp_path: Path) -> None:
    """torchrec chooses between equal plans by the order of sets of strings, which differs under these hash seeds."""
    found = []
    for seed in ("1", "2"):
        file = tmp_path / f"{seed}.json"
        process = run("env", f"PYTHONHASHSEED={seed}", "python", "-m", "dlrm_mtl.plan", *CRITEO, "--json", file)
        assert process.returncode == 0, process.stderr
        assert "an estimate of torchrec" in process.stdout
        found.append(json.loads(file.read_text())["plan"])
    assert found[0] == found[1]


def test_what_does_not_fit_ends_with_1() -> None:
    process = python("dlrm_mtl.plan", *CRITEO, "--hbm", "4GiB", "--sharding.kernels", "fused")
    assert process.returncode == 1, process.stderr
    assert process.stderr == ""
    assert "not fit" in process.stdout
    assert mentions(process.stdout, "Fewest hosts", 4)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "data, preset is [], expected one of the two"),
        ((*CRITEO, "--data", "somewhere"), "data, preset is ['data', 'preset'], expected one of the two"),
        ((*CRITEO, "--hbm", "80"), "hbm is '80', expected a size with its unit, as 80GiB"),
        ((*CRITEO, "--inter-host-bandwidth", "50GB"), "inter_host_bandwidth is '50GB', expected a bandwidth"),
        ((*CRITEO, "--hosts", "3"), "batch_size is 65536, expected a multiple of the 24 ranks"),
        ((*CRITEO, "--sharding.kinds", "column_wise"), "sharding.kinds has 'column_wise', expected no column shards"),
        ((*CRITEO, "--json", "nowhere/plan.json"), "json is 'nowhere/plan.json', expected a file in a directory"),
        (("--data", "nowhere"), "nowhere/schema.json: not found"),
    ],
)
def test_errors_of_the_users(arguments: tuple[str, ...], named: str) -> None:
    assert named in complaint(python("dlrm_mtl.plan", *arguments))


def test_help_is_quick_and_lists_the_options() -> None:
    """Also if Python drops docstrings, which a dataclass replaces by its signature."""
    for flags in ((), ("-OO",)):
        process = run("python", *flags, "-X", "importtime", "-m", "dlrm_mtl.plan", "--help")
        assert process.returncode == 0
        assert "--gpus-per-host" in process.stdout
        assert "PlanConfig(" not in process.stdout
        assert " torch\n" not in process.stderr
