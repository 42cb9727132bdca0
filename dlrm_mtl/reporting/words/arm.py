"""Sentences about one arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dlrm_mtl.reporting.normalized_loss import gain_of
from dlrm_mtl.reporting.words.cost import on_cost, on_losses
from dlrm_mtl.reporting.words.phrases import gain_text, join_words, name_seeds
from dlrm_mtl.statistics.families import MARGIN

Record = Mapping[str, Any]
Gains = Mapping[str, Record]

Claim = Literal[
    "gain", "gain-open", "trade-off", "loss", "no-loss", "equivalent", "inconclusive", "one-pair", "exploded"
]
"""The claim for an arm, from the verdicts on all its tasks."""

CLAIMS: dict[Claim, str] = {
    "gain": f"gains, no task loses {MARGIN:g}",
    "gain-open": f"gains, but a loss of {MARGIN:g} on some task is not ruled out",
    "trade-off": "some tasks gain, others lose",
    "loss": "tasks lose, none is shown to gain",
    "no-loss": f"no task loses {MARGIN:g}, none is shown to gain",
    "equivalent": f"equivalent: every task within {MARGIN:g} of the control",
    "inconclusive": "inconclusive",
    "one-pair": "no verdict: one seed, this pair of models only",
    "exploded": "loss exploded",
}


@dataclass(frozen=True)
class ArmWords:
    """Claim and sentences of one arm."""

    arm: str
    claim: Claim
    sentences: Sequence[str]

    @property
    def label(self) -> str:
        return CLAIMS[self.claim]


def describe_arm(comparison: Record, name: str) -> ArmWords:
    """An arm against the control: which tasks gain, which lose, by how much, and what it costs."""
    arm = comparison["arms"][name]
    gains: dict[str, Record] = {task: gain for task, values in arm["tasks"].items() if (gain := gain_of(values))}
    claim = claim_of(arm)
    sentences = on_explosions(arm)
    if len(arm["seeds"]) == 1:
        sentences += _on_one_pair(gains)
    else:
        sentences += [*on_tasks(gains), *on_losing(gains, arm["loses_nothing"])]
    sentences += [_on_average(arm["average_ne_gain_percent"]), on_cost(arm["qps"]), *on_losses(arm)]
    return ArmWords(name, claim, sentences)


def claim_of(arm: Record) -> Claim:
    """The claim for all tasks of an arm together."""
    gains = [gain_of(values) for values in arm["tasks"].values()]
    if None in gains or on_explosions(arm):
        return "exploded"
    if len(arm["seeds"]) == 1:
        return "one-pair"
    verdicts = {gain["verdict"] for gain in gains}
    if "gain" in verdicts:
        return "trade-off" if "loss" in verdicts else "gain" if arm["loses_nothing"] else "gain-open"
    if "loss" in verdicts:
        return "loss"
    if verdicts == {"equivalent"}:
        return "equivalent"
    return "no-loss" if arm["loses_nothing"] else "inconclusive"


def on_explosions(arm: Record) -> list[str]:
    return [
        f"The loss of {task} exploded (NEX) in {name_seeds(values['exploded_seeds'])}."
        for task, values in arm["tasks"].items()
        if values["exploded_seeds"]
    ]


def verdict_text(gain: Record) -> str:
    """A gain's verdict in a few words."""
    verdict = gain["verdict"]
    if verdict is None:
        return "no verdict"
    if sign := _certain_sign(gain):
        if verdict == "equivalent":
            return f"equivalent (a {sign} too small to matter)"
        if verdict == "inconclusive":
            return f"inconclusive (a {sign} by itself)"
    return str(verdict)


def on_tasks(gains: Gains) -> list[str]:
    """Sentences about the tasks of each verdict."""
    by_verdict = {
        verdict: [task for task, gain in gains.items() if gain["verdict"] == verdict]
        for verdict in ("gain", "loss", "equivalent", "inconclusive")
    }
    begins = {
        "gain": "Better on",
        "loss": "Worse on",
        "equivalent": f"Equivalent, within {MARGIN:g} either way, on",
        "inconclusive": "Inconclusive on",
    }
    return [
        f"{begins[verdict]} {join_words([_with_gain(task, gains[task]) for task in tasks])}."
        for verdict, tasks in by_verdict.items()
        if tasks
    ]


def _with_gain(task: str, gain: Record) -> str:
    """A task with its gain; if that is inconclusive, with the detectable difference."""
    words = f"{task} {gain_text(gain)}"
    if gain["verdict"] == "equivalent" and (sign := _certain_sign(gain)):
        return f"{words} (a {sign} too small to matter)"
    if gain["verdict"] == "inconclusive":
        only = f"a difference of {gain['detectable']:.3f} or more would have shown"
        certain = f"; a {sign} by itself, but not among all comparisons" if (sign := _certain_sign(gain)) else ""
        return f"{words} ({only}{certain})"
    return words


def _certain_sign(gain: Record) -> str | None:
    """The sign of a gain whose interval excludes 0."""
    if gain["low"] is None or gain["low"] <= 0 <= gain["high"]:
        return None
    return "gain" if gain["mean"] > 0 else "loss"


def on_losing(gains: Gains, loses_nothing: bool | None) -> list[str]:
    """Whether no task loses as much as the margin."""
    if loses_nothing is None:
        return []
    if loses_nothing:
        return [f"No task loses {MARGIN:g}."]
    open_tasks = [f"{task} (down to {gain['low']:+.3f})" for task, gain in gains.items() if gain["low"] <= -MARGIN]
    if not open_tasks:
        return [f"That no task loses {MARGIN:g} is shown for this arm by itself, but not among all arms."]
    return [f"A loss of {MARGIN:g} or more is not ruled out on {join_words(open_tasks)}."]


def _on_one_pair(gains: Gains) -> list[str]:
    """Sentences for a single seed, which compares two models and not two arms."""
    parts = {
        "higher": [task for task, gain in gains.items() if _certain_sign(gain) == "gain"],
        "lower": [task for task, gain in gains.items() if _certain_sign(gain) == "loss"],
        "not told apart": [task for task, gain in gains.items() if _certain_sign(gain) is None],
    }
    said = [
        f"{word} on {join_words([f'{task} {gain_text(gains[task])}' for task in tasks])}"
        for word, tasks in parts.items()
        if tasks
    ]
    return [
        "One seed: no verdict, as another seed gives another pair of models.",
        f"This arm's model against this control's, on other evaluation rows: {'; '.join(said)}.",
    ]


def _on_average(gain: Record | None) -> str:
    if gain is None:
        return "There is no average over tasks, as the loss of one exploded."
    words = {
        "gain": "better",
        "loss": "worse",
        "equivalent": f"equivalent, within {MARGIN:g}",
        "inconclusive": "inconclusive",
        None: "this pair",
    }
    return f"On average over tasks {words[gain['verdict']]}: {_with_gain('', gain).strip()}."
