"""The base model of the growth benchmark on several processes of this machine, in a job of its own."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dlrm_mtl.benchmarks.synthetic_cases import GrowthCase
from dlrm_mtl.files import read_json

OF_A_JOB = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launch_ranks(case: GrowthCase, processes: int) -> dict[str, Any]:
    """Measures the base model with this many processes.

    Its time is relative to the base model's in the same job, hence about 1: jobs with different numbers of ranks do not
    take turns.

    Raises:
        RuntimeError: the job failed; the message is its last line.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        file = Path(directory) / "point.json"
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)),
            *("-m", "dlrm_mtl.bench", "growth", "--json", str(file), "--axes"),
            *("--windows", str(case.windows), "--seconds", str(case.seconds), "--table-rows", str(case.table_rows)),
        ]
        for name in ("tasks", "dim", "batch", "tables"):
            command += [f"--base-{name}", str(getattr(case, f"base_{name}"))]
        environment = {name: value for name, value in os.environ.items() if name not in OF_A_JOB}
        job = subprocess.run(command, env=environment, capture_output=True, text=True)
        if job.returncode:
            reason = (job.stderr or job.stdout).strip().splitlines()[-1:]
            raise RuntimeError(f"the job of {processes} processes failed: {' '.join(reason)}")
        [point] = read_json(file)["points"]
    return {key: value for key, value in point.items() if key not in ("axis", "value")}
