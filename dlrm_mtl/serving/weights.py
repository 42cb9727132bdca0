"""The weights of a stored model, from a checkpoint of any ranks and sharding plan to plain modules."""

from torch import Tensor

from dlrm_mtl.distributed.checkpoint_directory import find_damage
from dlrm_mtl.distributed.saved_model import fill
from dlrm_mtl.distributed.tensor_description import read_description
from dlrm_mtl.funnels import products
from dlrm_mtl.inference.loading import check_weights
from dlrm_mtl.inference.stored_model import StoredModel
from dlrm_mtl.serving.served_model import PlainRanker, ServedModel
from dlrm_mtl.serving.tables import FloatTables


def load_served_model(stored: StoredModel) -> ServedModel:
    """The model in host memory. No more than one shard of a table is in memory twice.

    Raises:
        ValueError: the checkpoint is damaged or is of another model than its manifest says; a class of the user's
            cannot be imported.
    """
    damage = find_damage(stored.path, stored.facts)
    if damage is not None:
        raise ValueError(f"{stored.path}: {damage}")
    model = ServedModel(
        [PlainRanker(part.schema, part.config) for part in stored.parts],
        stored.schema.tasks,
        tuple(products(stored.schema.tasks).values()),
    )
    sizes = {name: tensor.size for name, tensor in read_description(stored.path).items()}
    for ranker, part in zip(model.rankers, stored.parts, strict=True):
        assert isinstance(ranker, PlainRanker)
        weights = {f"{part.prefix}{name}": weight for name, weight in weights_of(ranker).items()}
        check_weights(stored.path, sizes, part.prefix, {name: weight.size() for name, weight in weights.items()})
        fill(stored.path, weights)
    return model


def weights_of(ranker: PlainRanker) -> dict[str, Tensor]:
    """By their names in the model that was trained."""
    assert isinstance(ranker.tables, FloatTables)
    tables = {
        f"embedding_bags.embedding_bags.{name}.weight": weight.data
        for name, weight in zip(ranker.tables.names, ranker.tables.weights, strict=True)
    }
    return {**tables, **ranker.dense_part.state_dict(prefix="dense_part.")}
