"""What the TorchX components share. Imported by them alone: training needs no TorchX."""

from collections.abc import Mapping, Sequence

import torchx.specs as specs
from torchx.components.dist import ddp

CPU_THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""One thread per rank: more threads than free cores make a step several times slower."""


def application(
    module: str,
    script_args: Sequence[str],
    *,
    j: str,
    env: Mapping[str, str] | None,
    image: str,
    cpu: int,
    gpu: int,
    memMB: int,
    h: str | None,
    max_retries: int,
    rdzv_port: int,
) -> specs.AppDef:
    """A job of torchrun workers that run a module; see the components for the arguments."""
    return ddp(
        *script_args,
        m=module,
        name=f"{module.replace('.', '-').replace('_', '-')}/",
        j=j,
        env={**CPU_THREADS, **(env or {})},
        image=image,
        cpu=cpu,
        gpu=gpu,
        memMB=memMB,
        h=h,
        max_retries=max_retries,
        rdzv_port=rdzv_port,
    )
