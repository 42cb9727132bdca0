"""Criteo's tables, counted by hand."""

from dlrm_mtl import cli
from dlrm_mtl.planning.options import PlanConfig
from dlrm_mtl.planning.presets import PRESETS

OPTIONS = {name: preset.options for name, preset in PRESETS.items()}


def parse(*arguments: str) -> PlanConfig:
    config = cli.parse(PlanConfig, "plan", arguments, OPTIONS)
    config.check()
    return config


def test_criteo_has_the_tables_of_mlperf() -> None:
    schema = PRESETS["criteo-1tb"].schema
    assert (len(schema.tables), len(schema.dense)) == (26, 13)
    rows = [feature.cardinality for feature in schema.categorical]
    assert sum(rows) == 5 * 40_000_000 + 4_184_588
    assert sum(feature.mean_length for feature in schema.categorical) == 214
    assert {feature.mean_length for feature in schema.categorical if not feature.multi_hot} == {1.0}


def test_a_presets_options_stand_unless_others_are_given() -> None:
    plain = parse("--preset", "criteo-1tb")
    assert (plain.model.embedding_dim, plain.model.interaction, plain.batch_size) == (128, "low_rank_dcn", 65_536)
    given = parse("--model.embedding-dim", "64", "--preset=criteo-1tb", "--batch-size", "1024")
    assert (given.model.embedding_dim, given.model.interaction, given.batch_size) == (64, "low_rank_dcn", 1024)
