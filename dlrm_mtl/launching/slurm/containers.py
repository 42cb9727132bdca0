"""Containers on Slurm: Apptainer for its image files, pyxis (with enroot) for other images."""

import re
from collections.abc import Sequence

from torchx.schedulers.slurm_scheduler import SlurmReplicaRequest
from torchx.specs import BindMount, DeviceMount, VolumeMount

from dlrm_mtl.quoting import quote

REGISTRY = re.compile(r"^(\w[^/#]*[.:][^/#]*|localhost)/")
"""The registry of an image that is not on Docker Hub."""


def put_in_container(
    replica: SlurmReplicaRequest, image: str, mounts: Sequence[BindMount | VolumeMount | DeviceMount]
) -> None:
    """Runs a node's command in a container.

    Raises:
        ValueError: there are mounts without an image, or mounts that are no directories of the node.
    """
    if mounts and not image:
        raise ValueError("mounts are given and image is not: without a container there is nothing to mount into")
    binds = []
    for mount in mounts:
        if not isinstance(mount, BindMount):
            source = getattr(mount, "src", None) or getattr(mount, "src_path", "")
            raise ValueError(f"mount of {quote(source)}: Slurm mounts directories only, type=bind,src=DIR,dst=DIR")
        binds.append(f"{mount.src_path}:{mount.dst_path}{':ro' if mount.read_only else ''}")
    if image.endswith(".sif"):
        options = ["--nv", *(f"--bind={bind}" for bind in binds)]
        replica.args = ["exec", *options, image, replica.entrypoint, *replica.args]
        replica.entrypoint = "apptainer"
    elif image:
        # enroot separates a registry from its images by #.
        replica.srun_opts["container-image"] = REGISTRY.sub(r"\1#", image)
        if binds:
            replica.srun_opts["container-mounts"] = ",".join(binds)
