"""Tables in the documents that are made from committed results; ``python -m tests.result_tables`` makes them anew.

A document marks the place by ``<!-- table: NAME -->`` and ``<!-- end of table -->``.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlrm_mtl.benchmarks.growth import format_growth
from dlrm_mtl.benchmarks.markdown import cell, markdown_table
from dlrm_mtl.benchmarks.methods import format_methods
from dlrm_mtl.benchmarks.peers import format_peers
from dlrm_mtl.benchmarks.profile import format_profile
from dlrm_mtl.benchmarks.watch import format_watch
from dlrm_mtl.files import read_json, write_text
from dlrm_mtl.studies.catalog import PAPER, RECOMMENDED, STUDIES
from dlrm_mtl.studies.scale import measure_scale
from dlrm_mtl.studies.scale_case import ScaleCase
from dlrm_mtl.studies.scale_table import format_scale
from dlrm_mtl.studies.search import read_search

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
MARKED = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end of table -->)", flags=re.DOTALL)

PERFORMANCE = RESULTS / "performance"
LAYER_SIZES = ((1024, 128), (4096, 512), (4096, 2048))
BALANCING_RUNS = {
    "3 tasks, 1 rank": "modes",
    "8 tasks, 1 rank": "modes-8-tasks",
    "3 tasks, 2 ranks": "modes-2-ranks",
}
COST_RUNS = {
    "methods-m3-1-rank": "M = 3, 1 rank",
    "methods-m3-2-ranks": "M = 3, 2 ranks",
    "methods-m8-1-rank": "M = 8, 1 rank",
    "methods-m8-2-ranks": "M = 8, 2 ranks",
}
DATA_SETS = {
    "kuairand-feeds": "KuaiRand feeds",
    "kuairand-ads": "KuaiRand ads",
    "census-income": "Census-Income",
    "synthetic-conflict-0": "synthetic, conflict 0",
    "synthetic-conflict-0.5": "synthetic, conflict 0.5",
    "synthetic-conflict-1": "synthetic, conflict 1",
}


def tables() -> dict[str, Callable[[], str]]:
    """Every table, by the name under which documents mark it."""
    return {
        "experiments": experiments,
        "costs": costs,
        "methods": lambda: _sections("table3"),
        "transfer": transfer,
        "search": search,
        "step-sizes": lambda: _sections("table4"),
        "levels": levels,
        "options": options,
        "watch": lambda: f"{format_watch(read_json(PERFORMANCE / 'watch.json'))}\n",
        "learning-rates": learning_rates,
        "loss-reduction": loss_reduction,
        "modes": modes,
        "loops": loops,
        "profile-before": lambda: _benchmark("before/profile", format_profile),
        "profile": lambda: _benchmark("profile", format_profile),
        "profile-2-ranks-before": lambda: _benchmark("before/profile-2-ranks", format_profile),
        "profile-2-ranks": lambda: _benchmark("profile-2-ranks", format_profile),
        "balancing": balancing,
        "balancing-methods": lambda: _benchmark("methods", format_methods),
        "layer": layer,
        "peers": lambda: _benchmark("peers", format_peers),
        "growth": lambda: _benchmark("growth", format_growth),
        "gpu-kernels": gpu_kernels,
        "gpu-host": gpu_host,
        "scale": lambda: format_scale(measure_scale(ScaleCase())),
    }


def loops() -> str:
    """Training end to end against the plain loop: in this version, and in the one before it was profiled."""
    rows = []
    for ranks, name in ((1, "loop"), (2, "loop-2-ranks")):
        now, before = (read_json(PERFORMANCE / f"{part}{name}.json") for part in ("", "before/"))
        for loop, rate in now["samples_per_second"].items():
            over = [
                cell(results["over_plain"][loop], ".3f") if loop in results["over_plain"] else ""
                for results in (before, now)
            ]
            rows.append([f"{loop}, {ranks} {'ranks' if ranks > 1 else 'rank'}", cell(rate, ",.0f"), *over])
    return f"{markdown_table(('loop', 'samples/s', 'QPS over the plain one, before', 'now'), rows)}\n"


def balancing() -> str:
    """What balancing costs against the control in each mode of reduction."""
    rows = []
    for title, name in BALANCING_RUNS.items():
        results = read_json(PERFORMANCE / f"{name}.json")
        control, *arms = results["qps"]
        rate = cell(results["qps"][control], ",.0f")
        rows.append([title, rate, *(cell(results["step_over_control"][arm], ".3f") for arm in arms)])
    header = (
        "step time over `mean`",
        "samples/s of `mean`",
        "`multibalance`",
        "`reduction=delayed`",
        "`reduction=local`",
    )
    return f"{markdown_table(header, rows)}\n"


def layer() -> str:
    """The layer's backward over the limit of memory, at some points of the grid."""
    now, before = (read_json(PERFORMANCE / f"{part}layer.json")["points"] for part in ("", "before/"))
    rows = []
    for point, earlier in zip(now, before, strict=True):
        key = [(each["tasks"], each["batch_size"], each["dim"], each["dtype"]) for each in (point, earlier)]
        assert key[0] == key[1]
        if (point["batch_size"], point["dim"]) in LAYER_SIZES:
            tasks, batch_size, dim, dtype = key[0]
            spreads = [each[name] for name in ("layer_over_limit", "layer_over_plain") for each in (earlier, point)]
            rows.append([f"M={tasks} B={batch_size:,} D={dim:,} {dtype}", *(cell(spread) for spread in spreads)])
    header = ("backward", "over the limit, before", "now", "over the plain sum, before", "now")
    return f"{markdown_table(header, rows)}\n"


