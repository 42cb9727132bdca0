"""The last step of a preparation: builds the schema from the records of all segments."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from data_prep.encoding.encoding import Encoding
from data_prep.encoding.files import vocabulary_files, write_encoding
from data_prep.engine.continuing import copy_waiting, describe_ids, find_period, write_continuation
from data_prep.engine.evaluation_rows import EvaluationSplit
from data_prep.engine.preparation import Preparation, key_of
from data_prep.engine.segments import lines_before
from data_prep.output.label_counts import LabelCounts, label_source
from data_prep.output.time_spans import count_later, join_spans
from dlrm_mtl.files import synchronize, write_whole
from dlrm_mtl.schema import STREAM, Schema, Shard

COUNTED = ("missing", "unseen", "raised", "clipped")
"""Counts by split and feature or label in the schema: missing values, ids outside the vocabulary, values raised for the
logarithm, numbers out of the range of their label."""

Records = Mapping[tuple[int, int], Mapping[str, Any]]


def assemble(
    preparation: Preparation,
    generator: str,
    encoded: Records,
    encoding: Encoding,
    evaluation: EvaluationSplit | None,
) -> Schema:
    """Returns the schema of the data set; writes quarantined rows and the encoding beside the shards.

    Args:
        evaluation: shards of the eval split that have clusters or segments; None: the records list its shards.

    Raises:
        ValueError: a split is empty, the labels of a task are all equal among the training rows, or the rows are not
            later than those of the data set before.
    """
    layout, of_splits = preparation.layout, preparation.split
    period = find_period(preparation, encoded.values())
    quarantined = _write_quarantine(preparation, encoded)
    write_encoding(encoding, preparation.directory.data, _copy_vocabularies(preparation, encoding))
    if of_splits.is_stream:
        copy_waiting(preparation, encoding)
    splits = {
        split: tuple(
            Shard(shard["file"], shard["rows"], shard["sha256"])
            for record in encoded.values()
            if (shard := record["shards"].get(split))
        )
        for split in of_splits.names
    }
    if evaluation is not None:
        splits[of_splits.evaluated] = evaluation.shards
    rows = {split: sum(shard.rows for shard in shards) for split, shards in splits.items()}
    for split in splits:
        if not rows[split]:
            ranges = of_splits.describe()[split]
            raise ValueError(
                f"no {split} row: files {ranges['files']}, rows {ranges['rows']} of {_sum(encoded, 'lines')} rows"
                f"{_where_times_run(preparation, encoded)}"
            )
    ids: Counter[str] = sum((Counter(record["ids"]) for record in encoded.values()), Counter())
    labels = {
        split: {
            task.name: LabelCounts.merged(task, (record["labels"][split][task.name] for record in encoded.values()))
            for task in layout.tasks
        }
        for split in splits
    }
    source: dict[str, Any] = {
        "generator": generator,
        "layout": layout.name,
        "licence": layout.licence,
        "files": _files(preparation, encoded),
        **_ids(preparation),
        "reserved_ids": {"missing": 0, "unseen": 1},
        "split": of_splits.describe(),
        "time": _times(preparation, encoded),
        "rows_read": _sum(encoded, "lines") + _sum(encoded, "blank_end"),
        "rows_outside": _sum(encoded, "outside"),
        "rows_quarantined": quarantined,
        "lines_ignored": _sum(encoded, "ignored") + _sum(encoded, "blank_end"),
        "files_passed_over": preparation.passed_over,
        "files_broken": {
            preparation.names[file]: record["broken"] for (file, _), record in encoded.items() if record["broken"]
        },
        **label_source(labels),
        **{kind: {split: _counts(encoded, kind, split) for split in splits} for kind in COUNTED},
        **(_describe_stream(preparation, encoding, encoded, ids, rows[STREAM]) if of_splits.is_stream else {}),
        "dense_scaling": encoding.dense_scaling,
        "label_formulas": layout.label_formulas,
        **(evaluation.source if evaluation is not None else {}),
    }
    return Schema(
        name=preparation.name,
        categorical=tuple(
            replace(feature, mean_length=round(ids[feature.name] / rows[of_splits.learnt], 6))
            if feature.multi_hot
            else feature
            for feature in encoding.features
        ),
        dense=tuple(layout.dense_names),
        tasks=tuple(
            counts.learnt(preparation.label_scales.get(name)) for name, counts in labels[of_splits.learnt].items()
        ),
        splits=splits,
        source=source,
        fingerprints=encoding.fingerprints,
        cluster=layout.cluster,
        segments=evaluation.segments if evaluation is not None else (),
        period=period,
        continues=write_continuation(preparation, preparation.previous) if preparation.previous is not None else None,
    )


def _ids(preparation: Preparation) -> dict[str, Any]:
    """The entries of the schema's source on how ids are assigned."""
    if preparation.reused is not None:
        return {"encoding": preparation.reused.as_record()}
    ids = preparation.ids
    return {"ids": ids.ids, "min_count": ids.least_count, "max_ids": ids.max_ids}


