"""``python -m data_prep.kuairand``: the raw KuaiRand files (Pure, 1K, 27K or a slice) as a data set.

Two passes over the log: the first learns the encoders from training rows, the second encodes. Memory holds the user
and video tables, the vocabularies and one batch of the log.
"""

from data_prep.columns.layout import dense_names
from data_prep.encoding.encoding import Encoding
from data_prep.encoding.reuse import ReusedEncoding
from data_prep.kuairand_log.context import CLUSTER, KuaiRandContext
from data_prep.kuairand_log.counts import Counts, report, to_date
from data_prep.kuairand_log.days import prepare_days
from data_prep.kuairand_log.features import ImpressionEncoder, Tables
from data_prep.kuairand_log.learning import Statistics
from data_prep.kuairand_log.options import TASKS, Options
from data_prep.kuairand_log.passes import Passes
from data_prep.kuairand_log.progress import with_progress
from data_prep.kuairand_log.raw_tables import RawFiles, check_history, discover, read_log
from data_prep.kuairand_log.reuse import reuse, vocabularies_of
from data_prep.output.summary import line_of_day, summary
from data_prep.output.writer import DatasetWriter
from dlrm_mtl import cli
from dlrm_mtl.schema import Schema
from dlrm_mtl.storage.publishing import check_destination


def prepare(options: Options) -> Schema:
    """Writes the data set.

    Raises:
        ValueError: a file, column or value is not as expected; a split is empty or a task has one class.
    """
    options.validate()
    check_destination(options.out)
    tasks = TASKS[options.tasks]
    files = discover(options.raw, options.include_random, options.log_labels)
    reused = None
    if options.encoding is not None:
        reused, files = reuse(options.encoding, options.out, files)
    tables = Tables.read(files)
    statistics = Statistics(tables)
    passes = Passes(tasks, tables, KuaiRandContext(tables, options.segments), None if reused else statistics)
    counts = count(options, files, passes)
    encoding, vocabularies = (
        (reused.encoding, vocabularies_of(reused))
        if reused is not None
        else statistics.learn(options.history_length, options.growth)
    )
    encoder = ImpressionEncoder(tables, encoding, vocabularies)
    with DatasetWriter(
        options.out,
        options.name,
        encoding.features,
        dense_names(encoding.dense),
        tasks,
        fingerprints=encoding.fingerprints,
        cluster=CLUSTER,
        segments=passes.context.learnt(),
    ) as writer:
        for impressions in with_progress(read_log(files.logs, options.log_labels), "encode", counts.rows_read):
            for split, mask in options.split(impressions).items():
                writer.write(split, passes.encode(split, impressions.select(mask), encoder, encoding.features))
        described = {**source(options, files, counts, encoding, reused), **passes.context.as_record()}
        scales = {} if reused is None else reused.label_scales(tasks, options.label_formulas)
        return writer.finish(described, encoding=encoding, vocabularies=vocabularies, scales=scales)


def count(options: Options, files: RawFiles, passes: Passes) -> Counts:
    """The first pass. The context learns from it, and so do the statistics, if there are any.

    Raises:
        ValueError: a split is empty, a task has one class only among the training rows, or the histories reach
            into the rows used.
    """
    counts = passes.counts
    first_used = 1 << 40
    for impressions in with_progress(read_log(files.logs, options.log_labels), "count", None):
        if not len(impressions):
            continue
        counts.read(impressions)
        used = 0
        for split, mask in options.split(impressions).items():
            selected = impressions.select(mask)
            used += len(selected)
            passes.count(split, selected)
            if len(selected):
                first_used = min(first_used, int(selected.day.min()))
        counts.rows_outside_dates += len(impressions) - used
    check_splits(options, counts)
    check_history(files, passes.tables.history, first_used)
    return counts


def check_splits(options: Options, counts: Counts) -> None:
    """Raises ValueError where a split is empty, or a task has one class only among its training rows."""
    if not counts.rows_read:
        raise ValueError(f"{options.raw}: the log has no rows")
    first, last = (to_date(day) for day in counts.days)
    for split, rows in counts.rows.items():
        if not rows:
            span = (
                f"{options.train_from or first} to the day before {options.eval_from}"
                if split == "train"
                else f"{options.eval_from} to {options.eval_to or last}"
            )
            raise ValueError(f"{options.raw}: no {split} row, dated {span}; the log runs from {first} to {last}")
    for task, positives in counts.positives["train"].items():
        defined = counts.defined["train"][task]
        if not 0 < positives < defined:
            raise ValueError(
                f"{options.raw}: task {task!r} has {positives} positives in the {defined} training rows where it is"
                " defined, expected both classes"
            )


def source(
    options: Options, files: RawFiles, counts: Counts, encoding: Encoding, reused: ReusedEncoding | None
) -> dict[str, object]:
    """The schema's ``source``: options, files, and counts of rows and ids."""
    first, last = (to_date(day) for day in counts.days)
    learnt = {
        "history_length": options.history_length,
        "min_count": options.ids.least_count,
        "max_ids": options.max_ids,
    }
    return {
        **options.origin(files.names),
        "train_from": str(options.train_from or first),
        "eval_from": str(options.eval_from),
        "eval_to": str(options.eval_to or last),
        **(learnt if reused is None else {"encoding": reused.as_record()}),
        **counts.as_record(),
        "dense_scaling": encoding.dense_scaling,
    }


def main() -> None:
    options = cli.parse(Options, "data_prep.kuairand")
    if options.every is not None:
        for directory, day in prepare_days(options):
            print(line_of_day(directory, day))
        return
    schema = prepare(options)
    print(summary(schema, options.out))
    print(report(schema))


if __name__ == "__main__":
    cli.run("kuairand", main)
