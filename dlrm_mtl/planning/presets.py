"""Models that can be planned without a data set. Imports no torch, so that ``--help`` is quick."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.schema import SPLITS, Schema, Shard

PresetName = Literal["criteo-1tb"]

# The tables of MLPerf Training's DLRM-DCNv2 on the Criteo 1 TB logs, ids capped at 40 million, and the ids per row of
# its synthetic multi-hot data: --num_embeddings_per_feature and --multi_hot_sizes of the reference, mlcommons/training,
# recommendation_v2/torchrec_dlrm/README.MD.
CRITEO_ROWS = (
    *(40_000_000, 39_060, 17_295, 7_424, 20_265, 3, 7_122, 1_543, 63, 40_000_000, 3_067_956, 405_282, 10, 2_209),
    *(11_938, 155, 4, 976, 14, 40_000_000, 40_000_000, 40_000_000, 590_152, 12_973, 108, 36),
)
CRITEO_IDS_PER_ROW = (3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1)


@dataclass(frozen=True)
class Preset:
    """The schema of a published data set, and default options for it."""

    schema: Schema
    options: Mapping[str, Any]
    """In the form of a configuration file."""


def _criteo_1tb() -> Preset:
    """MLPerf's DLRM-DCNv2, its over-arch (1024, 1024, 512, 256) split into a shared part and heads. The logs have one
    label; the preset has three heads, as a multi-task ranker would: each adds 4 % to the dense part."""
    schema = Schema(
        name="criteo-1tb",
        categorical=tuple(
            CategoricalFeature(f"cat_{i}", rows, multi_hot=ids > 1, mean_length=float(ids))
            for i, (rows, ids) in enumerate(zip(CRITEO_ROWS, CRITEO_IDS_PER_ROW, strict=True))
        ),
        dense=tuple(f"int_{i}" for i in range(13)),
        tasks=tuple(Task(f"task_{i}", f"label_{i}", base_rate=0.03) for i in range(3)),
        splits={split: (Shard(f"{split}/none", 0),) for split in SPLITS},
    )
    model = {
        "interaction": "low_rank_dcn",
        "embedding_dim": 128,
        "bottom_mlp": [512, 256],
        "cross_layers": 3,
        "cross_rank": 512,
        "over_mlp": [1024, 1024],
        "head_mlp": [512, 256],
    }
    return Preset(schema, {"batch_size": 65_536, "model": model})


PRESETS: Mapping[str, Preset] = MappingProxyType({"criteo-1tb": _criteo_1tb()})
