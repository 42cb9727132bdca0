"""Weights of the average over tasks: parsed, checked, shared out."""

from pathlib import Path

import pytest

from dlrm_mtl.run_config import CompareConfig, ExperimentConfig
from dlrm_mtl.task_weights import parse_task_weights, share_weights
from tests.messages import naming


def test_every_task_has_its_share() -> None:
    assert share_weights(["like=1", "click=3"], ["click", "like"]) == {"click": 0.75, "like": 0.25}
    assert list(share_weights(["like=1", "click=3"], ["click", "like"])) == ["click", "like"]
    assert share_weights(["a=b=1", "a=3"], ["a", "a=b"]) == {"a": 0.75, "a=b": 0.25}


def test_equal_by_default() -> None:
    assert share_weights([], ["a", "b", "c", "d"]) == dict.fromkeys("abcd", 0.25)


def test_large_numbers_do_not_overflow() -> None:
    assert share_weights(["a=1e308", "b=1e308"], ["a", "b"]) == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["click"], "'click' is not of the form TASK=WEIGHT"),
        (["=1"], "'=1' is not of the form TASK=WEIGHT"),
        (["click=1", "click=2"], "task 'click' occurs twice"),
        *(
            ([f"click={number}"], f"'click={number}', expected a positive number")
            for number in ("0", "-1", "nan", "inf", "", "x")
        ),
    ],
)
def test_a_wrong_weight_is_named(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match="task_weights: ") as error:
        parse_task_weights(texts)
    assert message in str(error.value)
    for kind in (CompareConfig, ExperimentConfig):
        with pytest.raises(ValueError, match="task_weights: "):
            kind(Path("data"), Path("out"), task_weights=tuple(texts))


@pytest.mark.parametrize("texts", [["click=1"], ["click=1", "like=1", "buy=1"], ["click=1", "lik\x1be=1"]])
def test_every_task_and_no_other_is_named(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=naming("task_weights", "['click'")) as error:
        share_weights(texts, ["click", "like"])
    assert "\x1b" not in str(error.value)


def test_experiments_hand_them_on() -> None:
    config = ExperimentConfig(Path("data"), Path("out"), task_weights=("click=2",))
    assert config.comparison(Path("out/table3"), ("mean", "sum")).task_weights == ("click=2",)


def test_seeds_that_are_planned() -> None:
    def planned(**options: int) -> list[int]:
        return list(CompareConfig(Path("data"), Path("out"), **options).seeds_planned)  # type: ignore[arg-type]

    assert planned(seeds=2, first_seed=3) == [3, 4]
    assert planned(seeds=2, first_seed=3, planned_seeds=6) == [0, 1, 2, 3, 4, 5]
