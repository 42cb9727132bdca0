"""Names of the model's parts that have several forms, with their classes.

A new one is one file, and one line here.
"""

from collections.abc import Mapping
from types import MappingProxyType

INTERACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "dot": "dlrm_mtl.models.interactions.dot:Dot",
        "concat": "dlrm_mtl.models.interactions.concat:Concat",
        "dcn": "dlrm_mtl.models.interactions.dcn:DCN",
        "low_rank_dcn": "dlrm_mtl.models.interactions.dcn:LowRankDCN",
        "deepfm": "dlrm_mtl.models.interactions.deepfm:DeepFM",
        "projection": "dlrm_mtl.models.interactions.projection:Projection",
    }
)
"""Where table and dense embeddings meet."""

SHARING: Mapping[str, str] = MappingProxyType(
    {
        "bottom": "dlrm_mtl.models.sharing.bottom:Bottom",
        "mmoe": "dlrm_mtl.models.sharing.mmoe:MMoE",
        "cgc": "dlrm_mtl.models.sharing.cgc:CGC",
        "ple": "dlrm_mtl.models.sharing.ple:PLE",
        "adatt": "dlrm_mtl.models.sharing.adatt:AdaTT",
        "stem": "dlrm_mtl.models.sharing.stem:STEM",
        "cross_stitch": "dlrm_mtl.models.sharing.cross_stitch:CrossStitch",
    }
)
"""What the tasks share between the interaction and their heads."""

RELATIONS: Mapping[str, str] = MappingProxyType(
    {
        "independent": "dlrm_mtl.models.relations.relation:Relation",
        "esmm": "dlrm_mtl.models.relations.esmm:ESMM",
        "esm2": "dlrm_mtl.models.relations.esm2:ESM2",
    }
)
"""How the tasks' probabilities come from the heads."""
