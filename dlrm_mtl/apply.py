"""Applies deltas to an export: ``python -m dlrm_mtl.apply --export EXPORT --deltas DELTA... --out DIR``."""

from dataclasses import dataclass
from pathlib import Path

from dlrm_mtl import cli
from dlrm_mtl.extras import PREPARE


@dataclass(frozen=True)
class ApplyOptions:
    """Makes the full export of a later day from an earlier one and the deltas since."""

    export: Path
    """Export that the first delta applies to."""
    deltas: tuple[Path, ...]
    """Those of all publications since, in their order."""
    out: Path
    """Directory of the new export; new."""


def main() -> None:
    options = cli.parse(ApplyOptions, "dlrm_mtl.apply")
    # torch takes seconds to import, too long for --help.
    from dlrm_mtl.serving import apply_deltas
    from dlrm_mtl.serving.text import format_export

    manifest = apply_deltas(options.export, options.deltas, options.out)
    print(f"{format_export(manifest)}\nexport: {options.out}", flush=True)


if __name__ == "__main__":
    cli.run("apply", main, PREPARE)
