"""The role of a job's nodes, which adapts what TorchX's schedulers make of it."""

from dataclasses import dataclass, field

import torchx.specs as specs

from dlrm_mtl.launching.errors import RefusedLaunchError
from dlrm_mtl.launching.job import Job


@dataclass
class JobRole(specs.Role):
    """A role that knows its job's parameters, some of which TorchX's schedulers have no option for."""

    job: Job = field(default_factory=Job)

    def pre_proc(self, scheduler: str, dryrun_info: specs.AppDryRunInfo) -> specs.AppDryRunInfo:
        """Changes a scheduler's request before it is shown or submitted.

        Raises:
            RefusedLaunchError: parameters that the scheduler cannot follow.
        """
        # Each needs libraries that other schedulers need not load.
        if scheduler == "kubernetes":
            from dlrm_mtl.launching.kubernetes.manifest import complete

            complete(dryrun_info.request, self.job)
        elif scheduler == "slurm":
            from dlrm_mtl.launching.slurm.request import completed

            dryrun_info.request = completed(dryrun_info.request, self.job)
        elif self.job.overlay:
            raise RefusedLaunchError(f"--overlay changes a job of Kubernetes or Slurm, the scheduler is {scheduler}")
        return dryrun_info
