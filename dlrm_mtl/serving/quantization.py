"""Embedding tables in 8 bits: fbgemm's row-wise quantisation, with a scale and an offset in float16 for each row."""

from collections.abc import Mapping

import torch
from fbgemm_gpu.split_embedding_configs import SparseType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen
from torch import Tensor, nn
from torch.nn.functional import pad

from dlrm_mtl.serving.manifest import StoredTable
from dlrm_mtl.serving.served_model import PlainRanker, ServedModel
from dlrm_mtl.serving.tables import FloatTables

CHUNK_ROWS = 1 << 16
"""Rows quantised at a time."""


def quantize(model: ServedModel) -> None:
    """Replaces the tables of a model, and frees the float ones."""
    for ranker in model.rankers:
        assert isinstance(ranker, PlainRanker)
        assert isinstance(ranker.tables, FloatTables)
        ranker.tables = Int8Tables(ranker.tables)


class Int8Tables(nn.Module):
    """As :class:`FloatTables`, from whose weights it is made; it frees them table by table."""

    def __init__(self, tables: FloatTables) -> None:
        super().__init__()
        self.names, self.sizes, self.lookups = tables.names, tables.sizes, tables.lookups
        batched = IntNBitTableBatchedEmbeddingBagsCodegen(
            [
                (name, *size, SparseType.INT8, EmbeddingLocation.HOST)
                for name, size in zip(self.names, self.sizes, strict=True)
            ],
            feature_table_map=[lookup.table for lookup in self.lookups],
            pooling_mode=PoolingMode.MEAN,
            device="cpu",
            cacheline_alignment=False,  # padding would pass for rows
            output_dtype=SparseType.FP32,
        )
        batched.initialize_weights()
        for weight, (codes, scales) in zip(tables.weights, batched.split_embedding_weights(), strict=True):
            for start in range(0, len(weight), CHUNK_ROWS):
                rows = slice(start, start + CHUNK_ROWS)
                quantized = torch.ops.fbgemm.FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf(weight[rows], 8)
                codes[rows], scales[rows] = quantized[:, :-4], quantized[:, -4:]
            weight.data = weight.new_empty(0)
        self._widths = [self.sizes[lookup.table][1] for lookup in self.lookups]
        self._owners = len(self.lookups) // len({lookup.feature for lookup in self.lookups})
        # The module itself cannot be exported; its operator can.
        for name in ("weights_host", "weights_placements", "weights_offsets", "weights_tys", "D_offsets"):
            self.register_buffer(name, getattr(batched, name))
        self.register_buffer("nothing", batched.weights_uvm)
        self._row_alignment = batched.row_alignment

    def stored(self, prefix: str) -> dict[str, StoredTable]:
        """See :meth:`FloatTables.stored`. A row is its scale, its offset and its values."""
        stored, start = {}, 0
        for name, (rows, dim) in zip(self.names, self.sizes, strict=True):
            stored[name] = StoredTable(f"{prefix}.weights_host", start, rows, dim + 4)
            start += rows * (dim + 4)
        return stored

    def forward(self, values: Tensor, lengths: Tensor) -> Mapping[str, Tensor]:
        """See :meth:`FloatTables.forward`."""
        # Each owner of tables looks up all features.
        values, lengths = values.repeat(self._owners), lengths.repeat(self._owners, 1)
        offsets = pad(lengths.flatten().cumsum(0), (1, 0))
        pooled = torch.ops.fbgemm.int_nbit_split_embedding_codegen_lookup_function(
            dev_weights=self.weights_host,
            uvm_weights=self.nothing,
            weights_placements=self.weights_placements,
            weights_offsets=self.weights_offsets,
            weights_tys=self.weights_tys,
            D_offsets=self.D_offsets,
            total_D=sum(self._widths),
            max_int2_D=0,
            max_int4_D=0,
            max_int8_D=max(self._widths),
            max_float16_D=0,
            max_float32_D=0,
            indices=values,
            offsets=offsets,
            pooling_mode=int(PoolingMode.MEAN),
            indice_weights=None,
            output_dtype=SparseType.FP32.as_int(),
            row_alignment=self._row_alignment,
        )
        return dict(zip([lookup.name for lookup in self.lookups], pooled.split(self._widths, dim=1), strict=True))
