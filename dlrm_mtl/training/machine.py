"""Checks that this machine supports the options."""

from dataclasses import dataclass

import torch

from dlrm_mtl.config import require
from dlrm_mtl.distributed.caching import allowed_kernels
from dlrm_mtl.distributed.comms import check_comms
from dlrm_mtl.distributed.sharding import allowed_kinds
from dlrm_mtl.models.dense_memory import DenseMemory
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.training.optimization.optimizers import check_table_optimizer
from dlrm_mtl.units import format_size

AMPERE = (8, 0)
"""Compute capability of the first GPUs with TF32 and bfloat16 units."""


@dataclass(frozen=True)
class Machine:
    """The device that a rank trains on."""

    device: str
    """cpu or cuda."""
    capability: tuple[int, int] = (0, 0)
    """Compute capability of the GPU."""


def machine_of(device: torch.device) -> Machine:
    if device.type == "cpu":
        return Machine("cpu")
    return Machine(device.type, torch.cuda.get_device_capability(device))


def check_dense_memory(memory: DenseMemory, arms: int, optimizer: str, available: int) -> None:
    """
    Args:
        memory: of the dense part of one arm.
        available: bytes of memory of a rank.

    Raises:
        ValueError: the dense parts of all arms are larger than the memory.
    """
    needed = arms * memory.bytes
    if needed > available:
        parts = ", ".join(f"{part} {count:,}" for part, count in memory.parameters.items())
        raise ValueError(
            f"model: the dense part of {arms} arm{'s' * (arms > 1)} needs {format_size(needed)} on each rank (weights,"
            f" gradients and the state of {optimizer}), expected at most the {format_size(available)} that a rank has;"
            f" parameters of one arm: {parts}"
        )


def check_machine(config: RunConfig, machine: Machine) -> None:
    """
    Raises:
        ValueError: an option that the device, its kernels or the backend of its collectives does not have.
    """
    allowed_kinds(config.sharding, config.optimizer.table, machine.device)
    allowed_kernels(config.sharding, machine.device)
    check_comms(config.sharding.comms, machine.device)
    check_table_optimizer(config.optimizer, machine.device)
    modern = machine.capability >= AMPERE
    found = "a CPU" if machine.device == "cpu" else "a GPU of compute capability {}.{}".format(*machine.capability)
    require("tf32", config.tf32, modern or not config.tf32, f"False on {found}: only GPUs of 8.0 and later have it")
    slow = config.bf16 and machine.device == "cuda" and not modern
    require("bf16", config.bf16, not slow, f"False on {found}: only those of 8.0 and later have it")
