"""srun as a launcher: each of its tasks is a rank."""

import os
import re

FIRST_PORT, PORTS = 20000, 10000
"""Where MASTER_PORT is chosen: below the ports that systems give to connections."""
PORTS_OF_A_JOB = 10
"""One for each of its steps, as far as they go."""


def become_rank() -> None:
    """Sets in a task of srun what torchrun sets for a process: RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, and
    where they are not set MASTER_ADDR, the first node of the step, and MASTER_PORT, which follows from its number.

    Changes nothing outside of srun, which a batch script is until it calls srun, in a step of one task, and where RANK
    is set: srun may have started torchrun.

    Raises:
        ValueError: nodes have different numbers of tasks, or their ranks are not in a row.
    """
    task = os.environ
    size = int(task.get("SLURM_STEP_NUM_TASKS", "1"))
    if size == 1 or "RANK" in task:
        return
    rank, node, local_rank = (int(task[f"SLURM_{name}"]) for name in ("PROCID", "NODEID", "LOCALID"))
    step = PORTS_OF_A_JOB * int(task["SLURM_JOB_ID"]) + int(task["SLURM_STEP_ID"])
    task.update(RANK=str(rank), LOCAL_RANK=str(local_rank), WORLD_SIZE=str(size))
    task.setdefault("MASTER_ADDR", first_node(task["SLURM_STEP_NODELIST"]))
    task.setdefault("MASTER_PORT", str(FIRST_PORT + step % PORTS))
    spread = task["SLURM_STEP_TASKS_PER_NODE"]
    even = re.fullmatch(r"(\d+)(\(x\d+\))?", spread)
    if even is None or rank != node * int(even[1]) + local_rank:
        raise ValueError(
            f"srun has spread {size} tasks as {spread}, rank {rank} as number {local_rank} of node {node}; expected the"
            " same number on each node, ranks in a row: --ntasks-per-node and --distribution=block"
        )
    task["LOCAL_WORLD_SIZE"] = even[1]


def first_node(nodes: str) -> str:
    """Name of the first node of a list as Slurm writes it: ``n07`` of ``n[07-09,12],m1``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    if first is None:
        raise ValueError(f"SLURM_STEP_NODELIST is {nodes!r}, expected names of nodes")
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first[0])
