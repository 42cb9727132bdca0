"""Captions of the tables, for Markdown and HTML."""

from collections.abc import Mapping
from typing import Any

from dlrm_mtl.reporting.normalized_loss import is_regression
from dlrm_mtl.statistics.families import MARGIN

VERDICTS = (
    "Verdicts, corrected for the number of arms and tasks (Holm, 5 %). Gain, loss: the difference is certain."
    f" Equivalent: it is smaller than {MARGIN:g}. Inconclusive: neither is shown. 95 % intervals, not corrected: for"
    " other seeds on these evaluation rows, for these models on other rows, and for both, as in new traffic. p: p-value"
    " of no difference; detectable: the smallest true difference that is found with a probability of 80 %"
)
METRIC_GAINS = (
    "Gains in other metrics: 100 times the difference, positive is better; relative: the gain in NE or NMSE in percent"
    " of the control's. Intervals as above, without verdicts"
)
CALIBRATION = "Calibration by seed: mean prediction / base rate, 1 is right; intervals for other rows"
DECILES = (
    "Calibration by decile: rows in the order of their predictions, in tenths; mean prediction / rate of positives,"
    " from the lowest seed to the highest"
)
MEAN_ERRORS = "Mean error of regressions by seed: mean prediction - mean label; intervals for other rows"
LABEL_DECILES = (
    "Regressions by decile: rows in the order of their predictions, in tenths; mean prediction / mean label, averaged"
    " over seeds"
)
SEGMENTS = (
    "Gains by segment, without verdicts: of so many intervals some exclude 0 by chance. Values without evaluation rows"
    " are left out; a hyphen marks values whose labels are all equal. A categorical feature's values are its ids"
)
METRICS = "Evaluation, mean over seeds; calibration: of the seed where it is farthest from 1"
REGRESSIONS = (
    ". Of regressions: NMSE, squared error / that of the mean label; XAUC, pairs of rows that are ordered rightly; mean"
    " error, of the seed where it is largest"
)
PRODUCTS = (
    "Products: the probability that a conditional task and the tasks that it is given all are positive, over all rows;"
    " no verdicts"
)
BY_CLUSTER = (
    ". GAUC, uAUC: AUC within each cluster of rows (a user) that has both classes, averaged by rows and by clusters."
    " NE, recalibrated: on one half of the clusters, with a bias fitted on the other half"
)
BAYES = ". Bayes NE: that of the true probabilities"


def caption_metrics(comparison: Mapping[str, Any]) -> str:
    """Caption of the table of metrics; explains only the columns that it has."""
    reached = [task for arm in comparison["arms"].values() for task in arm["tasks"].values()]
    by_cluster = any(task.get("gauc") is not None or task.get("recalibrated_ne") is not None for task in reached)
    parts = {BY_CLUSTER: by_cluster, REGRESSIONS: any(map(is_regression, reached)), BAYES: comparison["bayes_ne"]}
    return "".join([METRICS, *(part for part, is_there in parts.items() if is_there)])
