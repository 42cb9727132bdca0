"""Tables in the documents about sharing architectures, from committed results."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.files import read_json
from dlrm_mtl.model_parts import SHARING
from dlrm_mtl.models.dense_memory import FLOAT32, dense_memory
from dlrm_mtl.planning.presets import PRESETS
from dlrm_mtl.records import build
from dlrm_mtl.studies.architectures.report import experts_cell
from dlrm_mtl.units import mib
from tests.benchmark_tables import RESULTS
from tests.table_cells import DATA_SETS, average_and_worst, table


def architecture_tables() -> dict[str, Callable[[], str]]:
    """By their names in the documents' marks."""
    return {
        "architectures": architectures,
        "balanced-architectures": balanced,
        "pairs": pairs,
        "architectures-search": architectures_search,
        "experts": experts,
    }


def architectures() -> str:
    """What an architecture gains with the control over the first one, by data set."""
    records = dict(read_architectures())
    names = list(dict.fromkeys(name for record in records.values() for name in record["architectures"]))
    rows = [[f"`{name}`", *(_control_cell(record, name) for record in records.values())] for name in names]
    return table(["architecture", *(DATA_SETS[data] for data in records)], rows)


def balanced() -> str:
    """What balancing gains under each architecture over its own control, by data set."""
    runs = {data: _own_comparisons(data, record) for data, record in read_architectures()}
    pairs = [(arm, name) for each in runs.values() for name, arms in each.items() for arm in list(arms)[1:]]
    arms = list(dict.fromkeys(arm for arm, _ in pairs))
    ordered = sorted(dict.fromkeys(pairs), key=lambda pair: arms.index(pair[0]))
    rows = [
        [
            *(f"`{arm}`", f"`{name}`"),
            *(
                "<br>".join(average_and_worst(each[name][arm])) if arm in each.get(name, {}) else ""
                for each in runs.values()
            ),
        ]
        for arm, name in ordered
    ]
    return table(["arm", "architecture", *(DATA_SETS[data] for data in runs)], rows)


def pairs() -> str:
    """The pairs of architecture and arm that gain most over the first architecture with the control: on average, and
    for the task that gains least."""
    rows = []
    for data, record in read_architectures():
        joined = record["comparison"]
        treatments = {pair: arm for pair, arm in joined["arms"].items() if pair != joined["control"]}
        best = max(treatments, key=lambda pair: float(treatments[pair]["average_ne_gain_percent"]["mean"]))
        safest = max(treatments, key=lambda pair: _worst(treatments[pair]))
        cells = [f"`{pair}`<br>{'<br>'.join(average_and_worst(treatments[pair]))}" for pair in (best, safest)]
        rows.append([DATA_SETS[data], *cells])
    return table(["data", "highest average", "highest gain of the worst task"], rows)


def architectures_search() -> str:
    """NE on validation days of architectures with one seed."""
    rows = []
    for file in sorted(RESULTS.glob("validation/architectures/*/architectures.json")):
        record = read_json(file)
        for architecture, entry in record["architectures"].items():
            cells = []
            for arm in ("mean", "nash_mtl"):
                tasks = record["comparison"]["arms"][f"{architecture} + {arm}"]["tasks"].values()
                cells.append(f"{sum(task['ne'] for task in tasks) / len(tasks):.4f}")
            rows.append(
                [
                    file.parent.name,
                    f"`{architecture}`",
                    experts_cell(entry["model"]),
                    f"{entry['parameters']['dense']:,}",
                    *cells,
                ]
            )
    return table(["run", "architecture", "experts", "dense parameters", "NE of `mean`", "NE of `nash_mtl`"], rows)


def experts() -> str:
    """The dense part of the preset criteo-1tb under each sharing architecture, as the plan counts it."""
    preset = PRESETS["criteo-1tb"]
    model = build(ModelConfig, preset.options["model"], "")
    rows = []
    for sharing in SHARING:
        memory = dense_memory(preset.schema, replace(model, sharing=sharing), "adam")
        counts = [f"{count / 1e6:.2f}" for count in memory.parameters.values()]
        sizes = [mib(memory.bytes), FLOAT32 * memory.total_parameters / 1e6]
        rows.append([f"`{sharing}`", *counts, *(f"{size:.1f}" for size in sizes)])
    parts = ("bottom MLP and interaction", "experts and gates", "heads")
    return table(["sharing", *parts, "memory per GPU (MiB)", "all-reduce of dense gradients (MB)"], rows)


def read_architectures() -> Iterator[tuple[str, Any]]:
    """The data sets of the experiment ``architectures``, and what it wrote."""
    for name in DATA_SETS:
        file = RESULTS / "experiments" / name / "architectures.json"
        if file.is_file():
            yield name, read_json(file)


def _own_comparisons(data: str, record: Any) -> dict[str, Any]:
    """The arms of each architecture, the control first, against its own control."""
    return {
        name: read_json(RESULTS / "experiments" / data / entry["run"] / "comparison.json")["arms"]
        for name, entry in record["architectures"].items()
    }


def _control_cell(record: Any, name: str) -> str:
    joined = record["comparison"]
    architecture, _, control = joined["control"].partition(" + ")
    if name not in record["architectures"]:
        return ""
    arm = joined["arms"][f"{name} + {control}"]
    if name == architecture:
        tasks = arm["tasks"].values()
        return f"NE {sum(task['ne'] for task in tasks) / len(tasks):.4f}"
    return "<br>".join(average_and_worst(arm))


def _worst(arm: Any) -> float:
    return min(float(task["ne_gain_percent"]["mean"]) for task in arm["tasks"].values())
