"""Sentences about a stream."""

from collections.abc import Mapping
from typing import Any

from dlrm_mtl.reporting.normalized_loss import gain_of, key_of, loss_name
from dlrm_mtl.reporting.words.arm import on_losing, on_tasks, verdict_text
from dlrm_mtl.reporting.words.phrases import count, gain_text, interval_text, join_words

Record = Mapping[str, Any]

MOST = 5
"""Maximum number of days that a sentence names."""


def describe_stream(stream: Record) -> list[str]:
    """What was done, and what holds over the days for each arm."""
    control = stream["control"]
    sentences = [
        f"{count(stream['trained_days'], 'day')} trained, {stream['evaluated_days']} of them evaluated before training;"
        f" {stream['skipped_days']} skipped."
    ]
    skipped = [f"{day['name']}: {day['skipped']}" for day in stream["days"] if day["skipped"] is not None]
    sentences += [f"Skipped {text}" for text in skipped[:MOST]]
    if len(skipped) > MOST:
        sentences.append(f"{len(skipped) - MOST} more were skipped; the table of days names them.")
    sentences += _on_changes(stream)
    if stream["evaluated_days"] == 1:
        sentences.append("One day: nothing can be said of other days.")
    if len(stream["seeds"]) == 1:
        sentences.append("One seed: no verdicts, as another seed gives other models.")
    for name, arm in stream["arms"].items():
        sentences += [f"{name}: {sentence}" for sentence in _on_explosions(arm)]
        if name != control and stream["evaluated_days"]:
            sentences.append(" ".join([f"{name} against {control}:", *_on_arm(arm, loss_name(stream))]))
    return sentences


def _on_changes(stream: Record) -> list[str]:
    """Days on which tasks begin and end."""
    return [
        f"Day {number} ({day['name']}): {what} {join_words(day[key])}."
        for number, day in enumerate(stream["days"])
        if day["skipped"] is None
        for key, what in (("new_tasks", "first day with"), ("ended_tasks", "first day without"))
        if day[key]
    ]


def _on_explosions(arm: Record) -> list[str]:
    return [
        f"The loss of {task} exploded (NEX) on {count(len(record['exploded_days']), 'day')}, first on"
        f" {record['exploded_days'][0]}."
        for task, record in arm["tasks"].items()
        if record["exploded_days"]
    ]


def _on_arm(arm: Record, loss: str) -> list[str]:
    gain = arm["average_ne_gain_percent"]
    gains = {task: own for task, record in arm["tasks"].items() if (own := gain_of(record))}
    sentences = [f"Average {loss} gain over the days {gain_text(gain)}: {verdict_text(gain)}."] if gain else []
    if any(own["verdict"] for own in gains.values()):
        sentences += [*on_tasks(gains), *on_losing(gains, arm["loses_nothing"])]
    return [*sentences, _on_trend(arm)]


def _on_trend(arm: Record) -> str:
    """Which gains change over time."""
    changes = {task: record[f"{key_of('ne', record)}_gain_change_per_day"] for task, record in arm["tasks"].items()}
    measured = {task: change for task, change in changes.items() if change}
    if not measured:
        return "Whether gains change over time is not known: it takes three days."
    certain = {task: change for task, change in measured.items() if not change["low"] <= 0 <= change["high"]}
    if not certain:
        return "No gain is shown to change over time."
    parts = [f"{task} {change['mean']:+.4f} {interval_text(change, 4)}" for task, change in certain.items()]
    return f"Gains that change over time, in % per day: {join_words(parts)}."
