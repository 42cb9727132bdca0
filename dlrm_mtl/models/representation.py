"""From pooled embeddings and dense features to the representation.

Notation: B batch, N dense features, F categorical features, D width of the representation.
"""

from torch import Tensor, nn
from torchrec.models.dlrm import DenseArch
from torchrec.modules.mlp import MLP
from torchrec.sparse.jagged_tensor import KeyedTensor

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.embeddings import embedding_dims
from dlrm_mtl.models.interaction import build_interaction
from dlrm_mtl.module_names import escape
from dlrm_mtl.schema import Schema


class Representation(nn.Module):
    """Bottom MLP, interaction, and the over-arch if the configuration has one."""

    def __init__(self, schema: Schema, config: ModelConfig) -> None:
        super().__init__()
        dims = embedding_dims(schema, config)
        self._keys = [escape(feature) for feature in dims]
        self._has_dense = len(schema.dense) > 0
        # Without dense features the bottom MLP learns a constant.
        self.bottom = DenseArch(max(len(schema.dense), 1), [*config.bottom_mlp, config.embedding_dim])
        self.interaction = build_interaction(config, list(dims.values()))
        width = self.interaction.out_features
        self.over = MLP(width, list(config.over_mlp)) if config.over_mlp else nn.Identity()
        self.out_features = config.over_mlp[-1] if config.over_mlp else width

    def forward(self, embeddings: KeyedTensor, dense: Tensor) -> Tensor:
        """
        Args:
            embeddings: F pooled embeddings (B, D_f), by the features' names in the model, in an order that depends on
                the sharding plan.
            dense: (B, N).

        Returns:
            (B, D).
        """
        by_name = embeddings.to_dict()
        inputs = dense if self._has_dense else dense.new_ones(len(dense), 1)
        mixed = self.interaction(self.bottom(inputs), [by_name[key] for key in self._keys])
        output: Tensor = self.over(mixed)
        return output
