"""Sentences from numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from scipy import stats

from dlrm_mtl.reporting.comparison import compare_seeds
from dlrm_mtl.reporting.words.arm import describe_arm
from dlrm_mtl.reporting.words.comparison import describe_comparison
from dlrm_mtl.reporting.words.cost import on_cost
from tests.reporting.runs import summarized

Gain = tuple[float, float] | None


def record(gains: Mapping[str, Gain], seeds: int = 3, control_ne: float | None = 0.9) -> dict[str, Any]:
    """A comparison of ``arm`` with ``mean`` from gains of tasks, as (mean, half width over three seeds), or None."""
    if seeds == 1:
        summaries = [of_seed(0, gains, 0.0, control_ne)]
        for task, gain in gains.items():
            if gain is not None:
                low, high = gain[0] - gain[1], gain[0] + gain[1]
                summaries[0]["arms"]["arm"]["tasks"][task]["ne_gain_percent"].update(low=low, high=high)
    else:
        error = stats.t.ppf(0.975, seeds - 1) / seeds**0.5
        deviations = [-1.0, 1.0] + [0.0] * (seeds - 2)
        spread = stats.tstd(deviations) * error
        summaries = [of_seed(n, gains, deviation / spread, control_ne) for n, deviation in enumerate(deviations)]
    return compare_seeds(list(gains), summaries, {})


def of_seed(number: int, gains: Mapping[str, Gain], deviation: float, control_ne: float | None) -> dict[str, Any]:
    arm = [None if gain is None else 0.9 - (gain[0] + deviation * gain[1]) / 100 for gain in gains.values()]
    nes: dict[str, Sequence[float | None]] = {"mean": [0.9] * len(gains), "arm": arm}
    summary = summarized(number, nes, tuple(gains))
    if control_ne != 0.9:
        for task in summary["arms"]["mean"]["tasks"].values():
            task["ne"] = control_ne
    return summary


def said(gains: Mapping[str, Gain], seeds: int = 3) -> tuple[str, str]:
    words = describe_arm(record(gains, seeds), "arm")
    return words.label, " ".join(words.sentences)


def test_gains_alone() -> None:
    label, text = said({"a": (0.2, 0.05), "b": (0.08, 0.01)})
    assert label == "gains, no task loses 0.05"
    assert "Better on a +0.200 % [+0.150, +0.250] and b +0.080 % [+0.070, +0.090]." in text
    assert "No task loses 0.05." in text
    assert "Worse" not in text
    assert "nconclusive" not in text.partition("Speed")[0]
    assert "On average over tasks better: +0.140 %" in text


def test_losses_alone() -> None:
    label, text = said({"a": (-0.2, 0.05), "b": (-0.1, 0.03)})
    assert label == "tasks lose, none is shown to gain"
    assert "Worse on a -0.200 % [-0.250, -0.150] and b" in text
    assert "Better" not in text
    assert "A loss of 0.05 or more is not ruled out on a (down to -0.250) and b (down to -0.130)." in text
    assert "On average over tasks worse: -0.150 %" in text


def test_a_gain_bought_with_a_loss() -> None:
    label, text = said({"a": (0.2, 0.05), "b": (-0.2, 0.05), "c": (0.1, 0.3)})
    assert label == "some tasks gain, others lose"
    assert "Better on a" in text
    assert "Worse on b" in text
    assert "Inconclusive on c +0.100 % [-0.200, +0.400]" in text


def test_no_loss_that_was_seen_is_not_the_absence_of_loss() -> None:
    """The interval of b includes 0 and a loss of 0.2."""
    label, text = said({"a": (0.2, 0.05), "b": (0.0, 0.2)})
    assert label == "gains, but a loss of 0.05 on some task is not ruled out"
    assert "A loss of 0.05 or more is not ruled out on b (down to -0.200)." in text
    assert "No task loses" not in text


def test_equivalent_is_told_from_inconclusive() -> None:
    label, text = said({"a": (0.01, 0.008), "b": (-0.001, 0.01)})
    assert label == "equivalent: every task within 0.05 of the control"
    assert "on a +0.010 % [+0.002, +0.018] (a gain too small to matter) and b -0.001 % [-0.011, +0.009]." in text
    label, text = said({"a": (0.01, 0.3), "b": (-0.001, 0.01)})
    assert label == "inconclusive"
    assert "Equivalent, within 0.05 either way, on b" in text


def test_what_is_inconclusive_says_what_would_have_shown() -> None:
    comparison = record({"a": (0.01, 0.3)})
    detectable = comparison["arms"]["arm"]["tasks"]["a"]["ne_gain_percent"]["detectable"]
    assert detectable > 0.3
    text = " ".join(describe_arm(comparison, "arm").sentences)
    assert f"a +0.010 % [-0.290, +0.310] (a difference of {detectable:.3f} or more would have shown)" in text


def test_a_difference_by_itself_may_be_none_among_many() -> None:
    gains: dict[str, Gain] = {"a": (0.1, 0.09), **{f"other{index}": (0.0, 0.2) for index in range(5)}}
    label, text = said(gains)
    assert label == "inconclusive"
    assert "would have shown; by itself a gain, not among so many)" in text


def test_one_seed_has_no_verdict() -> None:
    label, text = said({"a": (0.2, 0.05), "b": (-0.2, 0.05), "c": (0.1, 0.3)}, seeds=1)
    assert label == "no verdict: one seed, this pair of models only"
    assert "higher on a +0.200 % [+0.150, +0.250]; lower on b -0.200 %" in text
    assert "not told apart on c +0.100 % [-0.200, +0.400]." in text
    assert "Better" not in text
    assert "No task loses" not in text


def test_explosions() -> None:
    comparison = record({"a": None, "b": (0.2, 0.1)})
    words = describe_arm(comparison, "arm")
    assert words.label == "loss exploded"
    assert words.sentences[0] == "The loss of a exploded (NEX) in seeds 0, 1 and 2."
    assert "There is no average over tasks, as the loss of one exploded." in words.sentences
    text = " ".join(describe_comparison(comparison))
    assert "The loss exploded (NEX): arm." in text
    assert "No arm has an average gain, as losses exploded." in text


def test_an_exploded_control_is_said_first_hand() -> None:
    text = " ".join(describe_comparison(record({"a": (0.2, 0.1)}, control_ne=2.5)))
    assert "Of the control mean: The loss of a exploded (NEX) in seeds 0, 1 and 2. Gains over it say nothing." in text


def test_skipped_steps_and_lost_rows() -> None:
    comparison = record({"a": (0.2, 0.1)})
    assert not any("skipped" in text or "lost" in text for text in describe_arm(comparison, "arm").sentences)
    comparison["arms"]["arm"].update(skipped_steps=1, rows_lost=12345)
    text = " ".join(describe_arm(comparison, "arm").sentences)
    assert "1 step skipped, as a loss or gradient was not finite." in text
    assert "12,345 training rows lost with their shards." in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ((-0.4, -1.0, 0.2), "no cost is shown, -0.40 % of QPS [-1.00, +0.20]; it costs less than the 5 %"),
        ((2.0, 1.0, 3.0), "Speed: faster, +2.00 % of QPS [+1.00, +3.00]."),
        ((-1.0, -2.0, -0.5), "costs some speed, -1.00 % of QPS [-2.00, -0.50]; it costs less than the 5 %"),
        ((-4.84, -15.4, -1.4), "costs some speed, -4.84 % of QPS [-15.40, -1.40]; a cost of more than the 5 %"),
        ((-4.0, -15.0, 1.0), "inconclusive, -4.00 % of QPS [-15.00, +1.00]; a cost of more than the 5 %"),
        ((-67.0, -70.0, -66.0), "costs -67.00 % of QPS [-70.00, -66.00], more than the 5 %"),
        ((-0.4, None, None), "-0.40 % of QPS, without an interval"),
    ],
)
def test_cost(change: tuple[float, float | None, float | None], sentence: str) -> None:
    assert sentence in on_cost({"change_percent": dict(zip(("median", "low", "high"), change, strict=True))})


def test_cost_that_was_not_timed() -> None:
    assert "not timed" in on_cost(None)


@pytest.mark.parametrize(
    ("gain", "sentence"),
    [
        ((0.2, 0.1), "Better than mean on some task, and no task loses 0.05: arm."),
        ((-0.2, 0.1), "Worse than mean on some task, and better on none that is shown: arm."),
        ((0.001, 0.01), "Equivalent to mean: within 0.05 on every task: arm."),
        ((0.1, 0.14), "No task loses 0.05 against mean, and none is shown to gain: arm."),
        ((0.0, 0.1), "Inconclusive: neither better nor worse than mean is shown"),
    ],
)
def test_the_summary_groups_the_arms(gain: tuple[float, float], sentence: str) -> None:
    assert describe_comparison(record({"a": gain}))[0].startswith(sentence)


def test_the_best_arm_is_not_praised_for_noise() -> None:
    [best] = [text for text in describe_comparison(record({"a": (0.2, 0.3)})) if text.startswith("Highest")]
    assert best.startswith("Highest average NE gain: arm, +0.200 % [-0.100, +0.500], inconclusive. Speed:")


def test_the_best_of_several_is_flattered() -> None:
    seeds = [summarized(n, {"mean": (0.9, 0.9), "x": (0.89, 0.9 - n / 1000), "y": (0.88, 0.9)}) for n in range(3)]
    comparison = compare_seeds(("click", "buy"), seeds, {})
    [best] = [text for text in describe_comparison(comparison) if text.startswith("Highest")]
    assert "It is the highest of 2, which flatters it" in best


@pytest.mark.parametrize(("seeds", "warning"), [(1, "Arms with one seed"), (2, "Arms with two seeds"), (3, None)])
def test_few_seeds_are_warned_of(seeds: int, warning: str | None) -> None:
    text = " ".join(describe_comparison(record({"a": (0.2, 0.1)}, seeds)))
    assert ("Arms with" in text) == (warning is not None)
    assert warning is None or warning in text


def test_what_intervals_do_not_cover_is_said() -> None:
    text = " ".join(describe_comparison(record({"a": (0.2, 0.1)})))
    assert "hold for other seeds on these evaluation rows only" in text
    assert "taken as independent" not in text
    of_one = " ".join(describe_comparison(record({"a": (0.2, 0.1)}, seeds=1)))
    assert "Evaluation rows are taken as independent" in of_one
    comparison = {**record({"a": (0.2, 0.1)}, seeds=1), "clusters": "user_id"}
    assert "rows of one user_id count as one draw" in " ".join(describe_comparison(comparison))


def test_ties_are_flagged() -> None:
    comparison = record({"a": (0.2, 0.1)})
    assert "tied" not in " ".join(describe_comparison(comparison))
    comparison["arms"]["arm"]["tasks"]["a"]["tied_pairs"] = 0.25
    assert "many are tied: a (arm: 25.0 % of pairs)." in " ".join(describe_comparison(comparison))


def test_chance_is_counted() -> None:
    text = " ".join(describe_comparison(record({"a": (0.2, 0.1), "b": (0.0, 0.1), "c": None})))
    assert "1 of 2 intervals of arms and tasks exclude 0, each by itself; were there no difference" in text
    assert "at all, 0 to 1 would" in text
