"""How many seeds and evaluation rows an NE gain needs: ``python -m dlrm_mtl.power --run RUN``, or ``--data DIR`` before
any run."""

from dlrm_mtl import cli
from dlrm_mtl.extras import REPORT
from dlrm_mtl.files import write_json
from dlrm_mtl.power_analysis.options import PowerOptions


def main() -> None:
    options = cli.parse(PowerOptions, "dlrm_mtl.power")
    # scipy takes too long to import for --help.
    from dlrm_mtl.power_analysis.report import analyse_power, format_power

    report = analyse_power(options)
    print(format_power(report), flush=True)
    if options.json is not None:
        write_json(options.json, report)


if __name__ == "__main__":
    cli.run("power", main, REPORT)
