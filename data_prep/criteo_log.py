"""``python -m data_prep.criteo_log``: generated raw logs in Criteo's TSV format, of any size.

A line is a label, 13 integers and 26 categorical values of 8 hex digits, separated by tabs; an empty field is a
missing value. Every chunk of rows has a generator seeded by (seed, file, chunk), so that memory does not grow with the
number of rows, and a larger log begins with the rows of a smaller one. The ids and their effect on the click rate
are the same with every seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
from tqdm import tqdm

from dlrm_mtl import cli
from dlrm_mtl.files import write_whole

Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.uint32]

CHUNK_ROWS = 1 << 14
"""Rows generated at a time. Another value gives other rows."""

SUFFIXES = {"none": "", "gz": ".gz", "zst": ".zst"}
CODECS = {"gz": "gzip", "zst": "zstd"}

INTEGERS = {
    "I1": (1, 6.0, 1.65),
    "I2": (1, 220.0, 1.4),
    "I3": (0, 4.5, 1.2),
    "I4": (0, 38.0, 1.7),
    "I5": (1, 4.5, 1.75),
    "I6": (0, 0.155, 2.0),
    "I7": (0, 0.01, 2.4),
    "I8": (0, 10.0, 2.5),
    "I9": (0, 4.0, 1.4),
    "I10": (0, 0.53, 0.66),
    "I11": (1, 1.4, 1.45),
    "I12": (0, 4000.0, 1.8),
    "I13": (0, 5.5, 1.2),
}
"""Lowest value, scale and spread: a value is lowest + floor(scale * exp(spread * standard normal))."""

NEGATIVE_COLUMN = "I8"
NEGATIVE_SHARES = {-1: 0.055, -2: 0.005}

CATEGORICALS = {
    "C1": (40_000_000, 1.2),
    "C2": (39_060, 1.2),
    "C3": (17_295, 0.95),
    "C4": (7_424, 1.45),
    "C5": (20_265, 1.35),
    "C6": (3, 3.0),
    "C7": (7_122, 1.02),
    "C8": (1_543, 1.4),
    "C9": (63, 3.1),
    "C10": (40_000_000, 1.2),
    "C11": (3_067_956, 1.3),
    "C12": (405_282, 1.05),
    "C13": (10, 1.5),
    "C14": (2_209, 1.9),
    "C15": (11_938, 1.25),
    "C16": (155, 3.2),
    "C17": (4, 3.0),
    "C18": (976, 2.1),
    "C19": (14, 1.8),
    "C20": (40_000_000, 1.2),
    "C21": (40_000_000, 1.2),
    "C22": (40_000_000, 1.2),
    "C23": (590_152, 1.45),
    "C24": (12_973, 1.02),
    "C25": (108, 2.5),
    "C26": (36, 2.0),
}
"""Ids and the exponent of their popularity. The numbers of ids are those of the 1 TB log, at most 40 million each;
the exponents are near those that give as many distinct values in 1,000 rows as the log's first 1,000 have, smaller for
the largest features, whose tails such a sample hardly shows."""

MISSING = (
    (0.23, ("I1",)),
    (0.09, ("I2",)),
    (0.25, ("I3", "I13")),
    (0.52, ("I4",)),
    (0.44, ("I5", "I11")),
    (0.09, ("I6", "I10")),
    (0.03, ("I7",)),
    (0.01, ("I12",)),
    (0.02, ("C1", "C10", "C11", "C20", "C21", "C22")),
    (0.46, ("C14", "C16", "C17", "C23")),
)
"""Shares of rows in which the columns, together, are missing. The other columns never are."""

CATEGORICAL_WEIGHTS = {"C2": 0.6, "C5": 0.5, "C8": 0.6, "C13": 0.5, "C14": 0.6, "C26": 0.5}
INTEGER_WEIGHTS = {"I1": 0.4, "I2": -0.3, "I8": 0.3}
"""Terms of the click's logit: an id's effect, of variance 1 over the ids, or an integer's standardised logarithm; 0
where the value is missing."""

BIAS = -4.78
"""Logit of a click at no effects: gives a click rate of 3 %."""

NAMES = ("label", *INTEGERS, *CATEGORICALS)


@dataclass(frozen=True)
class Options:
    """Generates raw logs in Criteo's TSV format."""

    out: Path
    """The file; with --files, the directory of day_0, day_1, ... Must not exist, or be an empty directory."""
    rows: int
    """Rows of each file."""
    seed: int = 0
    """Seed of the rows."""
    files: int | None = None
    """Number of files in a directory; by default one file, no directory."""
    compression: Literal["none", "gz", "zst"] = "none"
    """Compression; files of a directory get its suffix, and a single one's name must have it."""

    def validate(self) -> None:
        """Raises ValueError where an option is out of its range or ``out`` is taken."""
        if self.rows < 1:
            raise ValueError(f"rows {self.rows}: expected at least 1")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: expected at least 0")
        if self.files is not None and self.files < 1:
            raise ValueError(f"files {self.files}: expected at least 1")
        if self.files is None and self.out.is_dir():
            raise ValueError(f"{self.out}: is a directory; give a file, or a number of files (--files)")
        if self.out.exists() and not (self.out.is_dir() and not any(self.out.iterdir())):
            raise ValueError(f"{self.out}: exists already")
        suffix = SUFFIXES[self.compression]
        compressed = self.out.suffix in (".gz", ".zst")
        if self.files is None and (compressed or suffix) and self.out.suffix != suffix:
            expected = f"a name that ends in {suffix}" if suffix else "a name without .gz or .zst"
            raise ValueError(f"{self.out}: compression {self.compression} expects {expected}")