def _describe_stream(
    preparation: Preparation, encoding: Encoding, encoded: Records, ids: Mapping[str, int], rows: int
) -> dict[str, Any]:
    """The entries of the schema's source on the ids of the split stream."""
    new, unseen = (_counts(encoded, kind, STREAM) for kind in ("new", "unseen"))
    return {"new": {STREAM: new}, **describe_ids(preparation, encoding, Counter(new) + Counter(unseen), ids, rows)}


def _files(preparation: Preparation, encoded: Records) -> list[dict[str, Any]]:
    """The files of the log, and how many rows each has."""
    rows: Counter[str] = Counter(dict.fromkeys(preparation.names, 0))
    for (file, _), record in encoded.items():
        rows[preparation.names[file]] += record["lines"]
    return [{"name": name, "rows": number} for name, number in rows.items()]


def _times(preparation: Preparation, encoded: Records) -> dict[str, Any] | None:
    """The entry ``time`` of the schema's source."""
    if (times := preparation.times) is None:
        return None
    spans = join_spans(record["times"] for record in encoded.values())
    later = 0
    if preparation.keeps_times:
        parts = {
            preparation.times_file(file, segment): record["times"]["train"][1]
            for (file, segment), record in encoded.items()
            if "train" in record["times"]
        }
        later = count_later(parts, spans["eval"][0])
    if preparation.split.is_stream:
        return {"column": times.column, STREAM: [times.text(time) for time in spans[STREAM]]}
    eval_from = preparation.split.eval_from
    return {
        "column": times.column,
        "eval_from": None if eval_from is None else times.text(eval_from),
        **{split: [times.text(time) for time in spans[split]] for split in preparation.split.names},
        "training_rows_later_than_first_evaluation_row": later,
    }


def _where_times_run(preparation: Preparation, encoded: Records) -> str:
    spans = join_spans(record["times"] for record in encoded.values()).values()
    if preparation.times is None or not spans:
        return ""
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    eval_from = preparation.split.eval_from
    which = "" if eval_from is None else f", those from {preparation.times.text(eval_from)} on evaluate"
    return f"; their times run from {preparation.times.text(first)} to {preparation.times.text(last)}{which}"


def _write_quarantine(preparation: Preparation, encoded: Records) -> int:
    """Writes file, line, column, value, reason and text of each bad row to ``quarantine.jsonl``; no file without bad
    rows. Returns their number."""
    number = 0
    preparation.directory.data.mkdir(parents=True, exist_ok=True)
    path = preparation.directory.data / "quarantine.jsonl"
    path.unlink(missing_ok=True)
    for (file, segment), before in lines_before(preparation, encoded).items():
        number += encoded[file, segment]["bad"]
        part = preparation.directory.file("quarantine", f"{key_of(file, segment)}.jsonl")
        with part.open() as lines, path.open("a") as sink:
            for line in lines:
                bad = json.loads(line)
                row = {"file": preparation.names[file], **bad, "line": before + bad["line"]}
                sink.write(json.dumps(row) + "\n")
    if number:
        synchronize(path)
    return number


def _copy_vocabularies(preparation: Preparation, encoding: Encoding) -> dict[str, str]:
    """Copies the vocabularies into the data set; their paths in it, by table."""
    files = vocabulary_files(encoding.tables_with_vocabulary)
    for table, file in files.items():
        path = preparation.directory.data / file
        path.parent.mkdir(exist_ok=True)
        with write_whole(path) as temporary:
            shutil.copyfile(preparation.keys_file(table).with_suffix(".parquet"), temporary)
    return files


def _sum(encoded: Records, key: str) -> int:
    return sum(record[key] for record in encoded.values())


def _counts(encoded: Records, kind: str, split: str) -> dict[str, int]:
    """Sums by feature; features with 0 are left out."""
    total: Counter[str] = Counter()
    for record in encoded.values():
        total.update(record[kind][split])
    return {name: number for name, number in total.items() if number}
