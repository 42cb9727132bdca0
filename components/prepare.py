"""``torchx run -s local_cwd components/prepare.py:prepare -j 1x2 --source criteo -- --raw LOGS --out DIR``"""

from typing import Dict, List, Optional

import torchx.specs as specs

from data_prep import ali_ccp, census_income, criteo, parquet
from dlrm_mtl.launching import RefusedLaunchError, application
from dlrm_mtl.quoting import quote

SOURCES = {
    "criteo": criteo.Options,
    "census_income": census_income.Options,
    "ali_ccp": ali_ccp.Options,
    "parquet": parquet.Options,
}
"""The options of every source whose preparation several processes can share."""


def prepare(
    *script_args: str,
    source: str = "criteo",
    j: str = "1x2",
    env: Optional[Dict[str, str]] = None,
    image: str = "",
    mounts: Optional[List[str]] = None,
    cpu: int = 0,
    memMB: int = 0,
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
        cpu: CPUs per node; 0: one per process
        memMB: memory per node, in MB; 0: 2048 per process
        h: a named resource, instead of cpu and memMB
        max_retries: how often the scheduler submits a failed job again; what is finished is not done again
        rdzv_port: port of the rendezvous on the first node
    """
    if source not in SOURCES:
        raise RefusedLaunchError(f"source is {quote(source)}, expected one of {', '.join(SOURCES)}")
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
        options=SOURCES[source],
    )
