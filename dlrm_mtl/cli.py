"""Parses a command line and an option file to a configuration; shows a user's error as one line with exit code 2."""

import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from dlrm_mtl.ending import FAILED, INTERRUPTED, TERMINATED, Terminated, complain, describe, end_process, exit_code
from dlrm_mtl.extras import check_installed
from dlrm_mtl.location import RemotePath, parse_location, parse_path
from dlrm_mtl.option_file import as_arguments, read_options
from dlrm_mtl.srun import become_rank

Config = TypeVar("Config")

GRACE_S = 3.0
"""Seconds that every rank but the first waits before it reports an error."""


def parse(
    kind: type[Config],
    program: str,
    arguments: Sequence[str] | None = None,
    presets: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Config:
    """Parses a configuration from ``--config FILE`` (TOML or JSON), then the command line, which wins.

    Both go through one parser: a file's entry ``model.interaction = "dcn"`` is read as ``--model.interaction dcn``.
    A URI is a value of the options of type :data:`Location` alone.

    Args:
        presets: what ``--preset NAME`` stands for, in the form of a file, over which file and command line win.

    Raises:
        ValueError: the file cannot be read, has an unknown option or one of another type, or a value is out of range.
        SystemExit: the parser's own message for unknown options and wrong types, with exit code 2.
    """
    import tyro

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    from_file: list[str] = []
    file, arguments = _take_config(arguments)
    if file is not None:
        from_file = as_arguments(read_options(file, kind))
    explicit = _drop_overridden(from_file, arguments) + arguments
    preset = as_arguments(presets.get(_value("--preset", explicit), {}))
    note = "--config FILE reads options from a TOML or JSON file; options given here win."
    first = is_first_rank()
    # Even without console outputs, the parser shows the values that a configuration refuses.
    with nullcontext() if first else redirect_stderr(io.StringIO()):
        return tyro.cli(
            kind,
            args=_drop_overridden(preset, explicit) + explicit,
            prog=command_name(program),
            description=f"{_summary(kind)}\n\n{note}",
            config=(tyro.conf.FlagConversionOff,),
            console_outputs=first,
            registry=_paths_and_uris(),
        )


def _paths_and_uris() -> Any:
    """The parser's rules for options of types Path and :data:`Location`, a union of which the first that fits holds."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type not in (Path, RemotePath):
            return None
        parse, kind = (parse_path, Path) if info.type is Path else (parse_location, RemotePath)
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="PATH" if kind is Path else "URI",
            instance_from_str=lambda words: parse(words[0]),
            is_instance=lambda value: isinstance(value, kind),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def command_name(program: str) -> str:
    """What was typed to run ``python -m PROGRAM``: that, or a subcommand of ``dlrm-mtl``.

    Args:
        program: a module, and arguments that belong to the name.
    """
    module, *words = program.split()
    typed = sys.argv[0] if sys.argv[0].startswith("dlrm-mtl ") else f"python -m {module}"
    return " ".join([typed, *words])


def _summary(kind: type) -> str:
    """A configuration's docstring; nothing where Python drops docstrings (-OO): a dataclass then has its signature."""
    return "" if sys.flags.optimize > 1 else (kind.__doc__ or "").strip()


def as_dict(config: Any) -> dict[str, Any]:
    """The complete configuration in the form that ``--config`` reads."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return values


def run(program: str, main: Callable[[], None], kind: str | None = None) -> None:
    """Runs an entry point. A user's error (ValueError) or one of the file system (OSError) is shown as one line without
    a traceback, with exit code 2, or 1 if it is one of the network; an interrupt likewise with 130, preemption with
    143; any other error by its traceback, with 1. The process ends even if some of its threads still wait.

    This is for jobs of one process, and until the processes of a job have joined their group; from then on they end
    together (see :class:`dlrm_mtl.distributed.watch.Watch`). Every rank finds an error in an option. The first one
    reports it; the others give the launcher time to end them, and report only if they still run: then the error is
    theirs alone.

    Args:
        kind: of the entry point, where it needs an extra: see :mod:`dlrm_mtl.extras`.
    """
    code: int = 0
    message = ""
    try:
        become_rank()
        if kind is not None:
            check_installed(kind)
        main()
        sys.stdout.flush()
    except Terminated as stop:
        code, message = TERMINATED, f"{program}: {stop}"
    except SystemExit as stop:
        code, message = (FAILED, stop.code) if isinstance(stop.code, str) else (stop.code or 0, "")
    except BaseException as error:
        code, message = exit_code(error), describe(error)
        if "\n" not in message:
            message = f"{program}: {message}"
    if code == 0:
        return
    if not is_first_rank():
        if code in (INTERRUPTED, TERMINATED):
            message = ""  # all ranks are
        else:
            _wait_for_first_rank(code)
            message = message and f"{message} (rank {os.environ['RANK']})"
    if message:
        complain(message)
    end_process(code)


def _wait_for_first_rank(code: int) -> None:
    """Waits on all ranks but the first. They end with their code even if a launcher ends them meanwhile: srun takes the
    highest of all."""
    signal.signal(signal.SIGTERM, lambda number, frame: end_process(code))
    time.sleep(GRACE_S)


def is_first_rank() -> bool:
    """Whether this process is the one of its job that prints, by the launcher's environment."""
    return os.environ.get("RANK", "0") == "0"


def _take_config(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The file of ``--config FILE`` or ``--config=FILE``, and the other arguments."""
    for position, argument in enumerate(arguments):
        name, equals, file = argument.partition("=")
        if name == "--config":
            end = position + (1 if equals else 2)
            file = file or "".join(arguments[position + 1 : end])
            if not file:
                raise ValueError("--config needs a file")
            return parse_path(file), arguments[:position] + arguments[end:]
    return None, arguments


def _value(option: str, arguments: Sequence[str]) -> str:
    """The last value of an option, empty if it is not given."""
    value = ""
    for position, argument in enumerate(arguments):
        name, equals, rest = argument.partition("=")
        if name == option:
            value = rest if equals else "".join(arguments[position + 1 : position + 2])
    return value


def _drop_overridden(from_file: list[str], arguments: list[str]) -> list[str]:
    """The file's options without those that the command line also gives."""
    overriding = {argument.split("=")[0].replace("_", "-") for argument in arguments if argument.startswith("--")}
    remaining: list[str] = []
    keep = True
    for item in from_file:
        if item.startswith("--"):
            keep = item not in overriding
        if keep:
            remaining.append(item)
    return remaining
