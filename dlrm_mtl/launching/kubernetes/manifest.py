"""The manifest of a job on Kubernetes: what TorchX makes, what this project adds, what the user's overlay changes."""

import re
from pathlib import Path
from typing import Any

from torchx.schedulers.kubernetes_scheduler import KubernetesJob, sanitize_for_serialization

from dlrm_mtl.ending import REFUSED
from dlrm_mtl.launching.environment import SECRET
from dlrm_mtl.launching.errors import RefusedLaunchError
from dlrm_mtl.launching.job import LAUNCHER_S, Job
from dlrm_mtl.launching.kubernetes.overlay import merged, read_overlay
from dlrm_mtl.launching.kubernetes.schema import check_manifest
from dlrm_mtl.quoting import quote

RDMA_DEVICES = re.compile(r"rdma/|vpc\.amazonaws\.com/efa$")
"""Devices whose drivers keep buffers in locked memory."""

Manifest = dict[str, Any]


def complete(request: KubernetesJob, job: Job) -> None:
    """Completes the manifest that TorchX has made, before it is shown or submitted.

    Raises:
        RefusedLaunchError: an overlay that cannot be used, a manifest that a cluster would refuse, or a secret in it.
    """
    manifest: Manifest = sanitize_for_serialization(request.resource)
    _end_at_once(manifest)
    overlay = read_overlay(Path(job.overlay)) if job.overlay else {}
    source = job.overlay or "the manifest"
    overlaid = merged(manifest, overlay, source)
    check_manifest(overlaid, source)
    # The overlay may ask for devices, and has the last word.
    additions = _additions(_has_rdma(overlaid), job.save_time)
    manifest = merged(merged(manifest, additions, source), overlay, source)
    for pod in _pods(manifest):
        if pod.get("hostNetwork"):
            # The names of other pods are the cluster's.
            pod.setdefault("dnsPolicy", "ClusterFirstWithHostNet")
        _check_containers(pod, source)
    request.resource = manifest


def _end_at_once(manifest: Manifest) -> None:
    """An error that the user must fix ends a job that is started again after all others. A pod that fails ends a job
    that is never started again and needs all its pods, which would wait for it."""
    tasks = manifest["spec"]["tasks"]
    needs_all = all(task.get("minAvailable", 1) for task in tasks)
    for task in tasks:
        if task.get("policies"):
            # Volcano follows the first policy that fits.
            task["policies"] = [{"exitCode": REFUSED, "action": "TerminateJob"}, *task["policies"]]
        elif needs_all:
            task["policies"] = [{"event": "PodFailed", "action": "TerminateJob"}]


def _additions(rdma: bool, save_time: int) -> Manifest:
    """What every job has beside what TorchX gives it, as an overlay: no more rights than training needs, and time to
    save.

    Args:
        save_time: seconds that the container's processes have after SIGTERM.
    """
    capabilities = {"drop": ["ALL"], **({"add": ["IPC_LOCK"]} if rdma else {})}
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": save_time + LAUNCHER_S,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"securityContext": {"allowPrivilegeEscalation": False, "capabilities": capabilities}}],
    }
    return {"spec": {"tasks": [{"template": {"spec": pod}}]}}


def _pods(manifest: Manifest) -> list[dict[str, Any]]:
    return [task["template"]["spec"] for task in manifest["spec"]["tasks"]]


def _has_rdma(manifest: Manifest) -> bool:
    return any(
        RDMA_DEVICES.match(device)
        for pod in _pods(manifest)
        for container in pod.get("containers", [])
        for device in container.get("resources", {}).get("limits", {})
    )


def _check_containers(pod: dict[str, Any], source: str) -> None:
    """
    Raises:
        RefusedLaunchError: a container without an image, such as one that an overlay adds by a misspelt name; a secret
            whose value the manifest would show.
    """
    for container in pod["containers"]:
        if not container.get("image"):
            name = quote(container["name"])
            raise RefusedLaunchError(f"{source}: container {name} has no image, expected --image or another name")
        for variable in container.get("env", []):
            if variable.get("value") and SECRET.search(variable["name"]):
                raise RefusedLaunchError(
                    f"{source}: variable {variable['name']} is a secret whose value anyone can read, expected"
                    " valueFrom: {secretKeyRef: {name: SECRET, key: KEY}} in an --overlay"
                )