def gpu_kernels() -> str:
    """The two operations on gradients on a GPU, over the limit of its memory."""
    rows = []
    for point in read_json(RESULTS / "gpu" / "kernels.json")["kernels"]:
        gramian, weighted_sum, limit = (point[f"{name}_us"] for name in ("gramian", "weighted_sum", "limit"))
        shape = f"M={point['tasks']} B={point['batch_size']:,} {point['dtype']}"
        over = f"{(gramian + weighted_sum) / limit:.2f}"
        rows.append([shape, f"{gramian:,.0f}", f"{weighted_sum:,.0f}", f"{limit:,.0f}", over])
    return (
        f"{markdown_table(('gradients', 'Gramian (us)', 'weighted sum (us)', 'limit (us)', 'over the limit'), rows)}\n"
    )


def gpu_host() -> str:
    """What launching a step of the layer costs the host of a GPU."""
    results = read_json(RESULTS / "gpu" / "kernels.json")
    before, now = results["host_us_before"], results["host_us"]
    rows = [[f"`{name}`", f"{before[name]:,.0f}", f"{now[name]:,.0f}"] for name in now if name in before]
    return f"{markdown_table(('method', 'launched one by one', 'from CUDA graphs'), rows)}\n"


def _benchmark(name: str, form: Callable[[Mapping[str, Any]], str]) -> str:
    return f"{form(read_json(PERFORMANCE / f'{name}.json'))}\n"


def experiments() -> str:
    """Links to the committed experiments, from the folder of results."""
    rows = []
    for name, title in DATA_SETS.items():
        runs = {study: RESULTS / "experiments" / name / study for study in STUDIES}
        seeds = {study: len(_seeds(f"experiments/{name}/{study}")) for study, run in runs.items() if run.is_dir()}
        links = [f"[{seeds[s]} seeds](experiments/{name}/{s}/report.md)" if s in seeds else "" for s in STUDIES]
        rows.append([title, *links])
    return _table(["data", *STUDIES], rows)


def modes() -> str:
    """NE gain of the recommended recipe under each mode of reduction."""
    runs = {"2 ranks": _comparison("modes-2-ranks"), "4 ranks": _comparison("modes-4-ranks")}
    arms = [arm for arm in runs["2 ranks"]["arms"] if arm != "mean"]
    rows = [
        [f"`{arm}`", *(cell for run in runs.values() for cell in _average_and_worst(run["arms"][arm]))] for arm in arms
    ]
    return _table(["arm", *(head for name in runs for head in (f"{name}: average", "worst task"))], rows)


def costs() -> str:
    """QPS change of every method against the control, one column per run."""
    runs = [_comparison(run)["arms"] for run in COST_RUNS]
    rows = [[f"`{arm}`", *(_change(arms[arm]) for arms in runs)] for arm in runs[0] if arm != "mean"]
    return _table(["arm", *COST_RUNS.values()], rows)


def transfer() -> str:
    """Per task: NE of the control, and what a model of its own, and balancing, gain over it."""
    arms = ("single_task", PAPER, RECOMMENDED)
    rows = []
    for name, comparison in _experiments("transfer"):
        for task in comparison["tasks"]:
            records = [comparison["arms"][arm]["tasks"][task] for arm in ("mean", *arms)]
            gains = [_interval(record["ne_gain_percent"]) for record in records[1:]]
            rows.append([DATA_SETS[name], task, f"{records[0]['ne']:.4f}", *gains])
    return _table(["data", "task", "NE of `mean`", *(f"`{arm}`" for arm in arms)], rows)


def search() -> str:
    """Random static weights against the recommended recipe."""
    rows = []
    for name, comparison in _experiments("search"):
        found = read_search(comparison)
        assert found is not None
        best, highest = found.best_fair, max(found.trials, key=lambda trial: trial.average)
        rows.append(
            [
                DATA_SETS[name],
                f"{found.balancer.average:+.3f}, {found.balancer.worst:+.3f}",
                f"{len(found.trials)}",
                "none" if found.first_as_good is None else str(found.first_as_good),
                str(len(found.fair)),
                "none" if best is None else f"{best.average:+.3f}, {best.worst:+.3f}",
                f"{highest.average:+.3f}, {highest.worst:+.3f}",
            ]
        )
    header = ["data", "recipe: average, worst task", "trials", "first as good", "whose worst task loses no more"]
    return _table([*header, "the best of those: average, worst task", "the best of all"], rows)


