"""Plans a model's tables on a hypothetical cluster: ``python -m dlrm_mtl.plan --preset criteo-1tb --hosts 16``.

Says whether they fit, where they would lie, and the step time that torchrec's cost model estimates. Needs no GPU and no
other process. The exit code is 0 if the plan fits, 1 if it does not, and 2 for a user error.
"""

import sys

from dlrm_mtl import cli
from dlrm_mtl.distributed.versions import torchrec_imports
from dlrm_mtl.extras import TRAINING
from dlrm_mtl.files import write_json
from dlrm_mtl.planning.options import PlanConfig
from dlrm_mtl.planning.presets import PRESETS


def main() -> None:
    presets = {name: preset.options for name, preset in PRESETS.items()}
    config = cli.parse(PlanConfig, "dlrm_mtl.plan", presets=presets)
    config.check()
    with torchrec_imports():
        from dlrm_mtl.planning.report import make_report
        from dlrm_mtl.planning.text import format_report

    report = make_report(config)
    print(format_report(report), flush=True)
    if config.json is not None:
        write_json(config.json, report)
        print(f"\nplan: {config.json}", flush=True)
    if not report["fits"]:
        sys.exit(1)


if __name__ == "__main__":
    cli.run("plan", main, TRAINING)
