"""The summary that entry points of ``data_prep`` print when they are done."""

from pathlib import Path

from dlrm_mtl.location import Location
from dlrm_mtl.quoting import shorten
from dlrm_mtl.schema import STREAM, Schema

COUNTS = {
    "missing": "missing values",
    "unseen": "ids not in the vocabulary",
    "raised": "values too small for the logarithm, raised",
    "clipped": "numbers out of the range of their label",
}

SHOWN_VALUES = 6
"""Values of a segment that are printed, and tables."""


def summary(schema: Schema, directory: Location) -> str:
    """Sizes, features and tasks of a data set, in lines."""
    rows = ", ".join(f"{split} {schema.rows(split):,} rows" for split in schema.splits)
    names = 2 + max(map(len, ("task", *schema.task_names)))
    labels = 2 + max(map(len, ("label", *schema.label_columns)))
    encoding = schema.source.get("encoding")
    lines = [
        f"{directory}: {rows}",
        *([f"encoded as {encoding['directory']}"] if encoding else []),
        *([f"period {schema.period}"] if schema.period else []),
        f"{len(schema.categorical)} categorical features in {len(schema.tables)} tables of"
        f" {sum(users[0].cardinality for users in schema.tables.values()):,} rows, {len(schema.dense)} dense features",
        f"{'task':<{names}}{'label':<{labels}}{'given':<{labels}}{'base rate':>10}{'Bayes NE':>10}",
    ]
    for task in schema.tasks:
        base_rate = "-" if task.base_rate is None else f"{task.base_rate:.5f}"
        bayes_ne = "-" if task.bayes_ne is None else f"{task.bayes_ne:.4f}"
        columns = f"{task.name:<{names}}{task.label:<{labels}}{task.given or '-':<{labels}}"
        lines.append(f"{columns}{base_rate:>10}{bayes_ne:>10}")
    for task in schema.tasks:
        if task.kind == "regression":
            unit = f", in {shorten(task.unit)}" if task.unit else ""
            nmse = schema.source.get("bayes_nmse", {}).get(task.name)
            best = "" if nmse is None else f"; Bayes NMSE {nmse:.4f}"
            lines.append(f"label of {task.name}: mean {task.mean:.5g}, deviation {task.deviation:.5g}{unit}{best}")
        if task.weight:
            lines.append(f"row weights of {task.name}: {task.weight}")
    return "\n".join([*lines, *_on_context(schema)])


def line_of_day(directory: Path, schema: Schema) -> str:
    """A data set of a period in one line: rows, ids, and the base rates of its tasks."""
    chain = schema.source["chain"]
    sizes = sum(users[0].cardinality for users in schema.tables.values())
    new = f"{sum(chain['appended'].values()):,} appended, {sum(chain['reset'].values()):,} reset"
    tasks = ", ".join(
        f"{task.name} {task.base_rate:.5f}" + ("" if task.bayes_ne is None else f" (Bayes NE {task.bayes_ne:.4f})")
        for task in schema.tasks
        if task.base_rate is not None
    )
    return f"{directory}: {schema.rows(STREAM):,} rows; {sizes:,} ids: {new}; base rates: {tasks or '-'}"


def _on_context(schema: Schema) -> list[str]:
    """Clusters and segments of the evaluation rows."""
    lines = []
    if cluster := schema.source.get("cluster"):
        known = "in the data sets before" if STREAM in schema.splits else "with training rows"
        lines.append(
            f"cluster {cluster['column']}: {cluster['evaluated']:,} in the {schema.evaluated_split} split,"
            f" {cluster['of_which_known']:,} of them {known}; {cluster['rows_without']:,} rows without"
        )
    for name, segment in schema.source.get("segments", {}).items():
        values = ", ".join(f"{value} {rows:,}" for value, rows in list(segment["rows"].items())[:SHOWN_VALUES])
        omitted = f", and {left} more" if (left := len(segment["rows"]) - SHOWN_VALUES) > 0 else ""
        other = f"; other holds {segment['values_in_other']:,} values" if segment["values_in_other"] else ""
        lines.append(f"segment {name}: {values}{omitted}{other}")
    return lines


def report(schema: Schema) -> str:
    """Counts of used, ignored and bad rows and of missing and unseen values of a raw log, in lines."""
    source = schema.source
    lines = [
        f"{source['rows_read']:,} rows read: {source['rows_outside']:,} in no split,"
        f" {source['rows_quarantined']:,} quarantined; {source['lines_ignored']:,} lines ignored",
        *(f"{shorten(name)}: {shorten(reason)}" for name, reason in source["files_broken"].items()),
    ]
    if source["files_passed_over"]:
        lines.append(f"{source['files_passed_over']:,} files or directories passed over: names that begin with _ or .")
    lines += _on_new_ids(schema) if STREAM in schema.splits else [_on_times(schema)]
    for split in schema.splits:
        ranges = source["split"][split]
        if set(ranges.values()) != {"0:"}:
            lines.append(f"{split}: files {ranges['files']}, rows {ranges['rows']}")
        for kind, words in COUNTS.items():
            counts = sorted(source[kind][split].items(), key=lambda item: -item[1])
            largest = ", ".join(f"{number:,} {name}" for name, number in counts[:4])
            omitted = f", and {len(counts) - 4} more features" if len(counts) > 4 else ""
            lines.append(f"{split}: {words}: {largest or 'none'}{omitted}")
    return "\n".join(lines)


def _on_new_ids(schema: Schema) -> list[str]:
    """The tables of the split stream with most new ids, and the features with most ids that the data set before has
    not."""
    chain = schema.source["chain"]
    new = {table: number + chain["reset"][table] for table, number in chain["appended"].items()}
    lines = [
        f"table {table}: {schema.tables[table][0].cardinality:,} ids"
        f"{f' of at most {capacity:,}' if (capacity := chain['capacities'][table]) else ''}, {new[table]:,} of them new"
        f" and {chain['reset'][table]:,} taken from other values; {chain['waiting'][table]:,} values wait"
        for table in sorted(new, key=lambda table: -new[table])[:SHOWN_VALUES]
    ]
    unseen = sorted(schema.source["unseen_before"].items(), key=lambda item: -item[1])
    if unseen:
        shares = ", ".join(f"{share:.1%} {name}" for name, share in unseen[:SHOWN_VALUES])
        lines.append(f"continues {chain['extends']['directory']}: ids that it has not: {shares}")
    return lines


def _on_times(schema: Schema) -> str:
    """Whether rows were split by time, and the times of each split."""
    time = schema.source["time"]
    if time is None:
        return "split by files and row numbers, whatever the rows' times; --time-column and --eval-from split by time"
    spans = ", ".join(f"{split} {' to '.join(time[split])}" for split in schema.splits)
    if time["eval_from"] is not None:
        return f"split by time, {time['column']}: rows from {time['eval_from']} on evaluate; {spans}"
    later = time["training_rows_later_than_first_evaluation_row"]
    share = f"{later:,} of {schema.rows('train'):,} training rows are later than the first evaluation row"
    return f"split by files and row numbers, not by time: {share}; {time['column']}: {spans}"
