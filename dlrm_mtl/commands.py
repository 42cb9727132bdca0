"""The console command: ``dlrm-mtl compare ...`` is ``python -m dlrm_mtl.compare ...``."""

import sys
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple

from dlrm_mtl import cli
from dlrm_mtl.ending import REFUSED, complain
from dlrm_mtl.extras import PREPARE, REPORT, TRAINING, end_unless_installed
from dlrm_mtl.quoting import quote


class Command(NamedTuple):
    """A subcommand.

    Args:
        module: with the function ``main``.
        kind: of the module, which decides what it needs; see :mod:`dlrm_mtl.extras`.
        summary: a line for the list of commands.
    """

    module: str
    kind: str
    summary: str


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "prepare criteo": Command("data_prep.criteo", PREPARE, "Criteo's public logs as a data set"),
        "prepare parquet": Command("data_prep.parquet", PREPARE, "your own parquet or CSV table as a data set"),
        "prepare kuairand": Command("data_prep.kuairand", PREPARE, "KuaiRand as a data set"),
        "prepare census_income": Command("data_prep.census_income", PREPARE, "Census-Income as a data set"),
        "prepare ali_ccp": Command("data_prep.ali_ccp", PREPARE, "Ali-CCP as a data set"),
        "prepare synthetic": Command("data_prep.synthetic", PREPARE, "a generated data set"),
        "prepare schema": Command("data_prep.schema", PREPARE, "schema.json of parquet files that are encoded already"),
        "join": Command("data_prep.join", PREPARE, "the data sets of several days as one, to train on all anew"),
        "describe": Command("data_prep.describe", PREPARE, "what is in a data set, and whether it drifts"),
        "compare": Command("dlrm_mtl.compare", TRAINING, "train a control and treatments side by side, and report"),
        "stream": Command("dlrm_mtl.stream", TRAINING, "evaluate and train arms day by day, with new ids and tasks"),
        "train": Command("dlrm_mtl.train", TRAINING, "train one arm"),
        "export": Command("dlrm_mtl.export", TRAINING, "a trained model as a file that PyTorch runs by itself"),
        "apply": Command("dlrm_mtl.apply", PREPARE, "published changes of an export: the full export of a later day"),
        "experiments": Command("dlrm_mtl.experiments", TRAINING, "the paper's tables and figure for your data"),
        "evaluate": Command("dlrm_mtl.evaluate", TRAINING, "the metrics of trained models on a data set"),
        "predict": Command("dlrm_mtl.predict", TRAINING, "a trained model's predictions for every row, as parquet"),
        "report": Command("dlrm_mtl.report", REPORT, "the report of a comparison, or of several joined"),
        "power": Command("dlrm_mtl.power", REPORT, "how many seeds and evaluation rows an effect needs"),
        "plan": Command("dlrm_mtl.plan", TRAINING, "whether a model fits a hypothetical cluster"),
        "bench": Command("dlrm_mtl.bench", TRAINING, "measure a claim about speed on this machine"),
    }
)


def main() -> None:
    """Runs the subcommand that the command line names; exit codes are those of :func:`dlrm_mtl.cli.run`."""
    arguments = sys.argv[1:]
    words = 2 if arguments[:1] == ["prepare"] else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name not in COMMANDS and (not name or arguments[words - 1 :][:1] in ([], ["-h"], ["--help"])):
        print(_help(arguments[: words - 1]))
        return
    if name not in COMMANDS:
        complain(f"dlrm-mtl: command {quote(name)}, expected one of {', '.join(COMMANDS)}")
        raise SystemExit(REFUSED)
    program = name.split()[-1]
    end_unless_installed(program, COMMANDS[name].kind)
    sys.argv = [f"dlrm-mtl {name}", *rest]
    cli.run(program, import_module(COMMANDS[name].module).main)


def _help(words: list[str]) -> str:
    """The list of commands, or of those that begin with a word."""
    listed = {name: command for name, command in COMMANDS.items() if name.split()[: len(words)] == words}
    width = max(map(len, listed))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in listed.items()]
    command = "prepare SOURCE" if words else "COMMAND"
    return "\n".join(
        [f"usage: dlrm-mtl {command} [OPTIONS]", "", *lines, "", f"dlrm-mtl {command} --help lists the options."]
    )
