"""The job that a component describes: its command line, checked, as torchrun workers."""

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import torchx.specs as specs
from torchx.components.dist import ddp, parse_nnodes
from torchx.specs.builders import parse_mounts

from dlrm_mtl import cli
from dlrm_mtl.config import require_positive
from dlrm_mtl.launching.environment import CPU_MEMORY, CPU_THREADS, parse_variables
from dlrm_mtl.launching.errors import RefusedLaunchError
from dlrm_mtl.launching.job import Job
from dlrm_mtl.launching.rendezvous import rendezvous_port
from dlrm_mtl.launching.role import JobRole
from dlrm_mtl.launching.sizes import node_size
from dlrm_mtl.quoting import MAX_LENGTH, quote, shorten
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import ArmsConfig, RunConfig, SeedsConfig, TrainConfig, TrainingConfig
from dlrm_mtl.schema import Schema, read_schema
from dlrm_mtl.task_weights import share_weights


def application(
    module: str, options: type, script_args: Sequence[str], job: Job, first: Sequence[str] = ()
) -> specs.AppDef:
    """A job of torchrun workers that run a module.

    Args:
        options: the class that the module parses ``script_args`` to. The arguments are checked before anything is
            launched: options, whether the ranks divide the batch, arms, and weights of tasks.
        first: arguments before ``script_args``.

    Raises:
        RefusedLaunchError: mounts, variables, ``j``, ``h``, an option, an arm or a task weight that is wrong;
            resources that are too small.
        SystemExit: as :func:`dlrm_mtl.cli.parse`.
    """
    try:
        _, nodes, processes, _ = parse_nnodes(job.j)
        config: object = cli.parse(options, module, script_args)
        if isinstance(config, TrainingConfig):
            config.local_batch_size(nodes * processes)
            schema = _schema_of(config)
            _check_arms(config, schema)
            if schema is not None and isinstance(config, SeedsConfig):
                share_weights(config.task_weights, schema.task_names)
        mounts = _checked_mounts(job.mounts or [])
        variables = parse_variables(job.env)
        require_positive(job, "join_timeout", "save_time")
        size = node_size(job, processes, config)
    except ValueError as error:
        raise RefusedLaunchError(str(error)) from None
    app = ddp(
        *first,
        *script_args,
        m=module,
        name=f"{module.replace('.', '-').replace('_', '-')}/",
        j=job.j,
        env={**CPU_THREADS, **CPU_MEMORY, **variables},
        image=job.image,
        mounts=mounts,
        max_retries=job.max_retries,
        rdzv_port=job.rdzv_port or rendezvous_port((module, *first, *script_args)),
    )
    [role] = app.roles
    shell, command = role.args
    role.args = [shell, f"{_launcher(job)}{command.removeprefix('torchrun')}"]
    app.roles = [JobRole(**{**vars(role), "resource": size}, job=job)]
    return app


def check_choice(parameter: str, value: str, choices: Collection[str]) -> None:
    """Raises a RefusedLaunchError for a value of a component's parameter that is none of its choices."""
    if value not in choices:
        raise RefusedLaunchError(f"{parameter} is {quote(value)}, expected one of {', '.join(choices)}")


def _schema_of(config: TrainingConfig) -> Schema | None:
    """The schema of the data set; None where it is not on this machine, or there are several."""
    data = config.data if isinstance(config, RunConfig) else None
    # The machine that launches a job may have no access to a store.
    return read_schema(data) if isinstance(data, Path) and (data / "schema.json").is_file() else None


def _check_arms(config: TrainingConfig, schema: Schema | None) -> None:
    """Raises a ValueError for an arm that cannot be built for the data set or, where the data set is not on this
    machine, for any. An arm whose module is not on this machine is left to the job, and named."""
    if not isinstance(config, TrainConfig | ArmsConfig):
        return
    # torch takes seconds to import, which --help and a wrong option need not wait for.
    from dlrm_mtl.arms import MissingModuleError, check_arm, check_arm_without_data, check_level

    arms = [config.arm] if isinstance(config, TrainConfig) else config.arms
    for arm in map(parse_recipe, arms):
        check_level(arm, config.model.interaction != "dot")
        try:
            if schema is None:
                check_arm_without_data(arm)
            else:
                check_arm(arm, schema.task_names)
        except MissingModuleError as error:
            print(f"{error}; the job checks arm {quote(arm.text)} when it starts", file=sys.stderr)


def _launcher(job: Job) -> str:
    """The command that takes torchrun's place, with the options that ddp has no parameters for."""
    # read_timeout is also how long a node tries to reach the first one.
    rendezvous = f"join_timeout={job.join_timeout},read_timeout={job.join_timeout}"
    limits = f"--max_restarts {job.restarts} --rdzv_conf {rendezvous} --shutdown_timeout {job.save_time}"
    return f"python -m dlrm_mtl.torchrun {limits}"


def _checked_mounts(mounts: Sequence[str]) -> list[str]:
    try:
        parse_mounts(list(mounts))
    except (KeyError, ValueError) as error:
        text = ",".join(mounts)
        raise ValueError(
            f"mounts is {quote(text, MAX_LENGTH)}, expected type=volume,src=CLAIM,dst=PATH: {shorten(str(error))}"
        ) from None
    return list(mounts)
