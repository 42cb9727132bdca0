"""Sentences about a search of static weights."""

from dlrm_mtl.reporting.escaping import code, text
from dlrm_mtl.statistics.effect import Effect
from dlrm_mtl.statistics.families import MARGIN
from dlrm_mtl.studies.catalog import RECOMMENDED
from dlrm_mtl.studies.search import Search


def describe_search(search: Search | None) -> str:
    """The results in Markdown.

    A weighting is as good as the balancer if it is shown to gain less by no more than the margin, on average and in the
    worst task.
    """
    if search is None:
        return f"{code(RECOMMENDED)} exploded in some seed: there is nothing to compare with."
    worst = search.worst_task(RECOMMENDED)
    lines = [
        f"{code(RECOMMENDED)}: average {search.gains.mean(RECOMMENDED, None):+.3f}, worst task"
        f" {text(search.tasks[worst])} {search.gains.mean(RECOMMENDED, worst):+.3f}, in one training.",
        _on_as_good(search),
        _on_best(search),
    ]
    if search.exploded:
        lines.append(f"{search.exploded} of {len(search.trials) + search.exploded} weightings exploded.")
    return "\n\n".join(lines)


def _on_as_good(search: Search) -> str:
    if search.seeds < 2:
        return "With one seed no weighting can be shown to be as good or worse."
    trials, good, worse = len(search.trials), search.as_good, search.worse
    shown = "none is shown to be" if not good else f"{len(good)} {'are' if len(good) > 1 else 'is'} shown to be"
    cost = (
        f"a search has not found one in {trials} trainings"
        if not good
        else f"the first is trial {good[0]}, {code(search.trials[good[0] - 1])}: a search that stops there costs"
        f" {good[0]} training{'s' * (good[0] > 1)}"
    )
    return (
        f"As good (its gain less the balancer's above -{MARGIN:g}, on average and in the worst task, by intervals that"
        f" hold for all trials together): of {trials} random weightings {shown}; {cost}."
        f" {_count(len(worse), 'is', 'are')} shown to be worse, of {len(search.below)} with an interval below 0; the"
        f" other {trials - len({*good, *worse})} are shown to be neither."
    )


def _on_best(search: Search) -> str:
    best = search.best
    rows = "on one half of the evaluation rows" if search.corrected else "by their means over seeds"
    if best is None:
        return f"Chosen {rows}: none, since in each of them some task gains less than the balancer's worst."
    judged = (
        "On the other half of the rows"
        if search.corrected
        else "On the same rows, so that the winner's curse is not corrected"
    )
    return (
        f"Chosen {rows}, the best whose worst task gains no less than the balancer's is trial {best.number},"
        f" {code(best.arm)}. {judged} it gains {_text(best.average)} beyond the balancer on average, and"
        f" {_text(best.worst)} in the worst task, with the seeds that it was chosen with."
    )


def _text(effect: Effect) -> str:
    interval = effect.interval()
    return f"{effect.mean:+.3f}" + (f" [{interval.low:+.3f}, {interval.high:+.3f}]" if interval else "")


def _count(number: int, one: str, many: str) -> str:
    return f"{number or 'None'} {one if number == 1 else many}"
