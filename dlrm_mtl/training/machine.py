"""Checks that this machine supports the options."""

from dataclasses import dataclass

import torch

from dlrm_mtl.config import RunConfig, require
from dlrm_mtl.distributed.caching import allowed_kernels
from dlrm_mtl.distributed.comms import check_comms
from dlrm_mtl.distributed.sharding import allowed_kinds
from dlrm_mtl.training.optimizers import check_table_optimizer

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
