"""Tasks of srun as ranks; tests/slurm runs real ones."""

import os

import pytest

from dlrm_mtl.srun import become_rank, first_node

RANK = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
TASK = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NODELIST": "gpu[007-008]",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_TASKS_PER_NODE": "8(x2)",
    "SLURM_PROCID": "11",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "3",
}
"""The variables that srun sets in a task."""


@pytest.fixture
def set_only(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name in RANK or name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    for name in RANK:  # so that they are removed after the test
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def become(environment: pytest.MonkeyPatch, **variables: str) -> dict[str, str]:
    """The variables of the rank that follow."""
    for name, value in variables.items():
        environment.setenv(name, value)
    become_rank()
    return {name: os.environ[name] for name in RANK if name in os.environ}


def test_a_task_becomes_a_rank(set_only: pytest.MonkeyPatch) -> None:
    assert become(set_only, **TASK) == {
        "RANK": "11",
        "LOCAL_RANK": "3",
        "WORLD_SIZE": "16",
        "LOCAL_WORLD_SIZE": "8",
        "MASTER_ADDR": "gpu007",
        "MASTER_PORT": "24562",
    }
    assert become(set_only)["RANK"] == "11", "it is one already"


def test_a_meeting_place_that_is_set_stays(set_only: pytest.MonkeyPatch) -> None:
    place = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    assert place.items() <= become(set_only, **TASK, **place).items()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        # A batch script is no task, though it has a number of its own.
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"},
        {**TASK, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_PROCID": "0"},
    ],
)
def test_a_process_that_is_alone_stays_alone(set_only: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    assert become(set_only, **variables) == {}


def test_the_ranks_of_torchrun_under_srun_stay(set_only: pytest.MonkeyPatch) -> None:
    assert become(set_only, **TASK, RANK="5") == {"RANK": "5"}


@pytest.mark.parametrize(
    "other", [{"SLURM_STEP_TASKS_PER_NODE": "9,7"}, {"SLURM_PROCID": "7"}], ids=["uneven", "cyclic"]
)
def test_ranks_that_are_not_in_a_row_are_refused(set_only: pytest.MonkeyPatch, other: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="same number on each node"):
        become(set_only, **{**TASK, **other})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,m2", "n1"),
        ("n[07-09,12],m1", "n07"),
        ("n[3,5]", "n3"),
        ("rack[2-3]node[10-12]-ib,other", "rack2node10-ib"),
    ],
)
def test_the_first_node(nodes: str, first: str) -> None:
    assert first_node(nodes) == first
