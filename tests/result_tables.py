"""Tables in the documents made from committed results. ``python -m tests.result_tables`` makes them again, with the
tables of benchmarks beside their results.

A document marks the place by ``<!-- table: NAME -->`` and ``<!-- end of table -->``.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dlrm_mtl.files import read_json, write_text
from dlrm_mtl.reporting.runs.report_data import read_run
from dlrm_mtl.reporting.words.arm import CLAIMS, claim_of
from dlrm_mtl.statistics.families import MARGIN
from dlrm_mtl.studies.catalog import ARCHITECTURES, PAPER, RECOMMENDED, STUDIES
from dlrm_mtl.studies.scale import measure_scale
from dlrm_mtl.studies.scale_case import ScaleCase
from dlrm_mtl.studies.scale_table import format_scale
from dlrm_mtl.studies.search import Search, read_search
from tests.architecture_tables import architecture_tables, read_architectures
from tests.benchmark_tables import PERFORMANCE, RESULTS, benchmark_tables, format_benchmark
from tests.control_tables import control_tables
from tests.front_tables import FIGURE, figure, front_tables
from tests.pages import ROOT
from tests.statistics.table import format_findings
from tests.stream_tables import stream_tables
from tests.table_cells import DATA_SETS, average_and_worst, gains_of, judged, table
from tests.tabular_tables import tabular_tables
from tests.tree_tables import tree_tables

MARKED = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end of table -->)", flags=re.DOTALL)

COST_RUNS = {
    "methods-m3-1-rank": "M = 3, 1 rank",
    "methods-m3-2-ranks": "M = 3, 2 ranks",
    "methods-m8-1-rank": "M = 8, 1 rank",
    "methods-m8-2-ranks": "M = 8, 2 ranks",
}
COUNTED = {
    **{f"experiments, {study}": f"experiments/*/{study}" for study in STUDIES},
    f"experiments, {ARCHITECTURES}": f"experiments/*/{ARCHITECTURES}/*",
    "validation days": "validation/*",
    "modes of reduction": "modes-*",
}
"""Folders of comparisons with several seeds, by their names in the table."""
COUNTS = (
    *("intervals", "also for other rows", "exclude 0", "within 0.05", "neither"),
    *("gain", "loss", "equivalent", "inconclusive"),
)


def tables() -> dict[str, Callable[[], str]]:
    """Every table, by its name in the documents' marks."""
    return {
        "experiments": experiments,
        "simulations": simulations,
        "costs": costs,
        "feeds": feeds,
        "verdict-counts": verdict_counts,
        "methods": lambda: _sections("table3"),
        "transfer": transfer,
        "search": search,
        "step-sizes": lambda: _sections("table4"),
        "levels": levels,
        "options": lambda: _by_data(feeds="validation/feeds", ads="validation/ads"),
        "fade": lambda: _by_data(
            feeds="validation/fade-feeds", ads="validation/fade-ads", **{"Census-Income": "validation/fade-census"}
        ),
        "fade-test": fade_test,
        "play": play,
        "loss-reduction": loss_reduction,
        **architecture_tables(),
        **control_tables(),
        **front_tables(),
        **stream_tables(),
        **tabular_tables(),
        **tree_tables(),
        "modes": modes,
        **benchmark_tables(),
        "scale": lambda: format_scale(measure_scale(ScaleCase())),
    }


def simulations() -> str:
    findings = read_json(RESULTS / "statistics" / "simulations.json")["findings"]
    return f"{format_findings(findings)}\n"


def experiments() -> str:
    """Links to the committed experiments, from the folder of results."""
    rows = []
    for name, title in DATA_SETS.items():
        runs = {study: RESULTS / "experiments" / name / study for study in STUDIES}
        seeds = {study: len(_seeds(f"experiments/{name}/{study}")) for study, run in runs.items() if run.is_dir()}
        links = [f"[{seeds[s]} seeds](experiments/{name}/{s}/report.md)" if s in seeds else "" for s in STUDIES]
        joined = dict(read_architectures()).get(name)
        control = joined and joined["comparison"]["arms"][joined["comparison"]["control"]]
        links.append(f"[{len(control['seeds'])} seeds](experiments/{name}/report.md)" if control else "")
        rows.append([title, *links])
    return table(["data", *STUDIES, ARCHITECTURES], rows)


