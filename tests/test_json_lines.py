"""Logs that are appended to, also after a crash."""

import json
from pathlib import Path

import pytest

from dlrm_mtl.json_lines import JsonLines

LINES = b'{"step": 1}\n{"step": 2}\n{"step": 3}\n'
ONE = len(LINES) // 3


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("found", "keep", "kept", "missing"),
    [
        (LINES, None, [1, 2, 3], 0),
        (LINES, 2 * ONE, [1, 2], 0),
        (LINES, 4 * ONE, [1, 2, 3], ONE),
        (LINES[: 2 * ONE + 4], None, [1, 2], 0),
        (LINES[: 2 * ONE + 4], 3 * ONE, [1, 2], ONE),
        (LINES[:ONE] + bytes(2 * ONE), 3 * ONE, [1], 2 * ONE),
        (LINES[:ONE] + bytes(ONE - 1) + b"\n" + LINES[2 * ONE :], 3 * ONE, [1, 3], ONE),
        (LINES[:ONE] + b"\xff\xfe\n7\n" + LINES[2 * ONE :], None, [1, 3], 0),
        (b"", 2 * ONE, [], 2 * ONE),
        (None, 2 * ONE, [], 2 * ONE),
        (None, None, [], 0),
    ],
)
def test_whole_lines_stay_and_others_follow(
    tmp_path: Path, found: bytes | None, keep: int | None, kept: list[int], missing: int
) -> None:
    path = tmp_path / "new" / "folder" / "log.jsonl"
    if found is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(found)
    lines = JsonLines(path, keep)
    assert lines.bytes_missing == missing
    assert lines.bytes == len(kept) * ONE
    lines.append({"step": 9})
    assert steps(path) == [*kept, 9]
    assert lines.bytes == path.stat().st_size
    lines.close()
    assert list(path.parent.iterdir()) == [path]
