"""The encoding of a data set, by which the rows of another one are encoded, so that one model fits both."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, Literal

from data_prep.columns.layout import CategoricalColumn, DenseColumn
from data_prep.encoding.encoding import Encoding
from data_prep.encoding.files import FILE, find_vocabulary, read_encoding
from data_prep.ids.scaling import Scale
from dlrm_mtl.files import sha256
from dlrm_mtl.location import Location
from dlrm_mtl.model_schema import Task
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import read_schema


@dataclass(frozen=True)
class ReusedEncoding:
    """The encoding of another data set."""

    directory: Location
    """Of that data set."""
    name: str
    """Its name."""
    encoding: Encoding
    sha256: str
    """Of its ``encoding.json``, which has the checksums of the vocabularies."""
    tasks: tuple[Task, ...]
    """Its tasks."""
    label_formulas: Mapping[str, str]
    """What its regression labels are, see :attr:`Layout.label_formulas`."""

    @property
    def file(self) -> Location:
        """Its ``encoding.json``."""
        return self.directory / FILE

    def as_record(self) -> dict[str, str]:
        """The entry ``encoding`` of the schema's source."""
        return {"data_set": self.name, "directory": str(self.directory), "sha256": self.sha256}

    def check_features(self, categorical: Sequence[CategoricalColumn], dense: Sequence[DenseColumn]) -> None:
        """Raises ValueError where the features of a log are not those of the encoding."""
        self._check("categorical", categorical, self.encoding.categorical)
        self._check("dense", dense, self.encoding.dense)

    def check_texts(self, trim: bool, missing: Sequence[str]) -> None:
        """Raises ValueError where the texts of a log are not read as those of the encoding; arguments as in a
        layout."""
        for name, value in (("trim", trim), ("missing", missing)) if self.encoding.text is not None else ():
            if value != (expected := getattr(self.encoding.text, name)):
                raise ValueError(f"{name} {quote(value)}: expected {quote(expected)}, as in {self.file}")

    def label_scales(self, tasks: Sequence[Task], formulas: Mapping[str, str]) -> dict[str, Scale]:
        """Mean and deviation of the labels of regression tasks that the data set has, too.

        Raises:
            ValueError: one of them has another label there.
        """
        before = {task.name: task for task in self.tasks if task.kind == "regression"}
        scales = {}
        for task in tasks:
            if task.kind == "regression" and (other := before.get(task.name)):
                formula, expected = formulas.get(task.label), self.label_formulas.get(other.label)
                if (task.unit, task.given, formula) != (other.unit, other.given, expected):
                    raise ValueError(
                        f"task {quote(task.name)}: its label is {formula} in {task.unit or 'no unit'}, given"
                        f" {task.given or 'nothing'}, expected {expected} in {other.unit or 'no unit'}, given"
                        f" {other.given or 'nothing'}, as in {self.directory}"
                    )
                scales[task.name] = other.mean, other.deviation
        return scales

    def _check(
        self,
        kind: str,
        columns: Sequence[CategoricalColumn | DenseColumn],
        expected: Sequence[CategoricalColumn | DenseColumn],
    ) -> None:
        for number, (column, other) in enumerate(zip_longest(columns, expected), start=1):
            if column is None or other is None or column.feature != other.feature:
                names = ["none" if some is None else quote(some.feature) for some in (column, other)]
                raise ValueError(f"{kind} feature number {number}: {names[0]}, expected {names[1]}, as in {self.file}")
            described, wanted = _described(column), _described(other)
            for key, value in described.items():
                if value != wanted[key]:
                    raise ValueError(
                        f"{kind} feature {quote(column.feature)}: {key} {quote(value)}, expected {quote(wanted[key])},"
                        f" as in {self.file}"
                    )


def read_reused(directory: Location, rows: Literal["log", "kuairand"], out: Location) -> ReusedEncoding:
    """The encoding of a data set, for rows that go to another one.

    Args:
        rows: the raw rows that are to be encoded.
        out: directory of the other data set.

    Raises:
        ValueError: there is no such data set, it has no encoding or one of other raw rows, a vocabulary is missing or
            has changed, or ``out`` is that data set.
    """
    if directory.resolve() == out.resolve():
        raise ValueError(f"out {out}: is the data set whose encoding is used; give another directory")
    schema = read_schema(directory)
    path = directory / FILE
    if not path.is_file():
        raise ValueError(f"{path}: not found; earlier versions did not write it; prepare that data set again")
    encoding = read_encoding(directory, schema.meaning)
    if encoding.rows != rows:
        raise ValueError(f"{path}: rows {quote(encoding.rows)}, expected {quote(rows)}: it is of another source")
    for table in encoding.tables_with_vocabulary:
        find_vocabulary(encoding, directory, table)
    formulas = schema.source.get("label_formulas", {})
    return ReusedEncoding(directory, schema.name, encoding, sha256(path), schema.tasks, formulas)


def _described(column: CategoricalColumn | DenseColumn) -> dict[str, Any]:
    """The fields of a column, with what empty ones stand for."""
    table = {"table": column.table_name} if isinstance(column, CategoricalColumn) else {}
    return {**asdict(column), "name": column.feature, **table}
