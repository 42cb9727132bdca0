"""What a comparison found, in sentences made from its numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dlrm_mtl.reporting.report_data import Record
from dlrm_mtl.training_length import TrainingLength

SIGNIFICANT_GAIN = 0.05
"""NE gain in percent from which the paper calls one significant (section 5.3)."""
BELOW = f"below the paper's {SIGNIFICANT_GAIN:g}"
SIGNIFICANT_COST = 5.0
"""QPS loss in percent from which the paper calls one significant (section 5.3)."""

Verdict = Literal["exploded", "gain", "trade-off", "loss", "no difference"]

VERDICTS: dict[Verdict, str] = {
    "exploded": "loss exploded",
    "gain": "gains, no task loses",
    "trade-off": "some tasks gain, others lose",
    "loss": "tasks lose, none gains",
    "no difference": "no difference beyond noise",
}

OF_ARMS: dict[Verdict, str] = {
    "gain": "Better than {control} on some task, and on none worse beyond noise",
    "trade-off": "Better than {control} on some tasks and worse on others",
    "loss": "Worse than {control} on some task, and better on none beyond noise",
    "no difference": "No difference from {control} beyond noise on any task",
    "exploded": "The loss exploded (NEX)",
}


@dataclass(frozen=True)
class ArmWords:
    """What is to be said of one arm."""

    arm: str
    verdict: Verdict
    sentences: Sequence[str]

    @property
    def label(self) -> str:
        return VERDICTS[self.verdict]


def describe_arm(comparison: Record, name: str) -> ArmWords:
    """An arm against the control: which tasks gain, which lose, by how much, and what it costs."""
    arm = comparison["arms"][name]
    gains = {task: values["ne_gain_percent"] for task, values in arm["tasks"].items()}
    better = [task for task, gain in gains.items() if gain and gain["low"] > 0]
    worse = [task for task, gain in gains.items() if gain and gain["high"] < 0]
    unclear = [task for task, gain in gains.items() if gain and task not in better and task not in worse]
    exploded = _exploded(arm)
    verdict: Verdict = "no difference"
    if exploded or None in gains.values():
        verdict = "exploded"
    elif better:
        verdict = "trade-off" if worse else "gain"
    elif worse:
        verdict = "loss"
    sentences = [*exploded]
    if better:
        sentences.append(f"Better on {_with_gains(better, gains)}.")
    if worse:
        sentences.append(f"Worse on {_with_gains(worse, gains)}.")
    if unclear:
        sentences.append(_on_unclear(unclear, gains, everything=len(unclear) == len(gains)))
    sentences += [_on_average(arm["average_ne_gain_percent"]), on_cost(arm["qps"]), *on_losses(arm)]
    return ArmWords(name, verdict, sentences)


def describe_comparison(comparison: Record) -> list[str]:
    """The comparison as a whole: first what an engineer asks, then how far it can be trusted."""
    control, arms = comparison["control"], comparison["arms"]
    treatments = [name for name in arms if name != control]
    words = {name: describe_arm(comparison, name) for name in treatments}
    sentences = []
    for verdict, text in OF_ARMS.items():
        if names := [name for name in treatments if words[name].verdict == verdict]:
            sentences.append(f"{text.format(control=control)}: {_list(names)}.")
    sentences.append(_on_best(comparison, treatments))
    if of_control := _exploded(arms[control]):
        sentences.append(f"Of the control {control}: {' '.join(of_control)} Gains over it say nothing.")
    sentences += [f"Of the control {control}: {sentence}" for sentence in on_losses(arms[control])]
    return [*warn_of_length(comparison), *sentences, *_on_trust(comparison, treatments)]


def warn_of_length(record: Record) -> list[str]:
    """That the training of a comparison, or of one arm, was too short to tell anything, if it was."""
    length = TrainingLength.from_json(record["training"]) if "training" in record else None
    warning = length.warning() if length else None
    return [warning] if warning else []


def on_cost(qps: Record | None) -> str:
    """What an arm costs in samples per second."""
    if qps is None:
        return "Speed was not timed: too few steps."
    change = qps["change_percent"]
    interval = f"[{change['low']:+.2f}, {change['high']:+.2f}]"
    if change["low"] <= 0 <= change["high"]:
        return f"Speed: no change beyond noise, {change['median']:+.2f} % of QPS {interval}."
    if change["median"] > 0:
        return f"Speed: faster by {change['median']:.2f} % of QPS {interval}."
    degree = "more" if -change["median"] > SIGNIFICANT_COST else "no more"
    return (
        f"Speed: costs {-change['median']:.2f} % of QPS {interval}, {degree} than the {SIGNIFICANT_COST:g} % from which"
        " the paper calls a cost significant."
    )


def on_losses(arm: Record) -> list[str]:
    """What of an arm's training had no effect."""
    sentences = []
    if skipped := arm.get("skipped_steps", 0):
        sentences.append(f"{_count(skipped, 'step')} skipped, as a loss or gradient was not finite.")
    if lost := arm.get("rows_lost", 0):
        sentences.append(f"{_count(lost, 'training row')} lost with their shards.")
    return sentences


