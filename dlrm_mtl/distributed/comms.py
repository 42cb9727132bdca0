"""The precision in which GPUs exchange embeddings: torchrec's quantised communications."""

import torch
from torchrec.distributed.fbgemm_qcomm_codec import CommType, QCommsConfig, get_qcomm_codecs_registry
from torchrec.distributed.types import QuantizedCommCodecs

from dlrm_mtl.config import CommsConfig, require


def check_comms(config: CommsConfig, device: str) -> None:
    """Raises a ValueError for reduced precision without GPUs, as the codecs need NCCL."""
    for name in ("forward", "backward"):
        precision = getattr(config, name)
        require(f"sharding.comms.{name}", precision, device == "cuda" or precision == "fp32", "fp32 on a CPU")


def comm_codecs(config: CommsConfig) -> dict[str, QuantizedCommCodecs] | None:
    """Codecs by collective, for a sharder; None if everything is sent as float32.

    NaN stays NaN, so that the ranks that hold the tables see a step that is not finite; infinity becomes the largest
    finite number.
    """
    registry: dict[str, QuantizedCommCodecs] | None = get_qcomm_codecs_registry(
        QCommsConfig(CommType(config.forward), CommType(config.backward)), device=torch.device("cuda")
    )
    return registry
