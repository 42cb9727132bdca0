"""The TorchX components: ``torchx run -s local_cwd dlrm_mtl.compare -j 1x2 -- --data DIR --out RUN --arms mean mgda``.

In a clone, ``components/compare.py:compare`` names the same component. TorchX imports this module whenever it lists the
components of all packages, so what other extras than ``launch`` bring is imported when a component is called.
"""

import inspect
from collections.abc import Callable
from typing import Dict, List, Optional

import torchx.specs as specs

_SHARED_PARAMETERS = """
    j: {nodes}x{processes per node}; on GPUs, one process per GPU; {least nodes}:{nodes}x{processes per node} goes on
        with fewer nodes when some are lost
    env: further environment of the processes, A=1,B=2
    image: container image, for kubernetes
    mounts: what the container mounts, for kubernetes: type=volume,src=CLAIM,dst=PATH for a persistent volume claim,
        repeated for more
    cpu: CPUs per node; 0: one per process, with GPUs four
    gpu: GPUs per node
    memMB: memory per node, in MB; 0: 2048 per process, with GPUs 16384
    h: a named resource, instead of cpu, gpu and memMB
    max_retries: how often the scheduler submits a failed job again; it goes on from what the first try has finished
    rdzv_port: port of the rendezvous on the first node
    restarts: how often a node starts its processes again after one of them has died; they go on from the newest
        checkpoint"""


def _described(component: Callable[..., specs.AppDef]) -> Callable[..., specs.AppDef]:
    """Adds the shared parameters to a component's docstring, from which TorchX makes ``--help``."""
    component.__doc__ = f"{inspect.getdoc(component)}{_SHARED_PARAMETERS}"
    return component


@_described
def train(
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
    """Trains one arm.

    Args:
        script_args: options of dlrm_mtl.train, after ``--``; ``python -m dlrm_mtl.train --help`` lists them
    """
    from dlrm_mtl.config import TrainConfig
    from dlrm_mtl.launching import Job, application

    job = Job(j, env, image, mounts, cpu, gpu, memMB, h, max_retries, rdzv_port, restarts)
    return application("dlrm_mtl.train", TrainConfig, script_args, job)


@_described
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
    """
    from dlrm_mtl.config import CompareConfig
    from dlrm_mtl.launching import Job, application

    job = Job(j, env, image, mounts, cpu, gpu, memMB, h, max_retries, rdzv_port, restarts)
    return application("dlrm_mtl.compare", CompareConfig, script_args, job)


@_described
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
    """
    from dlrm_mtl.config import ExperimentConfig
    from dlrm_mtl.launching import Job, application, check_choice
    from dlrm_mtl.studies.catalog import STUDIES

    check_choice("study", study, (*STUDIES, "all"))
    job = Job(j, env, image, mounts, cpu, gpu, memMB, h, max_retries, rdzv_port, restarts)
    return application("dlrm_mtl.experiments", ExperimentConfig, script_args, job, first=(study,))


@_described
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
    """
    from data_prep import ali_ccp, census_income, criteo, parquet
    from dlrm_mtl.launching import Job, application, check_choice

    # The sources whose preparation several processes can share.
    sources = {"criteo": criteo, "census_income": census_income, "ali_ccp": ali_ccp, "parquet": parquet}
    check_choice("source", source, sources)
    job = Job(j, env, image, mounts, cpu, 0, memMB, h, max_retries, rdzv_port)
    return application(f"data_prep.{source}", sources[source].Options, script_args, job)
