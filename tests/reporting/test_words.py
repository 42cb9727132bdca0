"""Sentences from numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from scipy import stats

from dlrm_mtl.reporting.comparison import compare_seeds
from dlrm_mtl.reporting.words.arm import Claim, describe_arm
from dlrm_mtl.reporting.words.comparison import OF_ARMS, describe_comparison
from dlrm_mtl.reporting.words.cost import cost_claim, on_cost
from tests.messages import mentions
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


def said(gains: Mapping[str, Gain], seeds: int = 3) -> tuple[str, list[str], str]:
    """The claim of an arm, and its sentences, by themselves and together."""
    words = describe_arm(record(gains, seeds), "arm")
    return words.claim, list(words.sentences), " ".join(words.sentences)


def sentence_of(sentences: Sequence[str], *parts: object) -> str:
    """The one sentence that names these."""
    [sentence] = [text for text in sentences if mentions(text, *parts)]
    return sentence


def test_gains_alone() -> None:
    claim, sentences, text = said({"a": (0.2, 0.05), "b": (0.08, 0.01)})
    assert claim == "gain"
    sentence_of(sentences, "a +0.200 % [+0.150, +0.250]", "b +0.080 % [+0.070, +0.090]")
    sentence_of(sentences, "average", "+0.140 %")
    assert "Worse" not in text
    assert "nconclusive" not in text.partition("Speed")[0]


def test_losses_alone() -> None:
    claim, sentences, text = said({"a": (-0.2, 0.05), "b": (-0.1, 0.03)})
    assert claim == "loss"
    sentence_of(sentences, "a -0.200 % [-0.250, -0.150]", "b")
    sentence_of(sentences, "0.05", "a (down to -0.250)", "b (down to -0.130)")
    sentence_of(sentences, "average", "-0.150 %")
    assert "Better" not in text


def test_a_gain_bought_with_a_loss() -> None:
    claim, sentences, _ = said({"a": (0.2, 0.05), "b": (-0.2, 0.05), "c": (0.1, 0.3)})
    assert claim == "trade-off"
    gained, lost, unclear = (
        sentence_of(sentences, task) for task in ("a +0.200 %", "b -0.200 %", "c +0.100 % [-0.200, +0.400]")
    )
    assert len({gained, lost, unclear}) == 3


def test_no_loss_that_was_seen_is_not_the_absence_of_loss() -> None:
    """The interval of b includes 0 and a loss of 0.2."""
    claim, sentences, text = said({"a": (0.2, 0.05), "b": (0.0, 0.2)})
    assert claim == "gain-open"
    sentence_of(sentences, "0.05", "b (down to -0.200)")
    assert "No task loses" not in text


def test_equivalent_is_told_from_inconclusive() -> None:
    claim, sentences, _ = said({"a": (0.01, 0.008), "b": (-0.001, 0.01)})
    assert claim == "equivalent"
    sentence_of(sentences, "a +0.010 % [+0.002, +0.018]", "gain", "b -0.001 % [-0.011, +0.009]")
    claim, sentences, _ = said({"a": (0.01, 0.3), "b": (-0.001, 0.01)})
    assert claim == "inconclusive"
    assert sentence_of(sentences, "Equivalent", "0.05", "b") != sentence_of(sentences, "Inconclusive", "a")


def test_what_is_inconclusive_says_what_would_have_shown() -> None:
    comparison = record({"a": (0.01, 0.3)})
    detectable = comparison["arms"]["arm"]["tasks"]["a"]["ne_gain_percent"]["detectable"]
    assert detectable > 0.3
    sentence_of(describe_arm(comparison, "arm").sentences, "a +0.010 % [-0.290, +0.310]", f"{detectable:.3f}")


def test_a_difference_by_itself_may_be_none_among_many() -> None:
    gains: dict[str, Gain] = {"a": (0.1, 0.09), **{f"other{index}": (0.0, 0.2) for index in range(5)}}
    claim, sentences, _ = said(gains)
    assert claim == "inconclusive"
    assert sentence_of(sentences, "a +0.100 %", "other0").count("a gain by itself") == 1


def test_one_seed_has_no_verdict() -> None:
    claim, sentences, text = said({"a": (0.2, 0.05), "b": (-0.2, 0.05), "c": (0.1, 0.3)}, seeds=1)
    assert claim == "one-pair"
    sentence_of(
        sentences, "higher", "a +0.200 % [+0.150, +0.250]", "lower", "b -0.200 %", "c +0.100 % [-0.200, +0.400]"
    )
    assert "Better" not in text
    assert "No task loses" not in text


def test_explosions() -> None:
    comparison = record({"a": None, "b": (0.2, 0.1)})
    words = describe_arm(comparison, "arm")
    assert words.claim == "exploded"
    sentence_of(words.sentences, "a", "NEX", "seeds 0, 1 and 2")
    sentences = describe_comparison(comparison)
    sentence_of(sentences, "NEX", "arm")
    assert not any(sentence.startswith("Highest") for sentence in sentences)


def test_an_exploded_control_is_said_first_hand() -> None:
    sentence_of(
        describe_comparison(record({"a": (0.2, 0.1)}, control_ne=2.5)), "control mean", "a", "NEX", "seeds 0, 1 and 2"
    )


def test_skipped_steps_and_lost_rows() -> None:
    comparison = record({"a": (0.2, 0.1)})
    assert not any("skipped" in text or "lost" in text for text in describe_arm(comparison, "arm").sentences)
    comparison["arms"]["arm"].update(skipped_steps=1, rows_lost=12345)
    sentences = describe_arm(comparison, "arm").sentences
    sentence_of(sentences, "1 step", "skipped")
    sentence_of(sentences, "12,345 training rows", "lost")


@pytest.mark.parametrize(
    ("change", "claim", "numbers"),
    [
        ((-0.4, -1.0, 0.2), "costs less than 5 %", "-0.40 % of QPS [-1.00, +0.20]"),
        ((2.0, 1.0, 3.0), "faster", "+2.00 % of QPS [+1.00, +3.00]"),
        ((-1.0, -2.0, -0.5), "costs less than 5 %", "-1.00 % of QPS [-2.00, -0.50]"),
        ((-4.84, -15.4, -1.4), "cost not settled", "-4.84 % of QPS [-15.40, -1.40]"),
        ((-4.0, -15.0, 1.0), "cost not settled", "-4.00 % of QPS [-15.00, +1.00]"),
        ((-67.0, -70.0, -66.0), "costs more than 5 %", "-67.00 % of QPS [-70.00, -66.00]"),
        ((-0.4, None, None), "no interval", "-0.40 % of QPS"),
        (None, "not timed", "not timed"),
    ],
)
def test_cost(change: tuple[float, float | None, float | None] | None, claim: str, numbers: str) -> None:
    qps = change and {"change_percent": dict(zip(("median", "low", "high"), change, strict=True))}
    assert cost_claim(qps) == claim
    assert mentions(on_cost(qps), numbers)
    assert ("not ruled out" in on_cost(qps)) == (claim == "cost not settled")


@pytest.mark.parametrize(
    ("gain", "claim"),
    [
        ((0.2, 0.1), "gain"),
        ((-0.2, 0.1), "loss"),
        ((0.001, 0.01), "equivalent"),
        ((0.1, 0.14), "no-loss"),
        ((0.0, 0.1), "inconclusive"),
    ],
)
def test_the_summary_groups_the_arms(gain: tuple[float, float], claim: Claim) -> None:
    assert describe_comparison(record({"a": gain}))[0] == f"{OF_ARMS[claim].format(control='mean')}: arm."


def test_the_best_arm_is_not_praised_for_noise() -> None:
    [best] = [text for text in describe_comparison(record({"a": (0.2, 0.3)})) if text.startswith("Highest")]
    assert mentions(best, "arm", "+0.200 % [-0.100, +0.500]", "inconclusive", "Speed")


def test_the_best_of_several_is_flattered() -> None:
    seeds = [summarized(n, {"mean": (0.9, 0.9), "x": (0.89, 0.9 - n / 1000), "y": (0.88, 0.9)}) for n in range(3)]
    comparison = compare_seeds(("click", "buy"), seeds, {})
    assert mentions(" ".join(describe_comparison(comparison)), "Highest", "highest of 2")


@pytest.mark.parametrize(("seeds", "warning"), [(1, "Arms with one seed"), (2, "Arms with two seeds"), (3, None)])
def test_few_seeds_are_warned_of(seeds: int, warning: str | None) -> None:
    text = " ".join(describe_comparison(record({"a": (0.2, 0.1)}, seeds)))
    assert ("Arms with" in text) == (warning is not None)
    assert warning is None or warning in text


def test_what_intervals_do_not_cover_is_said() -> None:
    """Whether other rows, and whether rows of one user were taken as independent."""
    comparison = record({"a": (0.2, 0.1)})
    assert sentence_of(describe_comparison(comparison), "other seeds", "these evaluation rows only")
    assert not mentions(" ".join(describe_comparison(comparison)), "independent")
    of_one = record({"a": (0.2, 0.1)}, seeds=1)
    assert sentence_of(describe_comparison(of_one), "independent", "cluster")
    assert sentence_of(describe_comparison({**of_one, "clusters": "user_id"}), "user_id")


def test_ties_are_flagged() -> None:
    comparison = record({"a": (0.2, 0.1)})
    assert "tied" not in " ".join(describe_comparison(comparison))
    comparison["arms"]["arm"]["tasks"]["a"]["tied_pairs"] = 0.25
    assert sentence_of(describe_comparison(comparison), "tied", "a (arm: 25.0 % of pairs)")


def test_chance_is_counted() -> None:
    sentences = describe_comparison(record({"a": (0.2, 0.1), "b": (0.0, 0.1), "c": None}))
    assert sentence_of(sentences, "1 of 2 intervals", "exclude 0", "0 to 1")
