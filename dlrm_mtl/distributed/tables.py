"""Initial weights of sharded tables, independent of the sharding plan."""

import math
import zlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

CHUNK_ROWS = 1 << 16


@torch.no_grad()
def initialize_tables(model: nn.Module, seed: int) -> None:
    """Fills the local shards of every embedding table with uniform values in [-1, 1) / sqrt(rows).

    Each element is a hash of (table, row, column, seed): the same whatever the plan, the ranks and the device.
    """
    for name, value in model.state_dict().items():
        if ".embedding_bags." in f".{name}":
            rows, columns = value.metadata().size if isinstance(value, ShardedTensor) else value.shape
            key = zlib.crc32(f"{seed}/{name}".encode()) << 17
            for shard, first_row, first_column in _local_shards(value):
                _fill(shard, first_row, first_column, columns, key, 1 / math.sqrt(rows))


def _local_shards(value: Tensor | ShardedTensor) -> Iterator[tuple[Tensor, int, int]]:
    if isinstance(value, ShardedTensor):
        for shard in value.local_shards():
            first_row, first_column = shard.metadata.shard_offsets
            yield shard.tensor, first_row, first_column
    else:
        yield value, 0, 0


def _fill(shard: Tensor, first_row: int, first_column: int, columns: int, key: int, scale: float) -> None:
    column = torch.arange(first_column, first_column + shard.shape[1], device=shard.device)
    for start in range(0, len(shard), CHUNK_ROWS):
        stop = min(start + CHUNK_ROWS, len(shard))
        row = torch.arange(first_row + start, first_row + stop, device=shard.device)
        mixed = _splitmix((row[:, None] * columns + column) * -7046029254386353131 + key)
        shard[start:stop] = ((mixed >> 40 & 0xFFFFFF).float() / 2**23 - 1) * scale


def _splitmix(values: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele et al., OOPSLA 2014), on int64 with wrap-around."""

    def shifted(value: Tensor, bits: int) -> Tensor:
        return (value >> bits) & ((1 << (64 - bits)) - 1)  # a logical shift

    values = (values ^ shifted(values, 30)) * -4658895280553007687
    values = (values ^ shifted(values, 27)) * -7723592293110705685
    return values ^ shifted(values, 31)
