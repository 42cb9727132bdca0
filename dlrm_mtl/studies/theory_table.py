"""The theory study as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

PARAMETERS = {"dense": "dense part", "tables": "tables", "all": "both"}

WEIGHTS = {
    "flattened": "representation, flattened (the layer)",
    "pooled": "representation, pooled (equation 11)",
    "dense": "dense part",
    "uniform": "none: uniform",
}

LEARNED = {"dense": "bottom MLP", "embedding": "tables", "uniform": "none: uniform"}

AGREEMENT = {
    "excess": "Norm of the weighted parameter gradient under the weights tried, over the least possible (1 is perfect)",
    "cosine": "Cosine of the weights tried with lambda*",
    "total_variation": "Total variation distance of the weights tried from lambda* (0 equal, 1 disjoint)",
}


def format_theory(results: Mapping[str, Any]) -> str:
    """Tables of all data sets: ``results["studies"]`` holds what ``measure_theory`` returned for each."""
    return "\n\n".join(_format_study(study) for study in results["studies"])


def _format_study(study: Record) -> str:
    sizes = study["sizes"]
    blocks = [
        f"## {study['data']}",
        f"Tasks: {', '.join(study['tasks'])}. Representation of width {sizes['representation']}; {sizes['dense']:,}"
        f" shared dense parameters, {sizes['tables']:,} table elements; interaction {study['interaction']}. Trained for"
        f" {study['steps']} steps of {study['train_batch_size']:,} rows, {study['seeds']} seeds, {study['batches']}"
        f" batches of each size and seed; the last size is the whole population of {sizes['population']:,} rows. Cells:"
        " median (P10 to P90) over batches and seeds.",
        "Residual of equation 9 at uniform task weights:",
        _residual_table(study["residual"]),
    ]
    for name, title in AGREEMENT.items():
        blocks += [f"{title}; lambda* are the min-norm weights of the parameter gradients:"]
        blocks += [_agreement_table(study["agreement"], name)]
    blocks += [
        f"Task weights that {study['method']} learned from representation gradients, against those that it learned in"
        " another training, from the same start and data, with the parameter gradients of:",
        _learned_table(study["learned"]),
    ]
    return "\n\n".join(blocks)


def _residual_table(records: Sequence[Record]) -> str:
    header = [
        "parameters", "batch size", "norm of R_B over that of the parameter gradient",
        "cosine of E[J]'g with the parameter gradient", "distance of R_B from its mean, over the mean's norm",
    ]  # fmt: skip
    names = ("relative_norm", "cosine_of_mean_term", "distance_from_mean")
    rows = [
        [title, f"{record['batch_size']:,}", *(_cell(record[name]) for name in names)]
        for parameters, title in PARAMETERS.items()
        for record in records
        if record["parameters"] == parameters
    ]
    return _table(header, rows)


def _agreement_table(records: Sequence[Record], name: str) -> str:
    spreads = {(r["parameters"], r["weights_from"], r["batch_size"]): r[name] for r in records}
    sizes = sorted({size for _, _, size in spreads})
    rows = [
        [title, source_title, *(_cell(spreads[parameters, source, size]) for size in sizes)]
        for parameters, title in PARAMETERS.items()
        for source, source_title in WEIGHTS.items()
        if (parameters, source, sizes[0]) in spreads
    ]
    return _table(["parameters", "weights from", *(f"B = {size:,}" for size in sizes)], rows)


def _learned_table(records: Sequence[Record]) -> str:
    by_step = {(r["step"], r["level"]): r for r in records}
    steps = sorted({step for step, _ in by_step})
    shown = sorted({steps[0], steps[len(steps) // 4], steps[len(steps) // 2], steps[-1]})
    measures = {"cosine": "cosine", "total_variation": "total variation"}
    header = ["step", *(f"{title}: {measure}" for title in LEARNED.values() for measure in measures.values())]
    rows = [
        [f"{step}", *(_cell(by_step[step, level][name]) for level in LEARNED for name in measures)] for step in shown
    ]
    return _table(header, rows)


def _cell(spread: Mapping[str, float]) -> str:
    if spread["count"] == 1:
        return f"{spread['median']:.3g}"
    return f"{spread['median']:.3g} ({spread['p10']:.3g} to {spread['p90']:.3g})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
