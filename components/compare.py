"""``torchx run -s local_cwd components/compare.py:compare -j 1x2 -- --data DIR --out RUN --arms mean multibalance``"""

from typing import Dict, List, Optional

import torchx.specs as specs

from dlrm_mtl.config import CompareConfig
from dlrm_mtl.launching import application


def compare(
    *script_args: str,
    j: str = "1x2",
    env: Optional[Dict[str, str]] = None,
    image: str = "",
    mounts: Optional[List[str]] = None,
    cpu: int = 0,
    gpu: int = 0,
    memMB: int = 0,
    h: Optional[str] = None,
    max_retries: int = 0,
    rdzv_port: int = 29500,
    restarts: int = 3,
) -> specs.AppDef:
    """Trains a control and treatments side by side and reports NE gains and QPS.

    Args:
        script_args: options of dlrm_mtl.compare, after ``--``; ``python -m dlrm_mtl.compare --help`` lists them
        j: {nodes}x{processes per node}; on GPUs, one process per GPU; {least nodes}:{nodes}x{processes per node} goes
            on with fewer when some are lost
        env: further environment of the processes, A=1,B=2
        image: container image, for kubernetes
        mounts: what the container mounts, for kubernetes: type=volume,src=CLAIM,dst=PATH for a persistent volume claim,
            repeated for more
        cpu: CPUs per node; 0: one per process, with GPUs four
        gpu: GPUs per node
        memMB: memory per node, in MB; 0: 2048 per process, with GPUs 16384
        h: a named resource, instead of cpu, gpu and memMB
        max_retries: how often the scheduler submits a failed job again; it goes on from the newest checkpoint
        rdzv_port: port of the rendezvous on the first node
        restarts: how often a node starts its processes again after one of them has died; they go on from the newest
            checkpoint
    """
    return application(
        "dlrm_mtl.compare",
        script_args,
        j=j,
        env=env,
        image=image,
        mounts=mounts,
        cpu=cpu,
        gpu=gpu,
        memMB=memMB,
        h=h,
        max_retries=max_retries,
        rdzv_port=rdzv_port,
        restarts=restarts,
        options=CompareConfig,
    )
