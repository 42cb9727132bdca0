"""The table of the search of the control's defaults in docs/control.md."""

from collections.abc import Callable, Mapping
from typing import Any

from dlrm_mtl.files import read_json
from dlrm_mtl.studies.catalog import RECOMMENDED
from tests.benchmark_tables import RESULTS
from tests.table_cells import DATA_SETS, interval, table

SEARCHED = ("kuairand-feeds", "kuairand-ads", "synthetic-conflict-0.5")
START = "center"
"""The variant from which the others differ."""


def control_tables() -> dict[str, Callable[[], str]]:
    return {"control-search": control_search}


def control_search() -> str:
    """NE of ``mean`` and the recommended recipe's gain under each variant of the options."""
    searches = {name: read_json(RESULTS / "control-search" / f"{name}.json")["variants"] for name in SEARCHED}
    start = searches[SEARCHED[0]][START]["options"]
    names = sorted(
        {name for variants in searches.values() for name in variants},
        key=lambda name: (name != START, *(_ne(v[name]) if name in v else 9.0 for v in searches.values())),
    )
    rows = []
    for name in names:
        options = next(variants[name]["options"] for variants in searches.values() if name in variants)
        cells = [_difference(options, start)]
        for variants in searches.values():
            variant = variants.get(name)
            gain = interval(variant["arms"][RECOMMENDED]["average_ne_gain_percent"]) if variant else ""
            cells += [f"{_ne(variant):.4f}" if variant else "", gain]
        rows.append(cells)
    heads = [f"{DATA_SETS[name]}: {what}" for name in SEARCHED for what in ("NE of `mean`", "gain")]
    return table(["options", *heads], rows)


def _ne(variant: Mapping[str, Any]) -> float:
    ne = [task["ne"] for task in variant["arms"]["mean"]["tasks"].values()]
    return float(sum(ne) / len(ne))


def _difference(options: Mapping[str, Any], start: Mapping[str, Any]) -> str:
    changed = {name: value for name, value in options.items() if value != start[name]}
    return ", ".join(f"`{name}` {_shown(value)}" for name, value in changed.items()) or "the start"


def _shown(value: object) -> str:
    return ("-".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
