"""Pages of HTML: self-contained, without network access, scripts or other files."""

import re
import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dlrm_mtl.reporting.figures.svg import COLOR_RULES
from dlrm_mtl.reporting.runs.report_data import Record
from dlrm_mtl.reporting.tables.table import ends_cell


def render_page(template: str, **values: Any) -> str:
    """A page from a template in this folder, which escapes everything but figures, since users name arms and tasks."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup
    environment.filters["command"] = _command
    environment.filters["whole"] = _keep_intervals_whole
    environment.filters["breakable"] = _breakable
    environment.filters["gain_class"] = _gain_class
    environment.filters["ends"] = ends_cell
    return environment.get_template(template).render(colors=Markup(COLOR_RULES), **values)


def _command(environment: Record) -> str:
    """The command line that started a run."""
    program, *arguments = environment["command"]
    module = f"python -m dlrm_mtl.{Path(program).stem}"
    return f"{module} {shlex.join(arguments)}"


def _keep_intervals_whole(sentence: str) -> str:
    """Prevents line breaks within an interval and before a percent sign."""
    return re.sub(r"(?<=\d) %| (?=\[[+-])|(?<=\d,) (?=[+-]\d)", lambda match: match[0].replace(" ", "\xa0"), sentence)


def _breakable(text: str) -> Markup:
    """Allows a line break after punctuation within a name."""
    return Markup("<wbr>").join(re.split(r"(?<=[:=/])(?=\w)|(?<=,)(?=[^\W\d])|(?<=\+)(?=[a-z])", text))


def _gain_class(gain: Record | None) -> str:
    if gain is None:
        return "worse"
    return {"gain": "better", "loss": "worse"}.get(gain["verdict"], "")
