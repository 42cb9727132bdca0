"""From pooled embeddings and dense features to the representation.

Notation: B batch, N dense features, F categorical features, D width of the representation.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torchrec.models.dlrm import DenseArch
from torchrec.modules.mlp import MLP

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.model_schema import ModelSchema
from dlrm_mtl.models.embeddings import embedding_dims, embedding_names, table_owners
from dlrm_mtl.models.interaction import build_interaction
from dlrm_mtl.models.numeric import PeriodicEmbeddings
from dlrm_mtl.module_names import owner_of


class Representation(nn.Module):
    """Bottom MLP, embeddings of dense features and over-arch if the configuration has them, and interaction.

    Args:
        owner: of the tables that it reads; by default the shared ones.
    """

    def __init__(self, schema: ModelSchema, config: ModelConfig, owner: str = "") -> None:
        super().__init__()
        dims = list(embedding_dims(schema, config).values())
        self._keys = embedding_names(schema, config, owner)
        self._has_dense = len(schema.dense) > 0
        # Without dense features the bottom MLP learns a constant.
        self.bottom = DenseArch(max(len(schema.dense), 1), [*config.bottom_mlp, config.embedding_dim])
        self.numeric: PeriodicEmbeddings | None = None
        if schema.dense and config.numeric_frequencies:
            self.numeric = PeriodicEmbeddings(
                len(schema.dense), config.numeric_frequencies, config.numeric_deviation, config.embedding_dim
            )
            dims += [config.embedding_dim] * len(schema.dense)
        self.interaction = build_interaction(config, dims)
        width = self.interaction.out_features
        self.over = MLP(width, list(config.over_mlp)) if config.over_mlp else nn.Identity()
        self.out_features = config.over_mlp[-1] if config.over_mlp else width

    def forward(self, embeddings: Mapping[str, Tensor], dense: Tensor) -> Tensor:
        """
        Args:
            embeddings: pooled embeddings (B, D_f) of all tables, by their names. A :class:`KeyedTensor` has them in an
                order that depends on the sharding plan.
            dense: (B, N).

        Returns:
            (B, D).
        """
        inputs = dense if self._has_dense else dense.new_ones(dense.shape[0], 1)
        numeric = [] if self.numeric is None else self.numeric(dense)
        mixed = self.interaction(self.bottom(inputs), [*(embeddings[key] for key in self._keys), *numeric])
        output: Tensor = self.over(mixed)
        return output


class OwnRepresentations(nn.ModuleDict):
    """The representation of each task that owns tables, from these tables. Nothing in it is shared."""

    def __init__(self, schema: ModelSchema, config: ModelConfig) -> None:
        super().__init__({owner: Representation(schema, config, owner) for owner in table_owners(schema, config)})

    def forward(self, embeddings: Mapping[str, Tensor], dense: Tensor, heads: Sequence[str]) -> list[Tensor]:
        """As :meth:`Representation.forward`, for the owner of each head: (B, D); nothing if there are no owners."""
        by_owner = {owner: representation(embeddings, dense) for owner, representation in self.items()}
        return [by_owner[owner_of(head)] for head in heads if by_owner]
