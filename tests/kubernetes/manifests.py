"""Manifests by TorchX's dry run, and their schemas."""

import functools
import json
import shlex
import warnings
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from torchx.runner import get_runner

from tests.entry_points.processes import ROOT, run

SCHEMA = json.loads((ROOT / "dlrm_mtl/launching/kubernetes/volcano_job.json").read_text())
SCHEMA["$defs"]["io.k8s.api.core.v1.PodTemplateSpec"] = {"required": ["spec"]}  # pods are checked by themselves
VERSIONS = ("1.29", "1.37")
"""Version of Kubernetes against which manifests are checked."""

Manifest = dict[str, Any]


def dry_run(component: str) -> Manifest:
    """The manifest that a component and its arguments would submit to the queue ``training``. Call it in the project's
    root."""
    name, *arguments = shlex.split(component)
    with get_runner() as runner, warnings.catch_warnings():
        # TorchX warns of a defect of Volcano 1.4 with retries.
        warnings.filterwarnings("ignore", message=r"\s*Role \w+ configured with restarts")
        request = runner.dryrun_component(name, arguments, "kubernetes", cfg={"queue": "training"}).request
    manifest: Manifest = yaml.safe_load(str(request))
    return manifest


@functools.cache
def dry_run_of_command(command: str) -> Manifest:
    """The manifest that a ``torchx run`` command would submit."""
    program, verb, *arguments = shlex.split(command)
    process = run(program, verb, *([] if "--dryrun" in arguments else ["--dryrun"]), *arguments)
    assert process.returncode == 0, process.stderr
    manifest: Manifest = yaml.safe_load(process.stdout.partition("=== SCHEDULER REQUEST ===")[2])
    return manifest


def validate(manifest: Manifest) -> None:
    """
    Raises:
        jsonschema.ValidationError, kubernetes_validate.ValidationError: a cluster would refuse the manifest.
    """
    jsonschema.validate(manifest, SCHEMA)
    tasks = manifest["spec"]["tasks"]
    assert len({task["name"] for task in tasks}) == len(tasks)
    for task in tasks:
        template = task["template"]
        metadata = {**template.get("metadata", {}), "name": task["name"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        for version in VERSIONS:
            kubernetes_validate.validate(pod, version, strict=True)
