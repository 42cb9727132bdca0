"""Sentences from numbers."""

from collections.abc import Mapping
from typing import Any

import pytest

from dlrm_mtl.reporting.words import describe_arm, describe_comparison, on_cost
from tests.reporting.runs import interval


def record(gains: Mapping[str, Any], seeds: int = 3, **arm: Any) -> dict[str, Any]:
    """A comparison of ``arm`` with ``mean`` from gains of tasks, as (mean, half width), or None."""
    found = {task: None if gain is None else interval(*gain) for task, gain in gains.items()}
    known = [gain["mean"] for gain in found.values() if gain]
    qps = {"median": 900.0, "change_percent": {"median": 0.3, "low": -1.0, "high": 1.0}}

    def tasks(own: Mapping[str, Any]) -> dict[str, Any]:
        return {task: {"ne_gain_percent": gain, "exploded_seeds": []} for task, gain in own.items()}

    average = interval(sum(known) / len(known), 0.01) if len(known) == len(found) else None
    base = {"seeds": list(range(seeds)), "qps": qps, "skipped_steps": 0, "rows_lost": 0}
    control = {**base, "tasks": tasks(dict.fromkeys(gains, interval(0.0, 0.0))), "average_ne_gain_percent": interval(0)}
    treatment = {**base, "tasks": tasks(found), "average_ne_gain_percent": average, **arm}
    return {"control": "mean", "tasks": list(gains), "arms": {"mean": control, "arm": treatment}}


def said(gains: Mapping[str, Any], **arm: Any) -> tuple[str, str]:
    words = describe_arm(record(gains, **arm), "arm")
    return words.verdict, " ".join(words.sentences)


def test_gains_alone() -> None:
    verdict, text = said({"a": (0.2, 0.1), "b": (0.03, 0.01)})
    assert verdict == "gain"
    assert "Better on a +0.200 % [+0.100, +0.300] and b +0.030 % [+0.020, +0.040] (below the paper's 0.05)." in text
    assert "Worse" not in text
    assert "No difference" not in text.partition("Speed")[0]
    assert "On average over tasks better, +0.115 %" in text


def test_losses_alone() -> None:
    verdict, text = said({"a": (-0.2, 0.1), "b": (-0.1, 0.05)})
    assert verdict == "loss"
    assert "Worse on a -0.200 % [-0.300, -0.100] and b" in text
    assert "Better" not in text
    assert "On average over tasks worse, -0.150 %" in text


def test_a_gain_bought_with_a_loss() -> None:
    verdict, text = said({"a": (0.2, 0.1), "b": (-0.2, 0.1), "c": (0.1, 0.3)})
    assert verdict == "trade-off"
    assert "Better on a" in text
    assert "Worse on b" in text
    assert "No difference beyond noise on c: from -0.200 to +0.400 % remains possible." in text


def test_a_null_result_says_what_it_rules_out() -> None:
    verdict, text = said({"a": (0.01, 0.03), "b": (-0.01, 0.02)})
    assert verdict == "no difference"
    assert "No difference beyond noise on any task: either way less than the paper's 0.05." in text
    assert "On average over tasks no difference beyond noise" in text
    _, text = said({"a": (0.01, 0.3), "b": (-0.01, 0.02)})
    assert "on any task: from -0.290 to +0.310 % remains possible." in text


def test_explosions() -> None:
    comparison = record({"a": None, "b": (0.2, 0.1)})
    comparison["arms"]["arm"]["tasks"]["a"]["exploded_seeds"] = [0, 2]
    words = describe_arm(comparison, "arm")
    assert words.verdict == "exploded"
    assert words.sentences[0] == "The loss of a exploded (NEX) in seeds 0 and 2."
    assert "There is no average over tasks, as the loss of one exploded." in words.sentences
    text = " ".join(describe_comparison(comparison))
    assert "The loss exploded (NEX): arm." in text
    assert "No arm has an average gain, as losses exploded." in text


def test_an_exploded_control_is_said_first_hand() -> None:
    comparison = record({"a": (0.2, 0.1)})
    comparison["arms"]["mean"]["tasks"]["a"]["exploded_seeds"] = [1]
    text = " ".join(describe_comparison(comparison))
    assert "Of the control mean: The loss of a exploded (NEX) in seed 1. Gains over it say nothing." in text


def test_skipped_steps_and_lost_rows() -> None:
    _, text = said({"a": (0.2, 0.1)}, skipped_steps=1, rows_lost=12345)
    assert "1 step skipped, as a loss or gradient was not finite." in text
    assert "12,345 training rows lost with their shards." in text
    _, text = said({"a": (0.2, 0.1)})
    assert "skipped" not in text
    assert "lost" not in text


def test_results_written_before_these_were_counted() -> None:
    comparison = record({"a": (0.2, 0.1)})
    for arm in comparison["arms"].values():
        del arm["skipped_steps"], arm["rows_lost"], arm["tasks"]["a"]["exploded_seeds"]
    assert describe_arm(comparison, "arm").verdict == "gain"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ((-0.4, -1.0, 0.2), "Speed: no change beyond noise, -0.40 % of QPS [-1.00, +0.20]."),
        ((2.0, 1.0, 3.0), "Speed: faster by 2.00 % of QPS [+1.00, +3.00]."),
        ((-1.0, -2.0, -0.5), "costs 1.00 % of QPS [-2.00, -0.50], no more than the 5 %"),
        ((-67.0, -70.0, -66.0), "costs 67.00 % of QPS [-70.00, -66.00], more than the 5 %"),
    ],
)
def test_cost(change: tuple[float, float, float], sentence: str) -> None:
    assert sentence in on_cost({"change_percent": dict(zip(("median", "low", "high"), change, strict=True))})


def test_cost_that_was_not_timed() -> None:
    assert "not timed" in on_cost(None)


@pytest.mark.parametrize(
    ("gain", "sentence"),
    [
        ((0.2, 0.1), "Better than mean on some task, and on none worse beyond noise: arm."),
        ((-0.2, 0.1), "Worse than mean on some task, and better on none beyond noise: arm."),
        ((0.0, 0.1), "No difference from mean beyond noise on any task: arm."),
    ],
)
def test_the_summary_groups_the_arms(gain: tuple[float, float], sentence: str) -> None:
    assert describe_comparison(record({"a": gain}))[0] == sentence


def test_the_best_arm_is_not_praised_for_noise() -> None:
    comparison = record({"a": (0.2, 0.3)})
    comparison["arms"]["arm"]["average_ne_gain_percent"] = interval(0.2, 0.3)
    [best] = [text for text in describe_comparison(comparison) if text.startswith("Highest")]
    assert "arm, +0.200 % [-0.100, +0.500], which is no difference beyond noise. Speed: no change" in best


@pytest.mark.parametrize(("seeds", "warning"), [(1, "Arms with one seed"), (2, "Arms with two seeds"), (3, None)])
def test_few_seeds_are_warned_of(seeds: int, warning: str | None) -> None:
    text = " ".join(describe_comparison(record({"a": (0.2, 0.1)}, seeds)))
    assert ("Arms with" in text) == (warning is not None)
    assert warning is None or warning in text


def test_chance_is_counted() -> None:
    text = describe_comparison(record({"a": (0.2, 0.1), "b": (0.0, 0.1), "c": None}))[-1]
    assert text.startswith("1 of 2 intervals of arms and tasks exclude 0")
    assert "about 0.1 would by chance" in text
