"""Silences known warnings of the libraries that a user cannot act on, by their messages."""

import logging
import warnings


def silence_known_warnings() -> None:
    """To be called once, before models are built."""
    # torchrec passes it to DDP on purpose: balancer and metrics keep their buffers to themselves.
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
    # torchrec's fused modules still use ShardedTensor.
    warnings.filterwarnings("ignore", message="Please use DTensor instead", category=FutureWarning)
    # fbgemm's lookup of replicated tables on a CPU; its gradients are tested against those of the fused one.
    warnings.filterwarnings("ignore", message="fbgemm::dense_embedding_codegen_lookup_function", category=UserWarning)
    # DDP, of the transposed gradient of a layer with one input: a data set with at most one dense feature.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides", category=UserWarning)
    logging.getLogger("torch.fx._symbolic_trace").addFilter(_is_not_tracing_notice)
    logging.getLogger("torchrec.distributed.utils").addFilter(_is_not_caching_notice)
    # The evaluation pipeline's loading thread logs the error of a bad row group, and then raises it.
    logging.getLogger("torchrec.distributed.train_pipeline.utils").addFilter(_is_not_reading_error)


def _is_not_tracing_notice(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("is_fx_tracing will return true")


def _is_not_caching_notice(record: logging.LogRecord) -> bool:
    return record.getMessage() != "Sharding Type is data_parallel, caching params will be ignored"


def _is_not_reading_error(record: logging.LogRecord) -> bool:
    known = "DataLoadingThread: Non-retriable exception in data loading: ValueError: "
    return not record.getMessage().startswith(known)
