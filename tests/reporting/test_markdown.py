"""The report's tables."""

import re
from typing import Any

import pytest

from dlrm_mtl.reporting import escaping
from dlrm_mtl.reporting.comparison import compare_seeds
from dlrm_mtl.reporting.markdown import format_comparison, format_details, format_result
from dlrm_mtl.reporting.seed_summary import summarize_seed
from dlrm_mtl.reporting.words.arm import CLAIMS
from tests.messages import mentions
from tests.reporting.results import TASKS, arm_result, simulate
from tests.reporting.runs import summarized

ARMS = ("mean", "multibalance:beta=0.1", "sum")


def comparison(seeds: int = 2, timed: bool = True, bayes: float | None = None) -> dict[str, Any]:
    summaries = []
    for seed in range(seeds):
        qps = [[1000.0 + 100 * index, 2000.0] if timed else [] for index in range(3)]
        predictions = simulate(2000, (0.8, 0.3, 1.2), seed)
        arms = {arm: arm_result(p, values) for arm, p, values in zip(ARMS, predictions, qps, strict=True)}
        summaries.append(summarize_seed(seed, TASKS, arms))
    return compare_seeds(TASKS, summaries, {"click": bayes, "rare": None})


def tables(text: str) -> list[list[list[str]]]:
    """Cells of each Markdown table, without the rules."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        if lines:
            assert set(lines[1]) == {"|", "-"}
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]
            assert {len(row) for row in rows} == {len(rows[0])}
            assert {len(line) for line in lines} == {len(lines[0])}
            found.append(rows)
    return found


def test_gains() -> None:
    record = comparison()
    _, gains, *_ = tables(format_comparison(record))
    assert gains[0] == ["arm", "average", *TASKS]
    assert [row[0] for row in gains[1:]] == list(ARMS[1:])
    for name, *cells in gains[1:]:
        arm = record["arms"][name]
        values = [arm["average_ne_gain_percent"], *(arm["tasks"][task]["ne_gain_percent"] for task in TASKS)]
        assert cells == [f"{v['mean']:+.3f} [{v['low']:+.3f}, {v['high']:+.3f}]" for v in values]
    assert gains[1][1].startswith("+")
    assert gains[2][1].startswith("-")


def test_claims_and_verdicts() -> None:
    record = comparison(seeds=3)
    claims, _, verdicts, *_ = tables(format_comparison(record))
    assert [row[0] for row in claims[1:]] == list(ARMS[1:])
    assert claims[1][1] == CLAIMS["gain"]
    assert claims[2][2] == "loss"
    assert claims[1][3] == "faster"
    assert [row[:2] for row in verdicts[1:4]] == [[ARMS[1], task] for task in ("(average)", *TASKS)]
    assert verdicts[2][2] == "gain"
    assert verdicts[0][4:7] == ["other seeds", "other rows", "both"]
    for row, task in zip(verdicts[2:4], TASKS, strict=True):
        gain = record["arms"][ARMS[1]]["tasks"][task]["ne_gain_percent"]
        assert row[3:7] == [f"{gain['mean']:+.3f}", f"[{gain['low']:+.3f}, {gain['high']:+.3f}]", "-", "-"]
        assert row[9] == f"{gain['detectable']:.3f}"


def test_details_are_there_where_they_are_known() -> None:
    record = comparison()
    metric_gains, calibration = tables(format_details(record))[1:3]
    assert metric_gains[0][:4] == ["arm", "task", "NE, relative", "AUC"]
    assert calibration[0] == ["task", "arm", "seed 0", "seed 1"]
    assert [row[:2] for row in calibration[1:]] == [[task, arm] for task in TASKS for arm in ARMS]


def test_segments() -> None:
    record = comparison()
    gain = {"mean": 0.1, "low": -0.2, "high": 0.4}
    found = {"rows": 1234, "average_ne_gain_percent": None, "tasks": {t: {"ne_gain_percent": gain} for t in TASKS}}
    record["arms"][ARMS[1]]["segments"] = {"hour": {"0": found, "1": found}}
    text = format_details(record)
    assert "NE gain (%) by `hour`\n" in text
    assert text.count("Gains by segment") == 1
    assert tables(text)[-1][1:] == [[ARMS[1], value, "1,234", "-", *["+0.100 [-0.200, +0.400]"] * 2] for value in "01"]


def test_deciles_show_the_lowest_and_the_highest_seed() -> None:
    record = comparison()
    deciles = [{"rows": 100, "predicted": 0.1 * n, "rate": 0.1 * n} for n in range(1, 11)]
    other = [{**decile, "predicted": 1.5 * decile["rate"]} for decile in deciles]
    other[3] = {**other[3], "rate": 0.0}
    for arm in record["arms"].values():
        arm["tasks"]["rare"]["deciles_by_seed"] = [{"seed": 0, "deciles": deciles}, {"seed": 1, "deciles": other}]
    [table] = [found for found in tables(format_details(record)) if found[0][2:3] == ["1"]]
    assert table[0] == ["task", "arm", *map(str, range(1, 11))]
    assert table[1 + len(ARMS)] == ["rare", "mean", *["1.00 to 1.50"] * 3, "no positive", *["1.00 to 1.50"] * 6]


def test_metrics_of_all_arms_and_tasks() -> None:
    record = comparison()
    _, _, _, metrics, _ = tables(format_comparison(record))
    assert metrics[0] == ["task", "arm", "NE", "AUC", "AUPRC", "NE, recalibrated", "calibration"]
    assert [row[:2] for row in metrics[1:]] == [[task, arm] for task in TASKS for arm in ARMS]
    for task, arm, *numbers in metrics[1:]:
        values = record["arms"][arm]["tasks"][task]
        assert numbers == [f"{values[key]:.4f}" for key in ("ne", "auc", "auprc", "recalibrated_ne", "calibration")]


def test_speed() -> None:
    *_, speed = tables(format_comparison(comparison(seeds=1)))
    assert speed[1] == ["mean", "1,500", "1,100 to 1,900", "+0.00 [+0.00, +0.00]"]
    assert speed[2] == ["multibalance:beta=0.1", "1,550", "1,190 to 1,910", "+5.00 (no interval)"]
    assert [row[0] for row in speed[1:]] == list(ARMS)


def test_speed_end_to_end() -> None:
    """Seeds without it add nothing."""
    record = comparison(seeds=1)
    assert "end to end" not in format_comparison(record)
    for index, arm in enumerate(record["arms"].values()):
        arm["end_to_end_qps"] = {**arm["qps"], "median": 900.0 - index}
    *_, speed = tables(format_comparison(record))
    assert speed[0][4:] == ["end to end", "change (%)"]
    assert [row[4] for row in speed[1:]] == ["900", "899", "898"]
    assert speed[2][5] == speed[2][3]


def test_a_short_training_is_warned_of_first() -> None:
    record = comparison()
    plain = format_comparison(record)
    for steps, batch_size in ((99, 32), (100, 31)):
        training = {"rows": 3199, "batch_size": batch_size, "epochs": 1, "max_steps": None, "ranks": 1, "steps": steps}
        text = format_comparison({**record, "training": training})
        if steps < 100:
            assert mentions(text, "WARNING", "99 training steps")
            assert text.endswith(plain)
        else:
            assert text == plain


def test_not_timed() -> None:
    *_, speed = tables(format_comparison(comparison(timed=False)))
    assert [row[0] for row in speed[1:]] == list(ARMS)
    assert all("not timed" in row[1] for row in speed[1:])


@pytest.mark.parametrize(
    ("seeds", "named", "interval"),
    [
        (1, "1 seed;", "for these models on other evaluation rows"),
        (2, "2 seeds;", "for other seeds on these evaluation rows"),
    ],
)
def test_the_caption_says_what_the_intervals_are(seeds: int, named: str, interval: str) -> None:
    [caption] = [line for line in format_comparison(comparison(seeds)).splitlines() if "over `mean`" in line]
    assert named in caption
    assert caption.endswith(f"95 % intervals: {interval}")


def test_bayes_ne_is_shown_where_it_is_known() -> None:
    _, _, _, metrics, _ = tables(format_comparison(comparison(bayes=0.81234)))
    assert metrics[0][:5] == ["task", "arm", "NE", "Bayes NE", "AUC"]
    assert [(row[0], row[3]) for row in metrics[1:]] == [("click", "0.8123")] * 3 + [("rare", "")] * 3
    assert "Bayes" not in format_comparison(comparison())


def test_a_single_run() -> None:
    [predictions] = simulate(2000, [0.5])
    summary = summarize_seed(3, TASKS, {"mean": arm_result(predictions, [])})
    [table] = tables(format_result(summary))
    assert [row[:2] for row in table[1:]] == [[task, "mean"] for task in TASKS]
    assert table[1][2] == f"{summary['arms']['mean']['tasks']['click']['ne']:.4f}"


STRANGE = ("c|v_r*", "<b>点击</b>", "`$x$`", "_keys_", "[a](b)", "a\\", "a\x1b[31m\n\u202eb")


def test_names_are_names_alone() -> None:
    """Markup in names is escaped and adds no cells."""
    nes = {"mean": [0.9] * len(STRANGE), **{name: [0.8] * len(STRANGE) for name in STRANGE}}
    record = compare_seeds(STRANGE, [summarized(0, nes, STRANGE)], {})
    text = format_comparison(record)
    assert not any(mark in text for mark in ("<b>", "\x1b", "\u202e"))
    _, gains, *_ = (block for block in text.split("\n\n") if block.startswith("| arm"))
    rows = [re.findall(r"((?:\\.|[^\\|])*)\|", line)[1:] for line in gains.splitlines()]
    assert {len(row) for row in rows} == {2 + len(STRANGE)}
    shown = [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in rows[0][2:]]
    assert shown[:-1] == list(STRANGE[:-1])
    assert [re.sub(r"\\(.)", r"\1", row[0].strip()) for row in rows[2:-1]] == list(STRANGE[:-1])


@pytest.mark.parametrize("name", ["mean", "multibalance:prior_in_direction=0.5", "static:weights=0.5/0.5", "a-b c.d"])
def test_ordinary_names_are_not_escaped(name: str) -> None:
    assert escaping.text(name) == name
    assert escaping.code(name) == f"`{name}`"


def test_code_ends_where_the_name_does() -> None:
    assert escaping.code("a`b") == "``a`b``"
    assert escaping.code("`") == "`` ` ``"