def generate(options: Options) -> list[Path]:
    """Writes the logs, each under a temporary name first, and returns their paths.

    Raises:
        ValueError: an option is out of its range, or ``out`` is taken.
    """
    options.validate()
    if options.files is None:
        paths = [options.out]
    else:
        suffix = SUFFIXES[options.compression]
        paths = [options.out / f"day_{day}{suffix}" for day in range(options.files)]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=options.rows * len(paths), unit="rows", unit_scale=True, mininterval=1.0) as progress:
        for file, path in enumerate(paths):
            with write_whole(path) as temporary, open_output(temporary, options.compression) as sink:
                for table in chunks(options.seed, file, options.rows):
                    write_rows(table, sink)
                    progress.update(table.num_rows)
    return paths


def chunks(seed: int, file: int, rows: int) -> Iterator[pa.Table]:
    """The rows of a file, chunk by chunk."""
    for start in range(0, rows, CHUNK_ROWS):
        yield chunk(seed, file, start // CHUNK_ROWS, min(CHUNK_ROWS, rows - start))


def chunk(seed: int, file: int, index: int, rows: int) -> pa.Table:
    """The first ``rows`` rows, at most CHUNK_ROWS, of a chunk of a file: columns NAMES, null where missing."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(file, index)))
    missing = {}
    for share, names in MISSING:
        missing.update(dict.fromkeys(names, rng.random(CHUNK_ROWS) < share))
    logits = np.full(CHUNK_ROWS, BIAS)
    columns: dict[str, pa.Array] = {}
    for name, (lowest, scale, spread) in INTEGERS.items():
        normal = rng.standard_normal(CHUNK_ROWS, dtype=np.float32)
        values = lowest + (scale * np.exp(spread * normal)).astype(np.int32)
        if name == NEGATIVE_COLUMN:
            start, uniform = 0.0, rng.random(CHUNK_ROWS)
            for value, share in NEGATIVE_SHARES.items():
                values[(uniform >= start) & (uniform < start + share)] = value
                start += share
        if name in INTEGER_WEIGHTS:
            add_effect(logits, INTEGER_WEIGHTS[name] * normal, missing.get(name))
        columns[name] = pa.array(values, mask=missing.get(name))
    for number, (name, (cardinality, exponent)) in enumerate(CATEGORICALS.items()):
        ids = id_bits(number, power_law_ranks(rng.random(CHUNK_ROWS), cardinality, exponent))
        if name in CATEGORICAL_WEIGHTS:
            add_effect(logits, CATEGORICAL_WEIGHTS[name] * id_effects(ids), missing.get(name))
        columns[name] = hex_array(ids, missing.get(name))
    clicks = rng.random(CHUNK_ROWS) < 1.0 / (1.0 + np.exp(-logits))
    return pa.table({"label": pa.array(clicks.astype(np.int8)), **columns}).slice(0, rows)


def power_law_ranks(uniform: Floats, cardinality: int, exponent: float) -> Bits:
    """Ranks below ``cardinality`` of a bounded power law, by its inverse distribution function; rank 0 is the most
    popular, and ``exponent`` is not 1."""
    power = 1.0 - exponent
    bounded = np.power(1.0 + uniform * ((cardinality + 1.0) ** power - 1.0), 1.0 / power)
    return np.minimum(bounded - 1.0, cardinality - 1.0).astype(np.uint32)


def id_bits(feature: int, ranks: Bits) -> Bits:
    """The 32 bits of an id: different for different ranks of a feature."""
    return mix(ranks + np.uint32(((feature + 1) * 0x9E3779B9) & 0xFFFFFFFF))


def id_effects(ids: Bits) -> Floats:
    """Effects (B,) of ids on the logit: uniform, with mean 0 and variance 1 over the ids."""
    return (mix(ids ^ np.uint32(0x5BD1E995)) / 2.0**32 - 0.5) * np.sqrt(12.0)


def mix(bits: Bits) -> Bits:
    """A bijection of 32 bits that scatters them: the last step of MurmurHash3."""
    bits = bits ^ (bits >> np.uint32(16))
    bits *= np.uint32(0x85EBCA6B)
    bits ^= bits >> np.uint32(13)
    bits *= np.uint32(0xC2B2AE35)
    bits ^= bits >> np.uint32(16)
    return bits


def add_effect(logits: Floats, effect: npt.NDArray[Any], missing: npt.NDArray[np.bool_] | None) -> None:
    """Adds an effect in place, except where the value is missing."""
    logits += effect if missing is None else np.where(missing, 0.0, effect)


HEX_PAIRS = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint16)
OFFSETS = pa.py_buffer(np.arange(0, 8 * CHUNK_ROWS + 1, 8, dtype=np.int32))


def hex_array(ids: Bits, missing: npt.NDArray[np.bool_] | None) -> pa.Array:
    """The ids, CHUNK_ROWS of them, as strings of 8 hex digits, null where missing."""
    digits = pa.py_buffer(HEX_PAIRS[ids.astype(">u4").view(np.uint8)])
    validity = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.StringArray.from_buffers(len(ids), OFFSETS, digits, validity)


def open_output(path: Path, compression: str) -> Any:
    """A stream to write to, as a context manager."""
    return pa.output_stream(str(path), compression=CODECS.get(compression))


def write_rows(table: pa.Table, sink: Any) -> None:
    """Appends the rows as lines."""
    pa.csv.write_csv(
        table,
        sink,
        pa.csv.WriteOptions(include_header=False, batch_size=CHUNK_ROWS, delimiter="\t", quoting_style="none"),
    )


def main() -> None:
    options = cli.parse(Options, "data_prep.criteo_log")
    paths = generate(options)
    print(f"{len(paths)} x {options.rows:,} rows: {', '.join(map(str, paths))}")


if __name__ == "__main__":
    cli.run("criteo_log", main)
