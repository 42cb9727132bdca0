"""The TorchX components: ``torchx run -s local_cwd dlrm_mtl.compare -j 1x2 -- --data DIR --out RUN --arms mean mgda``.

In a clone, ``components/compare.py:compare`` names the same component. TorchX imports this module whenever it lists the
components of all packages, so what takes long to import is imported when a component is called.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torchx.specs as specs

from dlrm_mtl.export_options import ExportOptions
from dlrm_mtl.inference.evaluation.options import EvaluateOptions
from dlrm_mtl.inference.predictions.options import PredictOptions
from dlrm_mtl.launching.application import application, check_choice
from dlrm_mtl.launching.job import Job
from dlrm_mtl.run_config import CompareConfig, ExperimentConfig, StreamConfig, TrainConfig

Component = TypeVar("Component", bound=Callable[..., specs.AppDef])

_JOB_PARAMETERS = """
    j: {nodes}x{processes per node}; on GPUs, one process per GPU; {least nodes}:{nodes}x{processes per node} goes on
        with fewer nodes when some are lost, not on Slurm, whose jobs keep their nodes
    env: further environment of the processes, A=1,B=2; values may hold commas and =
    image: container image, for kubernetes and slurm: on slurm a FILE.sif is run by Apptainer, others by pyxis
    mounts: what the container mounts, repeated for more: for kubernetes type=volume,src=CLAIM,dst=PATH for a persistent
        volume claim, for slurm type=bind,src=DIR,dst=DIR
    overlay: file of what else the request says: for kubernetes YAML that is merged over the manifest, for slurm #SBATCH
        lines
    cpu: CPUs per node; 0: one per process, with GPUs two, and one for each of its reader processes
    gpu: GPUs per node, at least one per process
    memMB: memory per node, in MB, with what is in /dev/shm; 0: 2048 per process, with GPUs 12288, and 2048 for each of
        its reader processes
    h: a named resource, instead of cpu, gpu and memMB
    max_retries: how often the scheduler submits a failed job again; it goes on from what the first try has finished
    rdzv_port: port of the rendezvous on the first node; 0: one of 20000 to 29999 that follows from the job's directory
        and command line
    join_timeout: seconds in which all nodes must have started; so long a node also waits for one that is lost
    restarts: how often a node starts its processes again after one of them has died; they go on from the newest
        checkpoint
    save_time: seconds that processes have between SIGTERM and SIGKILL when the job is preempted or, on Slurm, near its
        time limit; after its first checkpoint the job says how many it needs"""


def _with_job(*left_out: str) -> Callable[[Component], Component]:
    """Adds the parameters of a :class:`Job`, except some, to a component's signature and docstring, from which TorchX
    makes its options and ``--help``."""

    def extend(component: Component) -> Component:
        signature = inspect.signature(component)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind != parameter.VAR_KEYWORD]
        of_job = [
            parameter.replace(kind=parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(Job).parameters.items()
            if name not in left_out
        ]
        component.__signature__ = signature.replace(parameters=[*own, *of_job])  # type: ignore[attr-defined]
        component.__doc__ = f"{inspect.getdoc(component)}{_JOB_PARAMETERS}"
        return component

    return extend


@_with_job()
def train(*script_args: str, **job: Any) -> specs.AppDef:
    """Trains one arm.

    Args:
        script_args: options of dlrm_mtl.train, after ``--``; ``python -m dlrm_mtl.train --help`` lists them
    """
    return application("dlrm_mtl.train", TrainConfig, script_args, Job(**job))


@_with_job()
def compare(*script_args: str, **job: Any) -> specs.AppDef:
    """Trains a control and treatments side by side and reports NE gains and QPS.

    Args:
        script_args: options of dlrm_mtl.compare, after ``--``; ``python -m dlrm_mtl.compare --help`` lists them
    """
    return application("dlrm_mtl.compare", CompareConfig, script_args, Job(**job))


@_with_job()
def stream(*script_args: str, **job: Any) -> specs.AppDef:
    """Evaluates and trains a control and treatments day by day.

    Args:
        script_args: options of dlrm_mtl.stream, after ``--``; ``python -m dlrm_mtl.stream --help`` lists them
    """
    return application("dlrm_mtl.stream", StreamConfig, script_args, Job(**job))


@_with_job()
def predict(*script_args: str, **job: Any) -> specs.AppDef:
    """Writes the predictions for every row of a split.

    Args:
        script_args: options of dlrm_mtl.predict, after ``--``; ``python -m dlrm_mtl.predict --help`` lists them
    """
    return application("dlrm_mtl.predict", PredictOptions, script_args, Job(**job))


@_with_job()
def experiments(*script_args: str, study: str = "all", **job: Any) -> specs.AppDef:
    """Produces the paper's tables and figure for a data set.

    Args:
        script_args: options of dlrm_mtl.experiments, after ``--``; ``python -m dlrm_mtl.experiments all --help`` lists
            them
        study: table2, table3, table4, figure2, transfer, search, all, architectures or front
    """
    from dlrm_mtl.studies.architectures.case import ArchitecturesConfig
    from dlrm_mtl.studies.catalog import ARCHITECTURES, FRONT, STUDIES
    from dlrm_mtl.studies.front.case import FrontConfig

    options = {
        **dict.fromkeys((*STUDIES, "all"), ExperimentConfig),
        ARCHITECTURES: ArchitecturesConfig,
        FRONT: FrontConfig,
    }
    check_choice("study", study, options)
    return application("dlrm_mtl.experiments", options[study], script_args, Job(**job), first=(study,))


@_with_job()
def evaluate(*script_args: str, **job: Any) -> specs.AppDef:
    """Evaluates trained models on a data set.

    Args:
        script_args: options of dlrm_mtl.evaluate, after ``--``; ``python -m dlrm_mtl.evaluate --help`` lists them
    """
    return application("dlrm_mtl.evaluate", EvaluateOptions, script_args, Job(**job))


@_with_job("j", "gpu", "join_timeout", "restarts")
def export(*script_args: str, j: str = "1x1", **job: Any) -> specs.AppDef:
    """Exports a trained model, in one process.

    Args:
        script_args: options of dlrm_mtl.export, after ``--``; ``python -m dlrm_mtl.export --help`` lists them
    """
    return application("dlrm_mtl.export", ExportOptions, script_args, Job(j=j, restarts=0, **job))


@_with_job("gpu", "restarts")
def prepare(*script_args: str, source: str = "criteo", **job: Any) -> specs.AppDef:
    """Prepares a data set from raw logs. The processes divide the work; all nodes must see the same directories.

    Args:
        script_args: options of data_prep.SOURCE, after ``--``; ``python -m data_prep.criteo --help`` lists them
        source: criteo, census_income, ali_ccp or parquet
    """
    from data_prep import ali_ccp, census_income, criteo, parquet

    # The sources whose preparation several processes can share.
    sources = {"criteo": criteo, "census_income": census_income, "ali_ccp": ali_ccp, "parquet": parquet}
    check_choice("source", source, sources)
    return application(f"data_prep.{source}", sources[source].Options, script_args, Job(**job, restarts=0))