def modes() -> str:
    """NE gain of the recommended recipe under each mode of reduction."""
    runs = {"2 ranks": _comparison("modes-2-ranks"), "4 ranks": _comparison("modes-4-ranks")}
    arms = [arm for arm in runs["2 ranks"]["arms"] if arm != "mean"]
    rows = [
        [f"`{arm}`", *(cell for run in runs.values() for cell in average_and_worst(run["arms"][arm]))] for arm in arms
    ]
    return table(["arm", *(head for name in runs for head in (f"{name}: average", "worst task"))], rows)


def costs() -> str:
    """QPS change of every method against the control, one column per run."""
    runs = [_comparison(run)["arms"] for run in COST_RUNS]
    rows = [[f"`{arm}`", *(_change(arms[arm]) for arms in runs)] for arm in runs[0] if arm != "mean"]
    return table(["arm", *COST_RUNS.values()], rows)


def transfer() -> str:
    """By task: NE of the control, and gains of single-task models and of balancing."""
    arms = ("single_task", PAPER, RECOMMENDED)
    rows = []
    for name, comparison in _experiments("transfer"):
        for task in comparison["tasks"]:
            records = [comparison["arms"][arm]["tasks"][task] for arm in ("mean", *arms)]
            gains = [judged(record["ne_gain_percent"]) for record in records[1:]]
            rows.append([DATA_SETS[name], task, f"{records[0]['ne']:.4f}", *gains])
    return table(["data", "task", "NE of `mean`", *(f"`{arm}`" for arm in arms)], rows)


def feeds() -> str:
    """Gains on KuaiRand's feeds by task, with each arm's claim."""
    comparison = _comparison("experiments/kuairand-feeds/transfer")
    arms = [name for name in (RECOMMENDED, PAPER, "single_task") if name in comparison["arms"]]
    records = [comparison["arms"][name] for name in arms]
    rows = [["average", *(judged(arm["average_ne_gain_percent"]) for arm in records)]]
    for task in comparison["tasks"]:
        rows.append([task, *(judged(arm["tasks"][task]["ne_gain_percent"]) for arm in records)])
    rows.append(["claim", *(CLAIMS[claim_of(arm)] for arm in records)])
    seeds = len(records[0]["seeds"])
    return (
        f"NE gain (%) over `mean`, {seeds} seeds; positive is better; 95 % intervals {comparison['intervals']}; where"
        f" no verdict stands, the data show neither a difference nor that there is none:\n\n"
        f"{table(['task', *(f'`{arm}`' for arm in arms)], rows)}"
    )


def verdict_counts() -> str:
    """Counts of the intervals of arms and tasks in all committed comparisons with several seeds."""
    counts = {title: _count_all(pattern) for title, pattern in COUNTED.items()}
    counts["together"] = sum(counts.values(), Counter[str]())
    rows = [[title, *(f"{found[column]:,}" for column in COUNTS)] for title, found in counts.items()]
    return table(["comparisons", *COUNTS], rows)


def _count_all(pattern: str) -> Counter[str]:
    files = sorted(RESULTS.glob(f"{pattern}/comparison.json"))
    return sum((_count(read_json(file)) for file in files), Counter[str]())


def _count(comparison: Mapping[str, Any]) -> Counter[str]:
    arms = [arm for name, arm in comparison["arms"].items() if name != comparison["control"] and len(arm["seeds"]) > 1]
    counts = Counter[str]()
    for gain in (task["ne_gain_percent"] for arm in arms for task in arm["tasks"].values()):
        if gain is not None:
            certain, small = not gain["low"] <= 0 <= gain["high"], -MARGIN <= gain["low"] <= gain["high"] <= MARGIN
            counts["intervals"] += 1
            counts["exclude 0"] += certain
            counts["within 0.05"] += small
            counts["neither"] += not (certain or small)
            counts[gain["verdict"]] += 1
            counts["also for other rows"] += gain["covers"] == "seeds and rows"
    return counts


def search() -> str:
    """Random static weights against the recommended recipe."""
    rows = []
    for name, _ in _experiments("search"):
        found = read_search(read_run(RESULTS / "experiments" / name / "search"))
        assert found is not None
        assert not found.corrected  # otherwise the page must say on which rows the best is judged
        best = found.best
        highest = max(found.trials, key=lambda arm: found.gains.mean(arm, None))

        def gains(arm: str, search: Search = found) -> str:
            worst = search.worst_task(arm)
            return f"{search.gains.mean(arm, None):+.3f}, {search.tasks[worst]} {search.gains.mean(arm, worst):+.3f}"

        rows.append(
            [
                DATA_SETS[name],
                gains(RECOMMENDED),
                f"{len(found.trials)}",
                f"{len(found.as_good)}",
                f"{len(found.worse)} of {len(found.below)}",
                "none" if best is None else gains(best.arm),
                gains(highest),
            ]
        )
    header = [
        "data",
        "recipe: average, worst task",
        "trials",
        "shown to be as good",
        "shown to be worse, of those with an interval below 0",
    ]
    return table([*header, "the best whose worst task gains no less", "the best of all"], rows)


