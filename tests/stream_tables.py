"""Tables of docs/streaming.md, from the committed results of streams."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dlrm_mtl.files import read_json
from dlrm_mtl.statistics.effect import student_quantile
from tests.benchmark_tables import RESULTS
from tests.table_cells import interval, judged, table

STREAMS = RESULTS / "streaming"

DATA = {
    "kuairand-feeds": "KuaiRand feeds",
    "kuairand-feeds-1024": "KuaiRand feeds, batches of 1024",
    "kuairand-ads": "KuaiRand ads",
    "generated-always": "generated",
}
IDS = {
    "generated-always": "growing",
    "generated-recycling": "recycling",
    "generated-hashing": "hashing",
}
NEW_TASK = "like"
DAYS_SHOWN = (1, 2, 3, 5, 7, 10, 15, 20)
"""Days of training on the new task that the table shows."""


def stream_tables() -> dict[str, Callable[[], str]]:
    """Every table, by its name in the document's marks."""
    return {
        "stream-days": days,
        "stream-search": search,
        "stream-gains": gains,
        "stream-arrival": arrival,
        "stream-ids": ids,
        "stream-retraining": retraining,
    }


def days() -> str:
    """Rows and new ids of KuaiRand's days."""
    rows = []
    for day in _stream("kuairand-feeds")["days"]:
        tables = day["tables"]
        new = [
            sum(of_table["new"] for of_table in tables.values()),
            *(tables[t]["new"] for t in ("user_id", "video_id")),
        ]
        rows.append([day["name"][5:], *(f"{number:,}" for number in (day["rows"], *new))])
    return table(["day", "rows", "new ids, all tables", "new users", "new videos"], rows)


def search() -> str:
    """NE of each batch size and learning rate on KuaiRand's first days."""
    rows = []
    for run in read_json(STREAMS / "search.json")["runs"]:
        averages = [sum(tasks.values()) / len(tasks) for tasks in run["ne"].values()]
        options = [str(run[option]) for option in ("batch_size", "dense_lr", "min_count")]
        rows.append([*options, *(f"{average:.4f}" for average in averages)])
    return table(["batch size", "dense rate", "`--min-count`", "NE of `mean`", "NE of `nash_mtl`"], rows)


def gains() -> str:
    """The gain of each arm over the days, and its change per day."""
    rows = []
    for name, title in DATA.items():
        stream = _stream(name)
        for arm, results in list(stream["arms"].items())[1:]:
            cells = [("average", results["average_ne_gain_percent"], results["average_ne_gain_change_per_day"])]
            for task, of_task in results["tasks"].items():
                cells.append((task, of_task["ne_gain_percent"], of_task["ne_gain_change_per_day"]))
            for task, gain, change in cells:
                slope = "" if change is None else interval(change)
                rows.append([title, f"`{_short(arm)}`", task, judged(gain), slope])
    return table(["data", "arm", "task", "NE gain (%) over the days", "its change per day"], rows)


def arrival() -> str:
    """How much higher the NE of a new task is than that of models that always had it, by days since its arrival."""
    new, always = _stream("generated-arrives"), _stream("generated-always")
    arms = list(new["arms"])
    differences = [
        [_difference(day, reference, arm, NEW_TASK) for arm in arms]
        for day, reference in zip(new["days"], always["days"], strict=True)
        if NEW_TASK in day["evaluated"]
    ]
    rows = [[str(number), *differences[number - 1]] for number in DAYS_SHOWN]
    return table([f"days with `{NEW_TASK}`", *(f"`{_short(arm)}`" for arm in arms)], rows)


def ids() -> str:
    """NE over the days under each way to give ids, against tables that grow."""
    reference = _stream("generated-always")
    tasks = reference["tasks"]
    rows = []
    for name, title in IDS.items():
        stream = _stream(name)
        size = sum(of_table["ids"] for of_table in stream["days"][-1]["tables"].values())
        for arm in ("mean", "multibalance_recommended"):
            cells = [_over_days(stream, reference, arm, task) for task in tasks]
            rows.append([title, f"{size:,}", f"`{arm}`", *cells])
    return table(["ids", "table rows at the end", "arm", *tasks], rows)


def retraining() -> str:
    """NE of a day: of models trained day by day, and of models trained anew on all days before."""
    rows = []
    for folder in sorted((STREAMS / "retraining").iterdir()):
        comparison, case = read_json(folder / "comparison.json"), read_json(folder / "case.json")
        stream = _stream(case["stream"])
        day = stream["days"][case["day"]]
        for arm in comparison["arms"]:
            tasks = [task for task in comparison["tasks"] if task in day["evaluated"]]
            anew = [comparison["arms"][arm]["tasks"][task]["ne"] for task in tasks]
            going_on = [day["arms"][arm]["tasks"][task]["ne"] for task in tasks]
            rows.append(
                [
                    f"{DATA[case['stream']]}, {day['name'][5:]}{case['note']}",
                    f"`{arm}`",
                    f"{sum(going_on) / len(tasks):.4f}",
                    f"{sum(anew) / len(tasks):.4f}",
                    f"{stream['days'][case['day'] - 1]['rows']:,}",
                    f"{comparison['training']['rows'] * comparison['training']['epochs']:,}",
                ]
            )
    header = ["data, day", "arm", "NE, day by day", "NE, trained anew", "rows for this day", "rows, trained anew"]
    return table(header, rows)


def _stream(name: str) -> dict[str, Any]:
    result: dict[str, Any] = read_json(STREAMS / name / "stream.json")
    return result


def _short(arm: str) -> str:
    return arm.partition(":")[0]


def _difference(day: Mapping[str, Any], reference: Mapping[str, Any], arm: str, task: str) -> str:
    """100 times the difference of two NE, with its interval over seeds."""
    seeds, others = (each["arms"][arm]["tasks"][task]["by_seed"] for each in (day, reference))
    return _over_seeds([100 * (a["ne"] - b["ne"]) for a, b in zip(seeds, others, strict=True)])


def _over_days(stream: Mapping[str, Any], reference: Mapping[str, Any], arm: str, task: str) -> str:
    """NE over the days; against another stream, the mean difference over days, with its interval over seeds."""
    ne = f"{stream['arms'][arm]['tasks'][task]['ne']:.4f}"
    if stream["days"][-1]["tables"] == reference["days"][-1]["tables"]:
        return ne
    pairs = [
        (day["arms"][arm]["tasks"][task]["by_seed"], other["arms"][arm]["tasks"][task]["by_seed"])
        for day, other in zip(stream["days"], reference["days"], strict=True)
        if task in day["evaluated"] and task in other["evaluated"]
    ]
    by_seed = [
        sum(100 * (days[seed]["ne"] - others[seed]["ne"]) for days, others in pairs) / len(pairs)
        for seed in range(len(pairs[0][0]))
    ]
    return f"{ne}, {_over_seeds(by_seed)}"


def _over_seeds(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = float(student_quantile(len(values) - 1, 0.025)) * (variance / len(values)) ** 0.5
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"
