"""What a search of static weights is said to have found."""

from typing import Any

from dlrm_mtl.studies.search import describe_search


def record(*gains: float | None) -> dict[str, Any]:
    exploded = None in gains
    known = [gain for gain in gains if gain is not None]
    return {
        "average_ne_gain_percent": None if exploded else {"mean": sum(known) / len(known)},
        "tasks": {f"t{i}": {"ne_gain_percent": None if g is None else {"mean": g}} for i, g in enumerate(gains)},
    }


def comparison(balancer: dict[str, Any], *trials: dict[str, Any]) -> dict[str, Any]:
    arms = {"mean": record(0.0, 0.0), "multibalance_recommended": balancer}
    return {"arms": {**arms, **{f"static:weights={i}": trial for i, trial in enumerate(trials)}}}


def test_the_first_that_is_as_good() -> None:
    text = describe_search(
        comparison(record(0.2, 0.4), record(0.1, 0.9), record(0.2, 0.4), record(0.3, 0.6), record(0.0, 5.0))
    )
    assert "average +0.300, worst task +0.200, in one training" in text
    assert "first, trial 2, `static:weights=1`: average +0.300, worst +0.200." in text
    assert "costs 2 trainings" in text
    assert "Of the 2 whose worst task loses no more than under the balancer the best is `static:weights=2`" in text


def test_none_is_as_good() -> None:
    text = describe_search(comparison(record(0.2, 0.4), record(0.2, 0.2), record(-1.0, 2.0)))
    assert "None of 2 random weightings is as good" in text
    assert "Of the 1 whose worst task loses no more" in text


def test_none_spares_the_worst_task() -> None:
    text = describe_search(comparison(record(0.2, 0.4), record(0.1, 2.0), record(-1.0, 2.0)))
    assert "In every one of them some task loses more than under the balancer." in text
    assert "`static:weights=0`, gains +0.100" in text


def test_explosions_are_counted() -> None:
    text = describe_search(comparison(record(0.2, 0.4), record(0.2, 0.2), record(None, 2.0)))
    assert "1 of 2 weightings exploded" in text
    assert "exploded in some seed" in describe_search(comparison(record(None, 0.4), record(0.2, 0.2)))
