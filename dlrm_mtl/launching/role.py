"""The role of a job's nodes, which adapts what TorchX's schedulers make of it."""

from dataclasses import dataclass, field

import torchx.specs as specs

from dlrm_mtl.launching.errors import RefusedLaunchError
from dlrm_mtl.launching.job import Job
from dlrm_mtl.quoting import quote


@dataclass
class JobRole(specs.Role):
    """A role that knows its job's parameters, some of which TorchX's schedulers have no option for."""

    job: Job = field(default_factory=Job)

    def pre_proc(self, scheduler: str, dryrun_info: specs.AppDryRunInfo) -> specs.AppDryRunInfo:
        """Changes a scheduler's request before it is shown or submitted.

        Raises:
            RefusedLaunchError: parameters that the scheduler cannot follow.
        """
        if scheduler == "kubernetes":
            # Needs the schemas of Kubernetes, which other schedulers need not load.
            from dlrm_mtl.launching.kubernetes.manifest import complete

            complete(dryrun_info.request, self.job)
        elif scheduler == "slurm" and ":" in self.job.j:
            text = f"j is {quote(self.job.j)}, but a job on Slurm keeps its nodes, expected {{nodes}}x{{processes}}"
            raise RefusedLaunchError(text)
        elif self.job.overlay:
            raise RefusedLaunchError(f"--overlay changes a manifest of Kubernetes, the scheduler is {scheduler}")
        return dryrun_info
