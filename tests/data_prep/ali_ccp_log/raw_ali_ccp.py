"""Generated files in Ali-CCP's published format, and a plain join of them."""

import gzip
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

Feature = tuple[str, int]

ONE_HOT_USER = ("101", "121", "122", "124", "125", "126", "127", "128", "129")
MULTI_HOT_USER = ("109_14", "110_14", "127_14", "150_14")
ONE_HOT_ROW = ("205", "206", "207", "216", "508", "509", "702", "301")
MULTI_HOT_ROW = ("210", "853")
MULTI_HOT = (*MULTI_HOT_USER, *MULTI_HOT_ROW)

Row = dict[str, int | list[int] | None]
"""A row after the join: by field, and ``click`` and ``buy``."""


def feature_list(features: Sequence[Feature], value: str = "1.0") -> str:
    return "\x01".join(f"{field}\x02{number}\x03{value}" for field, number in features)


def common_line(index: str, features: Sequence[Feature]) -> str:
    return f"{index},{len(features)},{feature_list(features, '2.30259')}"


def row_line(sample: int, click: int, buy: int, index: str, features: Sequence[Feature]) -> str:
    return f"{sample},{click},{buy},{index},{len(features)},{feature_list(features)}"


def some_features(rng: random.Random, one_hot: Sequence[str], multi_hot: Sequence[str], longest: int) -> list[Feature]:
    """Each one-hot field with probability 0.9, and up to so many ids of each multi-hot one, in any order."""
    features = [(field, 1000 * number + rng.randrange(40)) for number, field in enumerate(one_hot, 1)]
    features = [feature for feature in features if rng.random() < 0.9]
    for number, field in enumerate(multi_hot, 100):
        features += [(field, 1000 * number + rng.randrange(200)) for _ in range(rng.randrange(longest + 1))]
    rng.shuffle(features)
    return features


def write(directory: Path, seed: int = 0, rows: int = 300, users: int = 20, longest: int = 6, suffix: str = "") -> None:
    """Writes the four files."""
    rng = random.Random(seed)
    directory.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        indices = [f"{rng.getrandbits(64):016x}" for _ in range(users)]
        common = [common_line(i, some_features(rng, ONE_HOT_USER, MULTI_HOT_USER, longest)) for i in indices]
        lines = []
        for sample in range(1, rows + 1):
            click = int(rng.random() < 0.4)
            buy = int(click and rng.random() < 0.3)
            features = some_features(rng, ONE_HOT_ROW, MULTI_HOT_ROW, 4)
            lines.append(row_line(sample, click, buy, rng.choice(indices), features))
        for name, content in ((f"common_features_{part}", common), (f"sample_skeleton_{part}", lines)):
            write_lines(directory / f"{name}.csv{suffix}", content)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def read_lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1]


def join(directory: Path, part: str) -> list[Row]:
    """The rows of a part, by a plain join."""
    common: dict[str, str] = {}
    for line in read_lines(directory / f"common_features_{part}.csv"):
        index, _, features = line.split(",")
        common[index] = features
    rows = []
    for line in read_lines(directory / f"sample_skeleton_{part}.csv"):
        _, click, buy, index, _, features = line.split(",")
        row: Row = {"click": int(click), "buy": int(buy), **dict.fromkeys((*ONE_HOT_USER, *ONE_HOT_ROW))}
        lists: Mapping[str, list[int]] = {field: [] for field in MULTI_HOT}
        for item in [item for text in (features, common[index]) for item in text.split("\x01") if item]:
            field, rest = item.split("\x02")
            number = int(rest.split("\x03")[0])
            if field in lists:
                lists[field].append(number)
            else:
                row[field] = number
        rows.append({**row, **lists})
    return rows
