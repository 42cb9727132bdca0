"""What a checkpoint says of its run is checked before anything is built on it."""

import copy
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.training.state.checkpoint_facts import check_facts
from tests.json_edits import Change, drop, put, puts

FACTS: dict[str, Any] = {
    "format": 1,
    "step": 7,
    "files": {},
    "arms": ["mean", "multibalance:beta=0.1"],
    "tasks": ["click", "buy"],
    "world_size": 2,
    "position": {"epoch": 1, "phases": [[2, 1, 3]]},
    "plan": [
        {
            "table": "user",
            "sharding_type": "row_wise",
            "compute_kernel": "fused",
            "shards": [{"rank": 0, "offset": [0, 0], "size": [50, 16]}],
        }
    ],
    "progress": {
        "rounds": 1,
        "qps": {"mean": [1000.5, 2000], "multibalance:beta=0.1": []},
        "end_to_end_qps": {"mean": [1.5], "multibalance:beta=0.1": []},
        "log_bytes": {"mean": 100, "multibalance:beta=0.1": 0},
    },
    "more": "of a later version",
}


def test_what_a_run_writes_passes() -> None:
    check_facts(Path("step"), FACTS)


WRONG: list[Any] = [None, 5.5, "x", True, {}]


@pytest.mark.parametrize(
    "change",
    [
        *(drop(name) for name in ("step", "arms", "tasks", "world_size", "position", "plan")),
        *(put(name, value) for name in ("step", "world_size") for value in (*WRONG, [5], 2**64)),
        put("world_size", 0),
        *puts("arms", values=[*WRONG, [], [5], ["mean", "mean"], ["mean"], ["nothing"], ["mean:x"]]),
        *puts("tasks", values=[*WRONG, [], [5], [["click"]], ["click", "click"]]),
        *puts("position", values=[*WRONG, [], {"epoch": 1}, {"epoch": -1, "phases": []}]),
        *(put("position", {"epoch": 0, "phases": value}) for value in (*WRONG, [5], [[1, 1]], [[0, 1, 1]])),
        *puts(
            "plan",
            values=[
                *WRONG,
                [5],
                [{}],
                [{**FACTS["plan"][0], "table": 5}],
                [{**FACTS["plan"][0], "shards": []}],
                [{**FACTS["plan"][0], "shards": [{"rank": 0, "offset": [], "size": []}]}],
            ],
        ),
        *puts("progress", values=[*WRONG[1:], []]),
        *puts("progress", "rounds", values=[*WRONG, -1]),
        *puts("progress", "qps", values=[*WRONG, {"mean": []}, {**FACTS["progress"]["qps"], "mean": 5}]),
        *(put("progress", "qps", {**FACTS["progress"]["qps"], "mean": [value]}) for value in (None, "5", 0, -1.0)),
        *(put("progress", "log_bytes", {**FACTS["progress"]["log_bytes"], "mean": value}) for value in (*WRONG, -1)),
    ],
)
def test_what_no_run_writes_is_refused(change: Change) -> None:
    facts = copy.deepcopy(FACTS)
    change(facts)
    with pytest.raises(ValueError, match=r"^step: "):
        check_facts(Path("step"), facts)