def levels() -> str:
    """Balancing by gradients of parameters and of the representation: gain and cost."""
    rows = []
    for name, comparison in _experiments("table2"):
        for arm, record in comparison["arms"].items():
            if arm != "mean":
                rows.append([DATA_SETS[name], f"`{arm}`", *_average_and_worst(record), _change(record)])
    return _table(["data", "arm", "average NE gain (%)", "worst task", "QPS change (%)"], rows)


def learning_rates() -> str:
    """How well the control is trained, and what the recipe gains over it."""
    rows = []
    for rates in ("0.01-0.001", "0.02-0.001", "0.04-0.001", "0.04-0.002", "0.08-0.001"):
        cells = rates.split("-")
        for tasks in ("feeds", "ads"):
            arms = _comparison(f"learning-rates/{tasks}-{rates}")["arms"]
            ne = [task["ne"] for task in arms["mean"]["tasks"].values()]
            cells += [f"{sum(ne) / len(ne):.4f}", _interval(arms[RECOMMENDED]["average_ne_gain_percent"])]
            if tasks == "ads":
                cells.append(_interval(arms[RECOMMENDED]["tasks"]["cvr"]["ne_gain_percent"]))
        rows.append(cells)
    header = ["tables", "dense part", "feeds: NE of `mean`", "gain", "ads: NE of `mean`", "gain", "gain of cvr"]
    return _table(header, rows)


def loss_reduction() -> str:
    """What the loss of a task that is defined on some rows only is divided by: the control's NE, the recipe's gain."""
    rows = []
    for name, run in (("batch", "validation/ads"), ("defined", "validation/ads-defined")):
        arms = _comparison(run)["arms"]
        ne = [f"{task['ne']:.4f}" for task in arms["mean"]["tasks"].values()]
        rows.append([f"`{name}`", *ne, *_average_and_worst(arms[RECOMMENDED])])
    return _table(
        ["divided by", *(f"{t}: NE of `mean`" for t in ("ctr", "cvr", "conv_imp")), "gain", "worst task"], rows
    )


def options() -> str:
    """Options of the recommended recipe on validation days."""
    comparisons = [_comparison(f"validation/{tasks}") for tasks in ("feeds", "ads")]
    rows = [
        [f"`{arm}`", *(cell for each in comparisons for cell in _average_and_worst(each["arms"][arm]))]
        for arm in comparisons[0]["arms"]
        if arm != "mean"
    ]
    return _table(["arm", "feeds: average", "worst task", "ads: average", "worst task"], rows)


def _sections(study: str) -> str:
    """Average NE gain and that of the worst task: arms by data sets."""
    comparisons = dict(_experiments(study))
    arms = next(iter(comparisons.values()))["arms"]
    rows = [
        [f"`{arm}`", *("<br>".join(_average_and_worst(each["arms"][arm])) for each in comparisons.values())]
        for arm in arms
        if arm != "mean"
    ]
    return _table(["arm", *(DATA_SETS[name] for name in comparisons)], rows)


def _average_and_worst(record: Mapping[str, Any]) -> tuple[str, str]:
    """The average gain with its interval, and the worst task's."""
    gains = {task: values["ne_gain_percent"] for task, values in record["tasks"].items()}
    if None in gains.values():
        return "NEX", "NEX"
    worst = min(gains, key=lambda task: float(gains[task]["mean"]))
    return _interval(record["average_ne_gain_percent"]), f"{worst} {gains[worst]['mean']:+.3f}"


def _interval(record: Mapping[str, float] | None) -> str:
    return "NEX" if record is None else f"{record['mean']:+.3f} [{record['low']:+.3f}, {record['high']:+.3f}]"


def _change(arm: Mapping[str, Any]) -> str:
    change = arm["qps"]["change_percent"]
    return f"{change['median']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]"


def _experiments(study: str) -> Iterator[tuple[str, Any]]:
    """The data sets on which a study was done, and its comparisons."""
    for name in DATA_SETS:
        if (RESULTS / "experiments" / name / study).is_dir():
            yield name, _comparison(f"experiments/{name}/{study}")


def _seeds(run: str) -> list[int]:
    seeds: list[int] = _comparison(run)["arms"]["mean"]["seeds"]
    return seeds


def _comparison(run: str) -> Any:
    return read_json(RESULTS / run / "comparison.json")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    known = tables()
    for document in sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")]):
        text = document.read_text()
        anew = MARKED.sub(lambda found: f"{found[1]}{known[found[2]]()}{found[4]}", text)
        if anew != text:
            write_text(document, anew)
            print(f"written: {document.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
