"""How far a comparison can be trusted."""

from collections.abc import Iterator, Mapping
from typing import Any

from dlrm_mtl.metrics.task_metrics import MANY_TIES
from dlrm_mtl.reporting.comparison import INDEPENDENT_ROWS
from dlrm_mtl.reporting.normalized_loss import gain_of
from dlrm_mtl.reporting.words.phrases import count, join_words, name_seeds


def on_trust(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about seeds, what intervals cover, clusters of rows, the number of verdicts, chance and ties."""
    treatments = {name: arm for name, arm in comparison["arms"].items() if name != comparison["control"]}
    seeds = {len(arm["seeds"]) for arm in treatments.values()}
    if 1 in seeds:
        yield (
            "Arms with one seed: their intervals are for other evaluation rows only; expect larger differences between"
            " seeds."
        )
    yield from _on_plan(comparison)
    if 2 in seeds:
        yield "Arms with two seeds: intervals are very wide (12.7 standard errors); little can be told from them."
    gains = [gain_of(values) for arm in treatments.values() for values in arm["tasks"].values()]
    covered = {gain["covers"] for gain in gains if gain}
    if "seeds" in covered:
        yield (
            "Intervals and verdicts hold for other seeds on these evaluation rows only, since errors over rows were not"
            " kept. Results on other rows may differ, most of all for rare tasks."
        )
    if covered & {"rows", "seeds and rows"}:
        yield _on_clusters(comparison)
    yield from _on_families(comparison["families"])
    chance = comparison["chance_range"]
    yield (
        f"{chance['exclude_zero']} of {chance['intervals']} intervals of arms and tasks exclude 0. Without any"
        f" difference, {_range(chance['low'], chance['high'])} would (95 % of simulations with a shared control)."
    )
    yield from _on_ties(comparison)


def _on_plan(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Seeds added to the plan or missing from it; task weights chosen later."""
    for name, added in comparison["added_seeds"].items():
        looks = " and ".join(str(look) for look in added["looks"])
        yield (
            f"{name}: {name_seeds(added['seeds'])} {'were' if len(added['seeds']) > 1 else 'was'} not planned when its"
            f" first job began. If seeds are added after looking at {looks} seeds, an interval excludes 0 by chance in"
            f" up to {100 * added['error_rate']:.1f} % of comparisons instead of 5 %. Intervals, p and verdicts here"
            " are those of a single look."
        )
    there = {seed for arm in comparison["arms"].values() for seed in arm["seeds"]}
    if missing := sorted(set(comparison["planned_seeds"]) - there):
        yield f"Planned but missing: {name_seeds(missing)}. This is a look before the end."
    if comparison["reweighed"]:
        yield "The task weights of the average were changed after the runs began, when results could be seen."


def _on_clusters(comparison: Mapping[str, Any]) -> str:
    cluster = comparison["clusters"]
    if cluster == INDEPENDENT_ROWS:
        return (
            "Evaluation rows are taken as independent, since the data set names no cluster: if users have many rows,"
            " intervals are too narrow."
        )
    return (
        f"Intervals over rows are for other values of {cluster}: evaluation rows of one {cluster} are not independent."
    )


def _on_families(families: Mapping[str, Any]) -> Iterator[str]:
    if families["arms_and_tasks"]:
        averages, pairs = count(families["averages"], "average"), count(families["arms_and_tasks"], "pair")
        yield (
            f"Verdicts are corrected for their number ({families['procedure']}): {averages}, {pairs} of arm and task."
            " Intervals are not corrected."
        )


def _range(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _on_ties(comparison: Mapping[str, Any]) -> Iterator[str]:
    tied = [
        f"{task} ({name}: {100 * share:.1f} % of pairs)"
        for name, arm in comparison["arms"].items()
        for task, values in arm["tasks"].items()
        if (share := values.get("tied_pairs")) and share > MANY_TIES
    ]
    if tied:
        yield f"AUC counts tied predictions as half right, and many are tied: {join_words(tied)}."
