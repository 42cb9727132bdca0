"""The arms of each experiment."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlrm_mtl.arms import check_arm
from dlrm_mtl.balancing import available_balancers
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import ExperimentConfig
from dlrm_mtl.studies.catalog import STUDIES, random_weightings, study_arms
from tests.messages import naming

CONFIG = ExperimentConfig(Path("data"), Path("out"))


@pytest.mark.parametrize("study", STUDIES)
def test_every_arm_can_be_built_and_the_control_is_first(study: str) -> None:
    arms = study_arms(study, CONFIG, num_tasks=3)
    assert arms[0] == "mean"
    assert len(set(arms)) == len(arms)
    for arm in arms:
        check_arm(parse_recipe(arm), ("a", "b", "c"))


def test_table_3_has_every_method() -> None:
    """Except the mean with another learning rate, and what the search of static weights tries."""
    methods = {parse_recipe(arm).method for arm in study_arms("table3", CONFIG, 3)}
    assert {*available_balancers()} - methods == {"sum", "static"}


def test_parameters_of_the_interaction_are_a_target_where_there_are_any() -> None:
    levels = [arm for arm in study_arms("table2", replace(CONFIG, model=ModelConfig("dot")), 3) if "level=" in arm]
    assert levels == ["mgda:level=dense", "mgda:level=embedding", "moco:level=dense", "moco:level=embedding"]
    cross = replace(CONFIG, model=ModelConfig("dcn"))
    assert "mgda:level=interaction" in study_arms("table2", cross, 3)


def test_weightings_are_on_the_simplex_and_repeat() -> None:
    arms = random_weightings(4, trials=50)
    assert arms == random_weightings(4, trials=50)
    weights = np.array([parse_recipe(arm).options["weights"] for arm in arms])
    assert weights.shape == (50, 4)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=3e-4)
    np.testing.assert_allclose(weights.mean(axis=0), 0.25, atol=0.1)


def test_an_unknown_experiment_is_named() -> None:
    with pytest.raises(ValueError, match=naming("'table9'", "table2, table3")):
        study_arms("table9", CONFIG, 3)


def test_a_comparison_takes_over_all_options() -> None:
    config = replace(CONFIG, batch_size=64, max_steps=7, seeds=2)
    comparison = config.comparison(Path("out/x"), ("mean", "sum"))
    assert (comparison.batch_size, comparison.max_steps, comparison.seeds) == (64, 7, 2)
    assert (comparison.out, comparison.arms) == (Path("out/x"), ("mean", "sum"))
