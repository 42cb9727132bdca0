"""The manifests of a checkpoint, checkpoint.json and tensors.json, with checksums updated after the change."""

import random
import shutil
from pathlib import Path
from typing import Any

from dlrm_mtl.config import CheckpointConfig
from dlrm_mtl.distributed.checkpoint_directory import MANIFEST, record_files, write_manifest
from dlrm_mtl.distributed.tensor_description import DESCRIPTION
from dlrm_mtl.files import parse_json, read_json
from dlrm_mtl.inference.loading import load_model
from dlrm_mtl.inference.stored_model import open_stored_model
from tests.datasets import make_dataset
from tests.fuzz.mutations import mutate_json
from tests.fuzz.target import Target
from tests.fuzz.targets.runs import Runs


def checkpoint_target(directory: Path) -> Target:
    """Each input is given to a run that starts from it, or is loaded for predictions."""
    data = make_dataset(directory / "data", rows=64, eval_rows=48, row_group_rows=16)
    runs = Runs(directory, data)
    whole = runs.train(runs.prepare(checkpoint=CheckpointConfig(every_steps=1)))
    [newest, *_] = sorted((whole / "checkpoints").glob("step-*"), reverse=True)
    manifest, description = read_json(newest / MANIFEST), read_json(newest / DESCRIPTION)
    del manifest["sha256"]
    struck = directory / "struck"

    def mutate(draw: random.Random) -> bytes:
        kind = draw.choice((b"m", b"t"))
        return kind + mutate_json(manifest if kind == b"m" else description, draw)

    def attempt(changed: bytes) -> None:
        shutil.rmtree(struck, ignore_errors=True)
        shutil.copytree(whole, struck)
        checkpoint = struck / "checkpoints" / newest.name
        for other in (struck / "checkpoints").glob("step-*"):
            if other != checkpoint:
                shutil.rmtree(other)
        _write(checkpoint, manifest, changed)
        if len(changed) % 2:
            load_model(open_stored_model(checkpoint), runs.ranks, 16)
            return
        session = runs.prepare(init_from=checkpoint)
        try:
            runs.train(session)
        finally:
            shutil.rmtree(session.config.out)

    return Target("checkpoint", mutate, attempt)


def _write(checkpoint: Path, manifest: dict[str, Any], changed: bytes) -> None:
    kind, text = changed[:1], changed[1:]
    if kind == b"t":
        (checkpoint / DESCRIPTION).write_bytes(text)
        [(name, size, checksum)] = record_files(checkpoint, [DESCRIPTION])
        files = {**manifest["files"], name: {"bytes": size, "sha256": checksum}}
        write_manifest(checkpoint, {**manifest, "files": files})
        return
    try:
        value = parse_json(text.decode(), "changed")
    except ValueError:
        value = None
    if isinstance(value, dict) and "sha256" not in value:
        write_manifest(checkpoint, value)
    else:
        (checkpoint / MANIFEST).write_bytes(text)
