"""Overlays on Slurm: a user's own ``#SBATCH`` lines."""

import re
import shlex
from pathlib import Path

from dlrm_mtl.quoting import quote

OPTION = re.compile(r"--(?P<long>[a-z][a-z-]+)(?:=(?P<value>.*))?|-(?P<short>[A-Za-z])(?P<rest>.*)")

SHORT = {
    "A": "account", "C": "constraint", "L": "licenses", "p": "partition", "q": "qos", "t": "time", "w": "nodelist",
    "x": "exclude",
}  # fmt: skip
"""Long options of sbatch by their letters."""

SET_OTHERWISE = {
    **dict.fromkeys(("N", "nodes", "n", "ntasks", "ntasks-per-node"), "-j"),
    **dict.fromkeys(("c", "cpus-per-task"), "--cpu"),
    **dict.fromkeys(("mem-per-cpu", "mem-per-gpu"), "--memMB"),
    **dict.fromkeys(("G", "gpus", "gpus-per-task"), "--gpu"),
    **dict.fromkeys(("export", "export-file"), "--env"),
    **dict.fromkeys(("J", "job-name", "o", "output", "e", "error"), "TorchX"),
}
"""Options that an overlay may not set, and what sets them."""

Options = dict[str, str | None]
"""Options of sbatch by their long names; None for those without a value."""


def read_overlay(path: str) -> Options:
    """The options of a file of ``#SBATCH`` lines; other comments and empty lines may stand beside them.

    Raises:
        ValueError: the file cannot be read, a line is no comment, or an option is not understood or set otherwise.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}, expected a file of #SBATCH lines") from None
    options: Options = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            raise ValueError(f"{path}, line {number} is {quote(line)}, expected #SBATCH --OPTION=VALUE")
        if line.startswith("#SBATCH"):
            try:
                options.update(_options(line.removeprefix("#SBATCH")))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    return options


def overlaid(options: Options, overlay: Options) -> Options:
    """The options with those of an overlay; a type of GPU, ``--gres=gpu:h100:8`` or such, replaces their number."""
    result = {**options, **overlay}
    if "gpu" in (overlay.get("gres") or ""):
        result.pop("gpus-per-node", None)
    return result


def _options(text: str) -> Options:
    options: Options = {}
    words = shlex.split(text, comments=True)
    while words:
        match = OPTION.fullmatch(words.pop(0))
        if match is None:
            raise ValueError(f"{quote(text.strip())}, expected --OPTION=VALUE")
        name, value = match["long"] or match["short"], match["value"] or match["rest"] or None
        if value is None and words and not words[0].startswith("-"):
            value = words.pop(0)
        if name in SET_OTHERWISE:
            raise ValueError(f"{name} is set by {SET_OTHERWISE[name]}, not by an overlay")
        if match["short"] and name not in SHORT:
            raise ValueError(f"-{name}: expected the long name of the option")
        options[SHORT.get(name, name)] = value and shlex.quote(value)
    return options
