"""Evaluates trained models: ``python -m dlrm_mtl.evaluate --checkpoint RUN --data DIR --out FILE.json``.

Prints the metrics of each task with intervals over rows, and with several models the gains over the first; writes all
of it to FILE.json.
"""

from dlrm_mtl import cli
from dlrm_mtl.distributed.versions import torchrec_imports
from dlrm_mtl.extras import TRAINING
from dlrm_mtl.inference.evaluation.options import EvaluateOptions


def main() -> None:
    options = cli.parse(EvaluateOptions, "dlrm_mtl.evaluate")
    with torchrec_imports():
        from dlrm_mtl.distributed.processes import process_group
        from dlrm_mtl.inference.evaluation.evaluating import evaluate
        from dlrm_mtl.inference.evaluation.text import format_evaluation

    with process_group(options.timeout_s) as ranks:
        result = evaluate(options, ranks)
    if ranks.is_first:
        print(f"{format_evaluation(result)}\n\nevaluation: {options.out}", flush=True)


if __name__ == "__main__":
    cli.run("evaluate", main, TRAINING)
