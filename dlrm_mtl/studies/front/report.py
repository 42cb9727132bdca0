"""front.json and ``report.md`` of the experiment ``front``."""

from collections.abc import Iterable, Mapping

from dlrm_mtl.recipe import parse_options
from dlrm_mtl.reporting.comparison import INTERVALS
from dlrm_mtl.reporting.escaping import code, text
from dlrm_mtl.reporting.runs.report_data import Record, Run
from dlrm_mtl.reporting.tables.table import Name, Table, gain_cell
from dlrm_mtl.reporting.words.phrases import count
from dlrm_mtl.studies.architectures.report import gains_of_pairs, pair_name
from dlrm_mtl.studies.front.points import CERTAIN, DRAWS, ArmGains


def find_front(data_set: str, runs: Mapping[str, Run]) -> Record:
    """The content of ``front.json``: gains over the control of the first architecture, by arm, the highest average
    first. An arm is named with its architecture if there are several, without options that do not tell them apart.

    Args:
        runs: by architecture; of the same data and seeds, with their seed-S.npz.
    """
    first = next(iter(runs.values()))
    tasks, weights = first.comparison["tasks"], first.comparison["task_weights"]
    shown = _short_names(runs)
    names = {
        pair_name(architecture, arm): pair_name(shown[architecture], arm) if len(runs) > 1 else arm
        for architecture, run in runs.items()
        for arm in run.arms
    }
    gains = gains_of_pairs(runs)
    by_seed = [{names[pair]: of_pair for pair, of_pair in of_seed.items()} for of_seed in gains.values()]
    points = ArmGains(by_seed, tasks, [weights[task] for task in tasks]).points()
    return {
        "data_set": data_set,
        "control": names[pair_name(next(iter(runs)), first.control)],
        "architectures": {shown[architecture]: architecture for architecture in runs},
        "tasks": tasks,
        "seeds": list(gains),
        "exploded": [name for name in names.values() if name not in points],
        "arms": dict(sorted(points.items(), key=lambda point: -float(point[1]["average"]["mean"]))),
    }


def _short_names(architectures: Iterable[str]) -> dict[str, str]:
    """Architectures without their options, unless some of them differ in options only."""
    names = {architecture: parse_options("architecture", architecture)[0] for architecture in architectures}
    return names if len(set(names.values())) == len(names) else {name: name for name in names}


def format_front(front: Record, figure: str) -> str:
    """``report.md``.

    Args:
        figure: file of the figure.
    """
    on_front = {arm: point for arm, point in front["arms"].items() if point["on_front"]}
    others = {arm: point for arm, point in front["arms"].items() if not point["on_front"]}
    parts = [
        f"# {text(front['data_set'])}: average gain and the worst task",
        f"![Average gain against the gain of the worst task]({figure})",
        f"NE gain (%) over {code(front['control'])}, {count(len(front['seeds']), 'seed')}; 95 % intervals"
        f" {INTERVALS['seeds and rows' if len(front['seeds']) > 1 else 'rows']}. The worst task is the one whose mean"
        " gain is least. The front: arms that no other arm exceeds both on average and in the worst task. The last"
        f" column is the share of {DRAWS:,} draws of other seeds and rows in which that holds",
        Table(
            ["", "arm", *GAINS, "share of draws"],
            [
                [f"{number}", Name(arm), *gain_cells(point), f"{point['share_on_front']:.2f}"]
                for number, (arm, point) in enumerate(on_front.items(), start=1)
            ],
            names=2,
        ).markdown(),
        "The other arms, each with an arm of the front that exceeds it both on average and in the worst task by more"
        f" than noise: in at least {100 * CERTAIN:g} % of the draws, not corrected for the number of arms",
        Table(
            ["arm", *GAINS, "worse than"],
            [[Name(arm), *gain_cells(point), Name(point["worse_than"] or "")] for arm, point in others.items()],
        ).markdown(),
        "The rows that judge the arms also choose the front, so its arms look better than they are. They choose the"
        " worst task too, so its gain looks lower than it is, with every arm.",
    ]
    if front["exploded"]:
        parts.append(f"Left out, as a loss exploded: {'; '.join(map(code, front['exploded']))}")
    return "\n\n".join(parts) + "\n"


GAINS = ("average", "worst task", "gain of the worst task")


def gain_cells(point: Record) -> list[str]:
    """The cells of an arm under :data:`GAINS`."""
    return [gain_cell(point["average"]), Name(point["worst"]["task"]), gain_cell(point["worst"])]
