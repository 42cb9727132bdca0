"""The TOML file of a layout, for an unchanged log."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

from data_prep.columns.layout import read_layout
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from dlrm_mtl.data.checks import check_values
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.files import read_toml
from tests.data_prep.logs import LAYOUT, lines_of, write_log, write_toml
from tests.fuzz.mutations import mutate_bytes, mutate_value, to_toml
from tests.fuzz.target import Target


def layout_target(directory: Path) -> Target:
    """A layout that is accepted is used, up to the data set's last check."""
    log = write_log(directory / "log.tsv", lines_of(60))
    file, out = directory / "layout.toml", directory / "out"
    write_toml(file, replace(LAYOUT, cluster="user", segments=("word", "unused")))
    values, text = read_toml(file), file.read_bytes()

    def mutate(draw: random.Random) -> bytes:
        if draw.random() < 0.2:
            return mutate_bytes(text, draw)
        changed = mutate_value(values, draw)
        return to_toml(changed, draw) if isinstance(changed, dict) else b"a = 1"

    def attempt(changed: bytes) -> None:
        file.write_bytes(changed)
        try:
            layout = read_layout(str(file))
            prepare(
                "log", "fuzz", layout, [log], out, IdOptions(), SplitOptions(), WorkOptions(on_bad_row="quarantine")
            )
            check_values(open_dataset(out))
        finally:
            shutil.rmtree(out, ignore_errors=True)
            shutil.rmtree(directory / "out.partial", ignore_errors=True)

    return Target("layout", mutate, attempt)