def levels() -> str:
    """Balancing by gradients of parameters and of the representation: gain and cost."""
    rows = []
    for name, comparison in _experiments("table2"):
        for arm, record in comparison["arms"].items():
            if arm != "mean":
                rows.append([DATA_SETS[name], f"`{arm}`", *average_and_worst(record), _change(record)])
    return table(["data", "arm", "average NE gain (%)", "worst task", "QPS change (%)"], rows)


def loss_reduction() -> str:
    """The control's NE and the recipe's gain by ``--loss-reduction``."""
    rows = []
    for name, run in (("batch", "validation/ads"), ("defined", "validation/ads-defined")):
        arms = _comparison(run)["arms"]
        ne = [f"{task['ne']:.4f}" for task in arms["mean"]["tasks"].values()]
        rows.append([f"`{name}`", *ne, *average_and_worst(arms[RECOMMENDED])])
    return table(
        ["divided by", *(f"{t}: NE of `mean`" for t in ("ctr", "cvr", "conv_imp")), "gain", "worst task"], rows
    )


def fade_test() -> str:
    """The recommended recipe, `nash_mtl` and what brings it nearer to the mean, at the defaults."""
    runs = {title: f"fade/{name}" for name, title in DATA_SETS.items() if (RESULTS / "fade" / name).is_dir()}
    return _by_data(**runs)


def play() -> str:
    """Gains on KuaiRand's feeds with the watch time as a sixth task."""
    arms = _comparison("play")["arms"]
    control = arms.pop("mean")["tasks"]
    names = ", ".join(f"`{name}`" for name in control if control[name].get("kind") != "regression")
    rows = [["average", *(judged(record["average_ne_gain_percent"]) for record in arms.values())]]
    for task in control:
        rows.append([task, *(judged(gains_of(record)[task]) for record in arms.values())])
    return f"NE gain (%) over `mean` of {names}; NMSE gain of `play`:\n\n" + table(
        ["task", *(f"`{a}`" for a in arms)], rows
    )


def _by_data(**runs: str) -> str:
    """Arms of comparisons, by the data's name; not all arms of the first ran in the others."""
    records = [_comparison(run)["arms"] for run in runs.values()]
    rows = [
        [
            f"`{arm}`",
            *(cell for arms in records for cell in (average_and_worst(arms[arm]) if arm in arms else ("", ""))),
        ]
        for arm in records[0]
        if arm != "mean"
    ]
    return table(["arm", *(head for data in runs for head in (f"{data}: average", "worst task"))], rows)


def _sections(study: str) -> str:
    """Average NE gain and that of the worst task: arms by data sets."""
    comparisons = dict(_experiments(study))
    arms = next(iter(comparisons.values()))["arms"]
    rows = [
        [f"`{arm}`", *("<br>".join(average_and_worst(each["arms"][arm])) for each in comparisons.values())]
        for arm in arms
        if arm != "mean"
    ]
    return table(["arm", *(DATA_SETS[name] for name in comparisons)], rows)


def _change(arm: Mapping[str, Any]) -> str:
    change = arm["qps"]["change_percent"]
    if change["low"] is None:
        return f"{change['median']:+.1f}, no interval"
    return f"{change['median']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]"


def _experiments(study: str) -> Iterator[tuple[str, Any]]:
    """The data sets of a study, and its comparisons."""
    for name in DATA_SETS:
        if (RESULTS / "experiments" / name / study).is_dir():
            yield name, _comparison(f"experiments/{name}/{study}")


def _seeds(run: str) -> list[int]:
    seeds: list[int] = _comparison(run)["arms"]["mean"]["seeds"]
    return seeds


def _comparison(run: str) -> Any:
    return read_json(RESULTS / run / "comparison.json")


def main() -> None:
    for file in sorted(PERFORMANCE.glob("*.json")):
        _write(file.with_suffix(".md"), format_benchmark(file))
    _write(FIGURE, figure())
    known = tables()
    for document in sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")]):
        _write(document, MARKED.sub(lambda found: f"{found[1]}{known[found[2]]()}{found[4]}", document.read_text()))


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        write_text(path, text)
        print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
