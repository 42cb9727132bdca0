"""The scale study as Markdown tables."""

from collections.abc import Mapping
from typing import Any


def format_scale(study: Mapping[str, Any]) -> str:
    """Bytes per step; step time and what each mode of reduction adds to it."""
    sizes = study["traffic"]
    lines = [
        "| moved per GPU and step | size |",
        "| --- | --- |",
        f"| all-to-all of ids (hidden behind the dense part) | {_bytes(sizes['ids'])} |",
        f"| all-to-all of pooled embeddings, and again of their gradients | {_bytes(sizes['embeddings'])} |",
        f"| all-reduce of dense gradients | {_bytes(sizes['dense'])} |",
        f"| all-reduce of the Gramian | {_bytes(sizes['balancing'])} |",
        "",
    ]
    modes = list(study["clusters"][0]["added_us"])
    lines += [
        f"| GPUs | step (ms) | small all-reduce (us) | {' | '.join(f'{mode}: adds (us)' for mode in modes)} |",
        f"|{' --- |' * (3 + len(modes))}",
    ]
    for cluster in study["clusters"]:
        added = [f"{us:.0f} ({us / 10 / cluster['step_ms']:.1f} %)" for us in cluster["added_us"].values()]
        lines.append(
            f"| {cluster['gpus']:,} | {cluster['step_ms']:.2f} | {cluster['small_all_reduce_us']:.0f} |"
            f" {' | '.join(added)} |"
        )
    return "\n".join(lines) + "\n"


def _bytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,.0f} bytes"
