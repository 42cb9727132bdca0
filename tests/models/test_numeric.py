"""Periodic embeddings of dense features: their formula, and where the interaction takes them."""

from typing import Any

import numpy as np
import pytest
import torch

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.embeddings import embedding_dims
from dlrm_mtl.models.numeric import PeriodicEmbeddings
from dlrm_mtl.models.option_reads import OptionReads
from dlrm_mtl.models.representation import Representation
from tests.models.batches import SCHEMA, WITHOUT_DENSE, pooled

ROWS, FEATURES, FREQUENCIES, DIM = 7, 3, 5, 4


def test_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    module = PeriodicEmbeddings(FEATURES, FREQUENCIES, 0.5, DIM)
    dense = torch.randn(ROWS, FEATURES)
    found = module(dense)
    x, c, w, b = (value.detach().double().numpy() for value in (dense, *module.parameters()))
    assert len(found) == FEATURES
    for n in range(FEATURES):
        angles = 2 * np.pi * x[:, n, None] * c[n]
        expected = np.maximum(np.concatenate([np.cos(angles), np.sin(angles)], axis=1) @ w[n] + b[n], 0)
        assert (expected > 0).any()
        np.testing.assert_allclose(found[n].detach(), expected, rtol=1e-4, atol=1e-5)


def test_initial_frequencies_have_the_deviation_asked_for() -> None:
    torch.manual_seed(0)
    for deviation in (0.1, 3.0):
        frequencies = PeriodicEmbeddings(50, 200, deviation, DIM).frequencies
        assert frequencies.std().item() == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize("interaction", ["dot", "low_rank_dcn"])
def test_the_interaction_takes_them_behind_the_categorical_features(interaction: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(interaction, numeric_frequencies=FREQUENCIES)
    shared = Representation(SCHEMA, config)
    embeddings, dense = pooled(embedding_dims(SCHEMA, config), ROWS), torch.randn(ROWS, len(SCHEMA.dense))
    taken: list[Any] = []
    shared.interaction.register_forward_pre_hook(lambda module, inputs: taken.extend(inputs[1]))
    output = shared(embeddings, dense)
    assert shared.numeric is not None
    expected = [*embeddings.values(), *shared.numeric(dense)]
    assert all(torch.equal(*pair) for pair in zip(taken, expected, strict=True))
    output.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in shared.numeric.parameters())


def test_without_dense_features_the_option_has_no_effect() -> None:
    config = OptionReads.of(ModelConfig(numeric_frequencies=FREQUENCIES))
    assert Representation(WITHOUT_DENSE, config).numeric is None
    assert config.unread()["numeric_frequencies"] == FREQUENCIES
