"""The batch script of a job on Slurm: what TorchX makes, completed."""

from torchx.schedulers.slurm_scheduler import SlurmBatchRequest, SlurmReplicaRequest
from torchx.specs import parse_mounts

from dlrm_mtl.ending import REFUSED
from dlrm_mtl.launching.environment import SECRET
from dlrm_mtl.launching.errors import RefusedLaunchError
from dlrm_mtl.launching.job import LAUNCHER_S, Job
from dlrm_mtl.launching.slurm.containers import put_in_container
from dlrm_mtl.launching.slurm.overlay import overlaid, read_overlay
from dlrm_mtl.quoting import quote


class BatchRequest(SlurmBatchRequest):
    """A batch script that does not print itself, with the values of variables, into the job's log, nor requeue the job
    after an error that the user must fix."""

    def materialize(self) -> str:
        script = super().materialize().replace("\nset -evx\n", "\nset -e\n")
        return script.replace(" if [ ", f" if [ $exitcode -ne {REFUSED} ] && [ ")


def completed(request: SlurmBatchRequest, job: Job) -> BatchRequest:
    """The request with what TorchX 0.7.0 leaves out, and the ``#SBATCH`` lines of the job's overlay.

    Raises:
        RefusedLaunchError: a secret, an elastic number of nodes, an overlay or mounts that cannot be used.
    """
    try:
        if ":" in job.j:
            raise ValueError(
                f"j is {quote(job.j)}, but a job on Slurm keeps its nodes, expected {{nodes}}x{{processes}}"
            )
        overlay = read_overlay(job.overlay) if job.overlay else {}
        for replica in request.replicas.values():
            _complete(replica, job.save_time + LAUNCHER_S)
            replica.sbatch_opts = overlaid(replica.sbatch_opts, overlay)
            put_in_container(replica, job.image, parse_mounts(job.mounts or []))
    except ValueError as error:
        raise RefusedLaunchError(str(error)) from None
    return BatchRequest(**vars(request))


def _complete(replica: SlurmReplicaRequest, end_s: int) -> None:
    for name in filter(SECRET.search, replica.env):
        raise ValueError(
            f"env has {name}, a secret, which every user of a node could read in the command, expected an exported"
            " variable: Slurm passes on the environment in which a job is submitted"
        )
    options = replica.sbatch_opts
    options["nodes"] = "1"
    # Newer versions of sbatch refuse --gpus-per-task without --ntasks; Slurm 22.05 to 24.11 accept this.
    if gpus := options.pop("gpus-per-task", None):
        options["gpus-per-node"] = gpus
    # Since Slurm 22.05 srun does not take it over from sbatch: a node's processes would share one CPU.
    if cpus := options.get("cpus-per-task"):
        replica.srun_opts["cpus-per-task"] = cpus
    # Before the time limit, so that there is time for a checkpoint; Slurm sends it up to a minute earlier.
    options["signal"] = f"TERM@{end_s}"
    # A requeued job goes on with its files.
    replica.srun_opts["open-mode"] = "append"
    # srun --export, by which TorchX sets variables, cuts values at commas.
    replica.args = [*(f"{name}={value}" for name, value in replica.env.items()), replica.entrypoint, *replica.args]
    replica.entrypoint, replica.env = "env", {}
