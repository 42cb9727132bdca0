"""srun as a launcher: each of its tasks is a rank."""

import os
import re

FIRST_PORT, PORTS = 20000, 10000
"""Range of MASTER_PORT, below the ports that systems assign to connections."""
PORTS_OF_A_JOB = 10
"""Number of ports per job, one for each step."""


def become_rank() -> None:
    """In a task of srun, sets the variables that torchrun sets for a process: RANK, LOCAL_RANK, WORLD_SIZE,
    LOCAL_WORLD_SIZE, and unless they are set, MASTER_ADDR (the first node of the step) and MASTER_PORT (from the
    numbers of job and step).

    Changes nothing outside of srun (as in a batch script), in a step of one task, and if RANK is set, since srun may
    have started torchrun.

    Raises:
        ValueError: nodes have different numbers of tasks, or a node's ranks are not consecutive.
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
    """The first node of a list in Slurm's notation: ``n07`` for ``n[07-09,12],m1``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    if first is None:
        raise ValueError(f"SLURM_STEP_NODELIST is {nodes!r}, expected names of nodes")
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first[0])
