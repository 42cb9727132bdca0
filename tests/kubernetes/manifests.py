"""Manifests by TorchX's dry run, and their schemas."""

import functools
import io
import json
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from torchx.cli.argparse_util import ArgOnceAction, torchxconfig
from torchx.cli.main import main
from torchx.runner import get_runner

from tests.entry_points.processes import ROOT

SCHEMA = json.loads((ROOT / "dlrm_mtl/launching/kubernetes/volcano_job.json").read_text())
SCHEMA["$defs"]["io.k8s.api.core.v1.PodTemplateSpec"] = {"required": ["spec"]}  # pods are checked by themselves
VERSIONS = ("1.29", "1.37")
"""Version of Kubernetes against which manifests are checked."""

Manifest = dict[str, Any]


@contextmanager
def _retries_are_no_surprise() -> Iterator[None]:
    """TorchX warns of a defect of Volcano 1.4 with retries."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Role \w+ configured with restarts")
        yield


def dry_run(component: str) -> Manifest:
    """The manifest that a component and its arguments would submit to the queue ``training``. Call it in the project's
    root."""
    name, *arguments = shlex.split(component)
    with get_runner() as runner, _retries_are_no_surprise():
        request = runner.dryrun_component(name, arguments, "kubernetes", cfg={"queue": "training"}).request
    manifest: Manifest = yaml.safe_load(str(request))
    return manifest


@functools.cache
def dry_run_of_command(command: str) -> Manifest:
    """The manifest that a ``torchx run`` command would submit. Call it in the project's root."""
    _, verb, *arguments = shlex.split(command)
    for action in (torchxconfig, ArgOnceAction):
        action.called_args.clear()  # those of earlier commands of this process
    output = io.StringIO()
    with redirect_stdout(output), _retries_are_no_surprise():
        main([verb, *([] if "--dryrun" in arguments else ["--dryrun"]), *arguments])
    manifest: Manifest = yaml.safe_load(output.getvalue().partition("=== SCHEDULER REQUEST ===")[2])
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
