"""``python -m data_prep.ali_ccp``: Ali-CCP, the Alibaba Click and Conversion Prediction data, as a data set."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from data_prep.ali_ccp_log.common_features import USER_FIELDS, build, built_files
from data_prep.ali_ccp_log.skeleton_log import ROW_FIELDS, AliCcpLog, stem_of
from data_prep.columns.layout import Layout, read_layout
from data_prep.engine.options import IdOptions, StreamOptions, WorkOptions
from data_prep.engine.preparation import Preparation, Preprocessing
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from data_prep.engine.work_directory import WorkDirectory
from data_prep.raw_log import PreparationOptions, print_outcome
from data_prep.sources.raw_files import find_named
from data_prep.sources.text_file import COMPRESSED_SUFFIXES
from dlrm_mtl import cli
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import Schema

PARTS = ("train", "test")
"""Of the data, as it was published: the first one trains, the second one evaluates."""


@dataclass(frozen=True, kw_only=True)
class Options(PreparationOptions):
    """Prepares Ali-CCP, the Alibaba Click and Conversion Prediction data, from its original files."""

    raw: Path
    """Directory of sample_skeleton_train.csv, sample_skeleton_test.csv, common_features_train.csv and
    common_features_test.csv, each plain, .gz or .zst."""
    layout: str = "ali_ccp"
    """ali_ccp, or a TOML file that says which fields are what; fields that it does not name are left out."""
    tasks: tuple[str, ...] = ("click", "conversion")
    """Tasks: click; conversion, a purchase given a click; click_conversion, a purchase after any impression."""
    split: Annotated[SplitOptions, tyro.conf.arg(name="")] = field(default_factory=SplitOptions)


def prepare_ali_ccp(
    layout: Layout,
    raw: Path,
    out: Location,
    ids: IdOptions,
    split: SplitOptions,
    work: WorkOptions,
    stream: StreamOptions | None = None,
) -> Schema:
    """Prepares the data set, or resumes an interrupted preparation.

    Raises:
        ValueError: an option, a file or a row is invalid.
    """
    work.validate(out)
    check_layout(split.apply(layout))
    skeletons, common = (find_parts(raw, name) for name in ("sample_skeleton", "common_features"))
    return prepare(
        layout.name,
        "data_prep.ali_ccp",
        layout,
        skeletons,
        out,
        ids,
        split,
        work,
        partial(AliCcpLog, common=common_directory(WorkDirectory(out.absolute(), place=work.work))),
        Preprocessing(tuple(common), build_part),
        stream=stream,
    )


def check_layout(layout: Layout) -> None:
    """Raises ValueError where a layout wants what the files do not have."""
    fields_of_files = (*USER_FIELDS, *ROW_FIELDS)
    for feature in layout.categorical:
        if feature.column not in fields_of_files:
            raise ValueError(
                f"categorical {feature.feature!r}: no field {feature.column!r}; expected {', '.join(fields_of_files)}"
            )
        if feature.kind != "integer" or feature.separator:
            raise ValueError(f"categorical {feature.feature!r}: expected kind integer, without a separator")
    for label in layout.all_labels:
        if label.source not in ("click", "buy") or label.use != "binary":
            raise ValueError(f"label {label.name!r}: expected column click or buy, as it stands")
    fields = {feature.column for feature in layout.categorical if not feature.multi_hot}
    fields |= {label.source for label in layout.all_labels}
    for name in (layout.cluster, *layout.segments):
        if name and layout.column_of(name) not in fields:
            raise ValueError(f"cluster or segment {quote(name)}: expected a feature of one id per row, or a label")
    if layout.time_column:
        raise ValueError(f"time column {layout.time_column!r}: the files have no times")
    if layout.needed_weights:
        raise ValueError(f"weight {quote(layout.needed_weights[0].weight)}: the files have no row weights")
    if layout.dense:
        raise ValueError(f"dense {layout.dense[0].feature!r}: the files have no dense feature")


def find_parts(raw: Path, name: str) -> list[Path]:
    """The file of each part, by its name.

    Raises:
        ValueError: a file is missing, or is there both plain and compressed.
    """
    files = []
    for part in PARTS:
        matches = find_named(raw, f"{name}_{part}.csv")
        if not matches:
            raise ValueError(f"{raw / f'{name}_{part}.csv'}: not found, nor with {' or '.join(COMPRESSED_SUFFIXES)}")
        files += matches
    return files


def common_directory(directory: WorkDirectory) -> Path:
    """Where the common features are, in the form that workers share."""
    return directory.work / "common"


def build_part(preparation: Preparation, part: int) -> Iterator[dict[str, Any]]:
    """Brings the common features of a part into the form that workers share; yields its record."""
    directory, key = preparation.directory, f"{part:03d}"
    if record := directory.finished("preprocess", key):
        yield record
        return
    assert preparation.preprocessing is not None
    path = preparation.preprocessing.files[part]
    stem = stem_of(common_directory(directory), part)
    stem.parent.mkdir(parents=True, exist_ok=True)
    features = preparation.layout.categorical
    record = {"lines": 0}
    for lines in build(path, stem, features):
        directory.leave_if_orphaned()
        record["lines"] = lines
    directory.finish("preprocess", key, record, built_files(stem, features))
    yield record


def main() -> None:
    options = cli.parse(Options, "data_prep.ali_ccp")
    layout = options.context.apply(read_layout(options.layout).with_tasks(options.tasks))
    schema = prepare_ali_ccp(layout, options.raw, options.out, options.ids, options.split, options.work, options.stream)
    print_outcome(schema, options.out)


if __name__ == "__main__":
    cli.run("ali_ccp", main)
