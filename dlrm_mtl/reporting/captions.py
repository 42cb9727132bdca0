"""What stands above the tables, in Markdown as in HTML."""

from dlrm_mtl.statistics.families import MARGIN

VERDICTS = (
    f"Verdicts. Gain, loss: certain among all arms and tasks together (Holm, 5 %). Equivalent: the true difference is"
    f" less than {MARGIN:g}. Inconclusive: neither is shown. 95 % intervals, each by itself, by what they cover: other"
    " seeds on these evaluation rows; these models on other rows; both, which is what holds for new traffic. p: of no"
    " difference; detectable: the smallest true difference that would show with a probability of 80 %"
)
METRIC_GAINS = (
    "Gains in other metrics: 100 times the difference, positive is better; NE, relative: the NE gain in percent of the"
    " control's NE. Intervals as above, each by itself, without verdicts"
)
CALIBRATION = "Calibration by seed: mean prediction / base rate, 1 is right; intervals for other rows"
DECILES = (
    "Calibration by decile: rows in the order of their predictions, in tenths; mean prediction / rate of positives,"
    " from the lowest seed to the highest"
)
SEGMENTS = "Intervals are each by itself: of so many, some exclude 0 by chance. No verdict is taken on segments"
