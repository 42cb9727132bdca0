"""Rows of tables that begin anew where the others go on from a checkpoint.

Notation: a tensor of a table has one row for each of the table's, or, for the optimizer state of a table that is
sharded by columns, one block of such rows for each column shard.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

from dlrm_mtl.data.new_ids import Ids
from dlrm_mtl.module_names import table_of

_OF_TABLE = re.compile(r"^(.*?)/(?:model|optimizer/tables)[./]embedding_bags\.embedding_bags\.([^./]+)\.weight")


@dataclass(frozen=True)
class NewRows:
    """The rows that begin anew, in terms of the tensors of an arm and of a checkpoint."""

    sizes: Mapping[str, torch.Size]
    """Of the checkpoint's tensors."""
    ids: Mapping[str, Ids] = field(default_factory=dict)
    """By table of the data set, ascending: those that the checkpoint has for other values, and those that it has not.
    All sets of tables of an architecture have the same ids."""

    def size_now(self, name: str) -> torch.Size:
        """The size that a tensor of the checkpoint has now."""
        size = self.sizes[name]
        if (rows := self.grown(name)) is None:
            return size
        before, now = rows
        return torch.Size([size[0] // before * now, *size[1:]])

    def grown(self, name: str) -> tuple[int, int] | None:
        """The rows of a tensor's table in the checkpoint, and now; None where they are as many."""
        before, ids = self._of_table(name)
        appended = len(ids) - int(np.searchsorted(ids, before))
        return (before, before + appended) if appended else None

    def fresh(self, name: str, value: Tensor | ShardedTensor) -> "list[tuple[Tensor, Tensor, Tensor]]":
        """A copy of the rows of a tensor that begin anew: of each local part the tensor, the rows' indices in it, and
        their values. Call it before the checkpoint is loaded.

        Args:
            value: of the size that it has now.
        """
        before, ids = self._of_table(name)
        if not len(ids):
            return []
        rows = max(before, int(ids[-1]) + 1)
        found = []
        for part, offset in _local_parts(value):
            first = offset % rows
            low, high = np.searchsorted(ids, (first, first + len(part)))
            index = torch.from_numpy(ids[low:high] - first).to(part.device)
            found.append((part, index, part[index].clone()))
        return found

    def _of_table(self, name: str) -> tuple[int, Ids]:
        """Rows of a tensor's table in the checkpoint, and the ids that begin anew."""
        match = _OF_TABLE.match(name)
        ids = self.ids.get(table_of(match[2])) if match else None
        if match is None or ids is None or not self.sizes.get(name):
            return 0, np.empty(0, dtype=np.int64)
        return self.sizes[f"{match[1]}/model/embedding_bags.embedding_bags.{match[2]}.weight"][0], ids


def _local_parts(value: Tensor | ShardedTensor) -> Iterator[tuple[Tensor, int]]:
    """The parts of a tensor on this rank, and the index of their first row."""
    if isinstance(value, ShardedTensor):
        for shard in value.local_shards():
            yield shard.tensor, shard.metadata.shard_offsets[0]
    else:
        yield value, 0