def gain_text(gain: Record | None) -> str:
    """A gain with its interval."""
    return "NEX" if gain is None else f"{gain['mean']:+.3f} % [{gain['low']:+.3f}, {gain['high']:+.3f}]"


def _exploded(arm: Record) -> list[str]:
    return [
        f"The loss of {task} exploded (NEX) in {_seeds(values['exploded_seeds'])}."
        for task, values in arm["tasks"].items()
        if values.get("exploded_seeds")
    ]


def _with_gains(tasks: Sequence[str], gains: Record) -> str:
    """Tasks whose interval excludes 0, with their gains; those below the paper's threshold are marked."""

    def one(task: str) -> str:
        small = abs(gains[task]["mean"]) < SIGNIFICANT_GAIN
        return f"{task} {gain_text(gains[task])}{f' ({BELOW})' if small else ''}"

    return _list([one(task) for task in tasks])


def _on_unclear(tasks: Sequence[str], gains: Record, everything: bool) -> str:
    """Tasks whose interval includes 0; what it does not rule out is said, for a null result is not a zero."""
    worst = min(gains[task]["low"] for task in tasks)
    best = max(gains[task]["high"] for task in tasks)
    small = worst > -SIGNIFICANT_GAIN and best < SIGNIFICANT_GAIN
    which = "any task" if everything else _list(tasks)
    rest = "either way less than the paper's 0.05" if small else f"from {worst:+.3f} to {best:+.3f} % remains possible"
    return f"No difference beyond noise on {which}: {rest}."


def _on_average(gain: Record | None) -> str:
    if gain is None:
        return "There is no average over tasks, as the loss of one exploded."
    if gain["low"] <= 0 <= gain["high"]:
        return f"On average over tasks no difference beyond noise, {gain_text(gain)}."
    word = "better" if gain["mean"] > 0 else "worse"
    small = abs(gain["mean"]) < SIGNIFICANT_GAIN
    return f"On average over tasks {word}, {gain_text(gain)}{f', {BELOW}' if small else ''}."


def _on_best(comparison: Record, treatments: Sequence[str]) -> str:
    averages = {name: comparison["arms"][name]["average_ne_gain_percent"] for name in treatments}
    known: dict[str, Any] = {name: gain for name, gain in averages.items() if gain is not None}
    if not known:
        return "No arm has an average gain, as losses exploded."
    best = max(known, key=lambda name: known[name]["mean"])
    gain, cost = known[best], on_cost(comparison["arms"][best]["qps"])
    beyond = "" if gain["low"] > 0 else ", which is " + ("worse" if gain["high"] < 0 else "no difference beyond noise")
    return f"Highest average NE gain: {best}, {gain_text(gain)}{beyond}. {cost}"


def _on_trust(comparison: Record, treatments: Sequence[str]) -> Iterable[str]:
    """Seeds, and how many intervals exclude 0 by chance."""
    seeds = {len(comparison["arms"][name]["seeds"]) for name in treatments}
    if 1 in seeds:
        yield (
            "Arms with one seed: their intervals are over evaluation rows and say nothing of how another seed would"
            " turn out; expect more difference between seeds than they show."
        )
    if 2 in seeds:
        yield "Arms with two seeds: intervals are very wide (12.7 standard errors); little can be told from them."
    gains = [values["ne_gain_percent"] for name in treatments for values in comparison["arms"][name]["tasks"].values()]
    known = [gain for gain in gains if gain is not None]
    beyond = sum(gain["low"] > 0 or gain["high"] < 0 for gain in known)
    yield (
        f"{beyond} of {len(known)} intervals of arms and tasks exclude 0; were there no difference at all, about"
        f" {0.05 * len(known):.1f} would by chance."
    )


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {_list([str(seed) for seed in seeds])}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _list(items: Sequence[str]) -> str:
    """Items that hold commas themselves, as the names of many arms do, are kept apart by semicolons."""
    if len(items) < 2:
        return "".join(items)
    comma = "; " if any("," in item for item in items) else ", "
    return f"{comma.join(items[:-1])} and {items[-1]}"
