"""``torchx run -s local_cwd components/prepare.py:prepare -j 1x2 --source criteo -- --raw LOGS --out DIR``"""

from typing import Dict, List, Optional

import torchx.specs as specs

from dlrm_mtl.launching import application


def prepare(
    *script_args: str,
    source: str = "criteo",
    j: str = "1x2",
    env: Optional[Dict[str, str]] = None,
    image: str = "",
    mounts: Optional[List[str]] = None,
    cpu: int = 2,
    memMB: int = 8192,
    h: Optional[str] = None,
    max_retries: int = 0,
    rdzv_port: int = 29500,
) -> specs.AppDef:
    """Prepares a data set from raw logs; its processes share the files, by a directory that all nodes see.

    Args:
        script_args: options of data_prep.SOURCE, after ``--``; ``python -m data_prep.criteo --help`` lists them
        source: criteo, census_income, ali_ccp or parquet
        j: {nodes}x{processes per node}
        env: further environment of the processes, A=1,B=2
        image: container image, for kubernetes
        mounts: what the container mounts, for kubernetes: type=volume,src=CLAIM,dst=PATH for a persistent volume claim,
            repeated for more
        cpu: CPUs per node
        memMB: memory per node, in MB
        h: a named resource, instead of cpu and memMB
        max_retries: how often the scheduler submits a failed job again; what is finished is not done again
        rdzv_port: port of the rendezvous on the first node
    """
    return application(
        f"data_prep.{source}",
        script_args,
        j=j,
        env=env,
        image=image,
        mounts=mounts,
        cpu=cpu,
        gpu=0,
        memMB=memMB,
        h=h,
        max_retries=max_retries,
        rdzv_port=rdzv_port,
    )
