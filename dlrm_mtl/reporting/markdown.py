"""A comparison as Markdown."""

from collections.abc import Mapping
from typing import Any

from dlrm_mtl.reporting.captions import (
    CALIBRATION,
    DECILES,
    LABEL_DECILES,
    MEAN_ERRORS,
    METRIC_GAINS,
    PRODUCTS,
    SEGMENTS,
    VERDICTS,
    caption_metrics,
)
from dlrm_mtl.reporting.escaping import code, text
from dlrm_mtl.reporting.normalized_loss import loss_name
from dlrm_mtl.reporting.tables.gains import (
    claims_table,
    gains_table,
    metric_gains_table,
    segment_tables,
    verdicts_table,
)
from dlrm_mtl.reporting.tables.metrics import (
    calibration_table,
    deciles_table,
    evaluation_table,
    label_deciles_table,
    mean_error_table,
    metrics_table,
    products_table,
    result_table,
    speed_table,
)
from dlrm_mtl.reporting.tables.table import Table
from dlrm_mtl.reporting.words.comparison import warn_of_length
from dlrm_mtl.reporting.words.trust import on_trust

Record = Mapping[str, Any]


def format_comparison(comparison: Record) -> str:
    """Claims, gains, metrics and cost of each arm against the control, with notes on how far to trust them."""
    control, arms = comparison["control"], comparison["arms"]
    seeds = len(arms[control]["seeds"])
    parts = [
        *warn_of_length(comparison),
        f"What can be said of each arm against {code(control)}",
        claims_table(comparison).markdown(),
        f"{loss_name(comparison)} gain (%) over {code(control)}, {seeds} seed{'s' * (seeds != 1)}; positive is better;"
        f" 95 % intervals: {comparison['intervals']}",
        gains_table(comparison).markdown(),
        VERDICTS,
        verdicts_table(comparison).markdown(),
        caption_metrics(comparison),
        metrics_table(comparison).markdown(),
        *_captioned(PRODUCTS, products_table(comparison)),
        "Speed, global samples per second over timed windows",
        speed_table(arms).markdown(),
        *_losses(arms),
        "How far to trust it",
        "\n".join(f"- {text(sentence)}" for sentence in on_trust(comparison)),
    ]
    return "\n\n".join(parts) + "\n"


def format_details(comparison: Record) -> str:
    """Row counts, gains in other metrics and by segment, calibration by seed and decile; empty if nothing of it was
    kept."""
    tables = {
        "Evaluation rows": evaluation_table(comparison),
        METRIC_GAINS: metric_gains_table(comparison),
        CALIBRATION: calibration_table(comparison),
        DECILES: deciles_table(comparison),
        MEAN_ERRORS: mean_error_table(comparison),
        LABEL_DECILES: label_deciles_table(comparison),
    }
    parts = [f"{caption}\n\n{table.markdown()}\n" for caption, table in tables.items() if table]
    if segments := segment_tables(comparison):
        parts.append(f"{SEGMENTS}\n")
        gain = f"{loss_name(comparison)} gain (%) by"
        parts += [f"{gain} {code(name)}\n\n{table.markdown()}\n" for name, table in segments.items()]
    return "\n".join(parts)


def format_result(summary: Record) -> str:
    """Evaluation metrics of a single run, one row per task and arm."""
    arms = summary["arms"]
    parts = [
        *_captioned("", result_table(arms)),
        *_captioned(PRODUCTS, result_table(arms, "products")),
        *_losses(arms),
        *warn_of_length(summary),
    ]
    return "\n\n".join(filter(None, parts))


def _captioned(caption: str, table: Table | None) -> list[str]:
    return [caption, table.markdown()] if table else []


def _losses(arms: Record) -> list[str]:
    """Skipped steps and lost rows, one paragraph per arm that has any."""
    paragraphs = []
    for name, arm in arms.items():
        skipped, lost = arm.get("skipped_steps", 0), arm.get("rows_lost", 0)
        if skipped or lost:
            paragraphs.append(
                f"{code(name)}: {skipped:,} steps skipped, as a loss or gradient was not finite;"
                f" {lost:,} training rows lost with their shards"
            )
    return paragraphs
