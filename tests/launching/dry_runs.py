"""Dry runs of ``torchx run`` on Slurm, in this process."""

import shlex

from torchx.runner import get_runner


def batch_script(command: str) -> str:
    """The batch script that a ``torchx run -s slurm`` command submits. Call it in the project's root."""
    words = shlex.split(command)
    assert words[:4] == ["torchx", "run", "-s", "slurm"]
    at = 6 if words[4] == "-cfg" else 4
    with get_runner() as runner:
        options = runner.scheduler_run_opts("slurm").cfg_from_str(words[5] if at == 6 else "")
        script: str = runner.dryrun_component(words[at], words[at + 1 :], "slurm", cfg=options).request.materialize()
    return script
