"""Results of ``data_prep.bench``: from the turns of its contestants to ratios, and to a text table."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from dlrm_mtl.columns import align

BASES = ("read_inferred", "read_typed", "torchrec")
"""Contestants that every other one is compared with."""

TITLES = {
    "read_inferred": "pyarrow, read only, types inferred",
    "read_typed": "pyarrow, read only, types given",
    "torchrec": "torchrec tsv_to_npys",
    "pandas": "pandas, modulo",
    "hash": "this project, hash",
    "vocabulary": "this project, vocabulary",
    "hash_2_workers": "this project, hash, 2 workers",
    "vocabulary_2_workers": "this project, vocabulary, 2 workers",
}

NOTES = """\
Rates and memory are medians over rounds; ratios are taken within each round: median (least .. most).
One worker is held to one CPU. Seconds of this project's contestants include start-up and imports, those of the others
do not. Peak memory is that of the largest process, with all it imports, for the number of rows in the table; torchrec's
grows with them. The first two only read, once. This project reads the log once to count its rows, of which the last
tenth evaluates, and once to encode, or to learn a vocabulary; then it encodes what it has parsed and kept."""


def summarize(
    contestants: Mapping[str, tuple[int, int]], turns: Mapping[str, Sequence[Mapping[str, float]]]
) -> dict[str, Any]:
    """Rates, peak memory and ratios of each contestant.

    Args:
        contestants: rows and workers of each.
        turns: ``seconds`` and ``peak_rss_mib`` of each, round by round.
    """
    rates = {name: [rows / turn["seconds"] for turn in turns[name]] for name, (rows, _) in contestants.items()}
    results: dict[str, Any] = {}
    for name, (rows, workers) in contestants.items():
        bases = {*BASES, name.removesuffix("_2_workers")} - {name}
        results[name] = {
            "rows": rows,
            "workers": workers,
            "rows_per_second": spread(rates[name]),
            "rows_per_second_per_worker": spread([rate / workers for rate in rates[name]]),
            "peak_rss_mib": spread([turn["peak_rss_mib"] for turn in turns[name]]),
            "over": {
                base: spread([mine / theirs for mine, theirs in zip(rates[name], rates[base], strict=True)])
                for base in sorted(bases)
            },
        }
    return results


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Values over rounds."""
    return {"median": median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def format_results(results: Mapping[str, Any]) -> str:
    """The table, the notes that it needs, and the machine."""
    contestants, environment = results["contestants"], results["environment"]
    table = [["", "rows", "rows/s", "per worker", "peak MiB", *(f"/ {base}" for base in BASES)]]
    for name, title in TITLES.items():
        if name in contestants:
            table.append([title, *cells(contestants[name])])
        else:
            table.append([f"{title}: {name} is not installed", *[""] * (len(table[0]) - 1)])
    lines = [line.rstrip() for line in align(table).splitlines()]
    speed_ups = [f"{ids} {ratio(contestants[f'{ids}_2_workers']['over'][ids])}" for ids in ("hash", "vocabulary")]
    lines.append(f"\n2 workers over 1: {', '.join(speed_ups)}")
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    lines += ["", NOTES, ""]
    lines.append(f"{environment['time']}, python {environment['python']}, {versions}")
    lines.append(f"{environment['cpus']} CPUs, {environment['processor']}; {' '.join(environment['command'])}")
    return "\n".join(lines)


def cells(contestant: Mapping[str, Any]) -> list[str]:
    """A row of the table after its title."""
    numbers = [
        contestant["rows"],
        contestant["rows_per_second"]["median"],
        contestant["rows_per_second_per_worker"]["median"],
        contestant["peak_rss_mib"]["median"],
    ]
    over = contestant["over"]
    return [*(f"{number:,.0f}" for number in numbers), *(ratio(over[base]) if base in over else "" for base in BASES)]


def ratio(values: Mapping[str, Any]) -> str:
    return f"{values['median']:.2f} ({values['min']:.2f} .. {values['max']:.2f})"
