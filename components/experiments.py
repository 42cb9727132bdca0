"""``torchx run -s local_cwd components/experiments.py:experiments -j 1x2 --study table3 -- --data DIR --out RUN``"""

from typing import Dict, List, Optional

import torchx.specs as specs

from dlrm_mtl.config import ExperimentConfig
from dlrm_mtl.launching import RefusedLaunchError, application
from dlrm_mtl.quoting import quote
from dlrm_mtl.studies.catalog import STUDIES


def experiments(
    *script_args: str,
    study: str = "all",
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
    """Produces the paper's tables and figure for a data set.

    Args:
        script_args: options of dlrm_mtl.experiments, after ``--``; ``python -m dlrm_mtl.experiments all --help`` lists
            them
        study: table2, table3, table4, figure2, transfer, search or all
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
    if study not in (*STUDIES, "all"):
        raise RefusedLaunchError(f"study is {quote(study)}, expected one of {', '.join(STUDIES)}, all")
    return application(
        "dlrm_mtl.experiments",
        script_args,
        first=(study,),
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
        options=ExperimentConfig,
    )
