"""The host memory of the planner: the machine's, or the limit of the container or job."""

import os
from pathlib import Path

import pytest
import torch

from dlrm_mtl.distributed import topology
from dlrm_mtl.distributed.host_memory import host_memory
from dlrm_mtl.distributed.processes import Ranks

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
NO_LIMIT = "9223372036854771712"
"""In the form of control groups, version 1."""


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/job/step\n", {"job/step/memory.max": "4096"}, 4096),
        ("0::/job/step\n", {"job/step/memory.max": "max", "job/memory.max": "4096"}, 4096),
        ("0::/job/step\n", {"job/step/memory.max": "8192", "job/memory.max": "4096"}, 4096),
        ("0::/\n", {"memory.max": "4096"}, 4096),
        ("0::/../..\n", {"memory.max": "4096"}, 4096),
        ("0::/docker/0123\n", {"memory.max": "4096"}, 4096),
        ("0::/job:1\n", {"job:1/memory.max": "4096"}, 4096),
        ("0::/job\n", {"unified/job/memory.max": "4096"}, 4096),
        ("0::/job\n", {"job/memory.max": "max"}, MACHINE),
        ("0::/job\n", {"other/memory.max": "4096"}, MACHINE),
        ("0::/job\n", {"job/memory.max": str(4 * MACHINE)}, MACHINE),
        ("0::/job\n", {"job/memory.max": "garbage"}, MACHINE),
        ("5:cpu,memory:/slurm/job_1\n0::/\n", {"memory/slurm/job_1/memory.limit_in_bytes": "4096"}, 4096),
        (
            "4:memory:/slurm/job_1/step_0\n",
            {
                "memory/slurm/job_1/step_0/memory.limit_in_bytes": NO_LIMIT,
                "memory/slurm/job_1/memory.limit_in_bytes": "4096",
            },
            4096,
        ),
        ("4:memory:/docker/0123\n", {"memory/memory.limit_in_bytes": "4096"}, 4096),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": NO_LIMIT}, MACHINE),
        ("3:cpuset:/job\n", {"memory/job/memory.limit_in_bytes": "4096"}, MACHINE),
        ("no control groups", {}, MACHINE),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, membership: str, limits: dict[str, str], expected: int) -> None:
    for name, text in limits.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    (tmp_path / "membership").write_text(membership)
    assert host_memory(tmp_path / "membership", tmp_path / "cgroup") == expected


def test_without_control_groups_it_is_the_machines(tmp_path: Path) -> None:
    assert host_memory(tmp_path / "absent", tmp_path / "absent") == MACHINE


def test_a_cluster_is_planned_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "host_memory", lambda: 4096)
    ranks = Ranks(0, 2, 2, torch.device("cpu"), None)  # type: ignore[arg-type]  # nothing is sent
    assert topology.cluster_of(ranks).usable_memory(reserve=0.5) == {"ddr": 1024}
