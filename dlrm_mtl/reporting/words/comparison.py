"""Sentences about a whole comparison: its claims first, then how far to trust them."""

from collections.abc import Sequence

from dlrm_mtl.reporting.normalized_loss import loss_name
from dlrm_mtl.reporting.words.arm import Claim, Record, claim_of, on_explosions, verdict_text
from dlrm_mtl.reporting.words.cost import on_cost, on_losses
from dlrm_mtl.reporting.words.phrases import gain_text, join_words
from dlrm_mtl.reporting.words.trust import on_trust
from dlrm_mtl.statistics.families import MARGIN
from dlrm_mtl.training_length import TrainingLength

OF_ARMS: dict[Claim, str] = {
    "gain": f"Better than {{control}} on some task, and no task loses {MARGIN:g}",
    "gain-open": f"Better than {{control}} on some task, but a loss of {MARGIN:g} on another is not ruled out",
    "trade-off": "Better than {control} on some tasks and worse on others",
    "loss": "Worse than {control} on some task, and not shown to be better on any",
    "no-loss": f"No task loses {MARGIN:g} against {{control}}, and none is shown to gain",
    "equivalent": f"Equivalent to {{control}}: within {MARGIN:g} on every task",
    "inconclusive": "Inconclusive: neither better nor worse than {control} is shown, nor that there is no difference",
    "one-pair": "One seed, no verdict: what is said holds for this pair of models only",
    "exploded": "The loss exploded (NEX)",
}


def describe_comparison(comparison: Record) -> list[str]:
    """Sentences about the whole comparison."""
    control, arms = comparison["control"], comparison["arms"]
    treatments = [name for name in arms if name != control]
    claims = {name: claim_of(arms[name]) for name in treatments}
    sentences = []
    for claim, text in OF_ARMS.items():
        if names := [name for name in treatments if claims[name] == claim]:
            sentences.append(f"{text.format(control=control)}: {join_words(names)}.")
    sentences.append(_on_best(comparison, treatments))
    if of_control := on_explosions(arms[control]):
        sentences.append(f"The control {control}: {' '.join(of_control)} Gains over it are meaningless.")
    sentences += [f"The control {control}: {sentence}" for sentence in on_losses(arms[control])]
    return [*warn_of_length(comparison), *sentences, *on_trust(comparison)]


def warn_of_length(record: Record) -> list[str]:
    """A warning if the training of a comparison or an arm was too short."""
    length = TrainingLength.from_json(record["training"]) if "training" in record else None
    warning = length.warning() if length else None
    return [warning] if warning else []


def _on_best(comparison: Record, treatments: Sequence[str]) -> str:
    averages = {name: comparison["arms"][name]["average_ne_gain_percent"] for name in treatments}
    gains: dict[str, Record] = {name: gain for name, gain in averages.items() if gain is not None}
    if not gains:
        return "No arm has an average gain, as losses exploded."
    best = max(gains, key=lambda name: gains[name]["mean"])
    chosen = f"As the highest of {len(gains)} it is likely too high: measure it again on other rows. "
    return (
        f"Highest average {loss_name(comparison)} gain: {best}, {gain_text(gains[best])}, {verdict_text(gains[best])}."
        f" {chosen if len(gains) > 1 else ''}{on_cost(comparison['arms'][best]['qps'])}"
    )
