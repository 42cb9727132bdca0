"""Whole training steps under several architectures, in the windows of a comparison, and their memory."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dlrm_mtl.architecture_options import with_architecture
from dlrm_mtl.benchmarks.cases import ArchitecturesCase
from dlrm_mtl.benchmarks.markdown import INTERVAL, cell, markdown_table, with_interval
from dlrm_mtl.benchmarks.methods import window_qps
from dlrm_mtl.benchmarks.session import EVEN_READING, open_benchmarks, read_batch, read_environment
from dlrm_mtl.benchmarks.windows import Spread, take_turns
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.studies.architectures.parameters import count_parameters
from dlrm_mtl.training.arm import build_arm
from dlrm_mtl.training.session import Session
from dlrm_mtl.units import mib


def measure_architectures(case: ArchitecturesCase) -> dict[str, Any]:
    """QPS of each arm under each architecture, window by window, its step time over the control's of the same
    architecture and over that of the first, and the memory of each architecture. Collective.

    Raises:
        ValueError: the data set cannot be trained on, or an arm is unknown.
    """
    models = {name: with_architecture(case.model, name) for name in case.architectures}
    with open_benchmarks(case, models, reader=EVEN_READING, arms=case.arms) as sessions:
        memory = {name: _memory(session) for name, session in sessions.items()}
        windows = {
            (name, arm): partial(window_qps, session.trainer(arm, seed=0), case.steps)
            for name, session in sessions.items()
            for arm in case.arms
        }
        qps = {key: Spread.of(values) for key, values in take_turns(windows, case.windows).items()}
        environment = read_environment(next(iter(sessions.values())))
    first, control = case.architectures[0], case.arms[0]
    return {
        "environment": environment,
        "architectures": {
            name: {
                **memory[name],
                "arms": {
                    arm: {
                        "qps": asdict(qps[name, arm]),
                        "step_over_control": asdict(qps[name, control].over(qps[name, arm])),
                        "step_over_first": asdict(qps[first, control].over(qps[name, arm])),
                    }
                    for arm in case.arms
                },
            }
            for name in case.architectures
        },
    }


def format_architectures(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table."""
    architectures = results["architectures"]
    first = next(iter(architectures))
    control = next(iter(architectures[first]["arms"]))
    header = (
        *("architecture", "arm", "dense parameters", "table parameters", "activations, MiB", "samples/s"),
        *(f"step time over `{control}`, {INTERVAL}", f"over `{first}`, `{control}`"),
    )
    rows = [
        [
            *(f"`{name}`", f"`{arm}`"),
            *(f"{entry['parameters'][part]:,}" for part in ("dense", "tables")),
            f"{mib(entry['activation_bytes']):.1f}",
            cell(measured["qps"], ",.0f"),
            *(with_interval(measured[over], ".3f") for over in ("step_over_control", "step_over_first")),
        ]
        for name, entry in architectures.items()
        for arm, measured in entry["arms"].items()
    ]
    return markdown_table(header, rows)


def _memory(session: Session) -> dict[str, Any]:
    """Parameters, and the bytes that this rank's forward pass of the control keeps for the backward pass, without
    parameters. Collective."""
    config, ranks, schema = session.config, session.ranks, session.source.dataset.schema
    arm = build_arm(config, parse_recipe("mean"), 0, schema, session.plan, ranks)
    arm.model.train()
    return {
        "parameters": asdict(count_parameters(schema, config.model)),
        "activation_bytes": _activation_bytes(arm.model, read_batch(session)),
    }


def _activation_bytes(model: torch.nn.Module, batch: MultiTaskBatch) -> int:
    """Bytes of the storages that autograd keeps for the backward pass of a batch, each once."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses, _ = model(batch)
    losses.sum().backward()
    return sum(storages.values())
