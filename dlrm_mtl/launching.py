"""What the TorchX components share. Imported by them alone: training needs no TorchX."""

from collections.abc import Mapping, Sequence

import torchx.specs as specs
from torchx.components.dist import ddp
from torchx.specs.builders import parse_mounts

from dlrm_mtl import cli

RESTARTS = {
    # torch 2.13 otherwise keeps one store over the restarts, in which new workers find the addresses of dead ones.
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    # How long a node waits for the others to come back before it gives up, or goes on without them: 10 minutes unless
    # it is set.
    "PET_RDZV_CONF": "join_timeout=120",
}
"""What restarts of workers need beside torchrun's --max-restarts."""

CPU_THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""One thread per rank: more threads than free cores make a step several times slower."""

CPU_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
"""glibc keeps freed memory. By default it returns blocks of the reader's and the model's sizes to the system and gets
them anew, page by page, in every step. A process's memory stays at its peak."""


def application(
    module: str,
    script_args: Sequence[str],
    *,
    j: str,
    env: Mapping[str, str] | None,
    image: str,
    mounts: Sequence[str] | None,
    cpu: int,
    gpu: int,
    memMB: int,
    h: str | None,
    max_retries: int,
    rdzv_port: int,
    restarts: int = 0,
    options: type | None = None,
    first: Sequence[str] = (),
) -> specs.AppDef:
    """A job of torchrun workers that run a module; see the components for the arguments.

    Args:
        options: what the module parses ``script_args`` to; wrong ones end here, before anything is launched.
        first: arguments before ``script_args``.

    Raises:
        ValueError: mounts that TorchX does not know.
        ValueError, SystemExit: as :func:`dlrm_mtl.cli.parse`.
    """
    if options is not None:
        cli.parse(options, module, script_args)
    # torchrun reads its options from PET_ variables, too; TorchX has no parameter for this one.
    restarting = {"PET_MAX_RESTARTS": str(restarts), **RESTARTS} if restarts else {}
    return ddp(
        *first,
        *script_args,
        m=module,
        name=f"{module.replace('.', '-').replace('_', '-')}/",
        j=j,
        env={**CPU_THREADS, **CPU_MEMORY, **restarting, **(env or {})},
        image=image,
        mounts=_checked_mounts(mounts or []),
        cpu=cpu,
        gpu=gpu,
        memMB=memMB,
        h=h,
        max_retries=max_retries,
        rdzv_port=rdzv_port,
    )


def _checked_mounts(mounts: Sequence[str]) -> list[str]:
    try:
        parse_mounts(list(mounts))
    except (KeyError, ValueError) as error:
        given = ",".join(mounts)
        raise ValueError(f"mounts is {given!r}, expected type=volume,src=CLAIM,dst=PATH: {error}") from None
    return list(mounts)
