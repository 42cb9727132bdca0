"""Results of a training run."""

import json
from pathlib import Path
from typing import Any


def checkpoints(out: Path) -> list[Path]:
    """Finished checkpoints of a run, oldest first."""
    return sorted((out / "checkpoints").glob("step-*"))


def newest_step(out: Path) -> int:
    """Step of the newest checkpoint; 0 if there is none."""
    return max((int(path.name.removeprefix("step-")) for path in checkpoints(out)), default=0)


def read_starts(out: Path) -> list[dict[str, Any]]:
    """The record of each start of a run; empty before the first."""
    file = out / "starts.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def read_outcome(out: Path) -> dict[str, Any]:
    """Results that must not depend on interruptions: metrics of every window and evaluation, the result, and the
    checksums of the final weights and states."""
    [log] = out.glob("*/metrics.jsonl")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    for record in records:
        record.pop("qps", None)
    result = json.loads((out / "result.json").read_text())
    for arm in result["arms"].values():
        del arm["qps"], arm["end_to_end_qps"]
    manifest = json.loads((checkpoints(out)[-1] / "checkpoint.json").read_text())
    files = {name: record["sha256"] for name, record in manifest["files"].items()}
    return {"records": records, "result": result, "files": files}
