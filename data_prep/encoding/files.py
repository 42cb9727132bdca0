"""Writes and reads ``encoding.json`` and the vocabularies beside it (docs/data.md)."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from data_prep.encoding.encoding import Encoding, ValuesFile
from data_prep.ids.assignment import Assignment, Learnt, read_values
from dlrm_mtl.file_names import file_names
from dlrm_mtl.files import read_object, sha256, write_json
from dlrm_mtl.location import Location
from dlrm_mtl.meaning import Meaning, find_difference
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import build

FORMAT = 1
"""Version of the format that this code reads and writes."""

FILE = "encoding.json"


def vocabulary_files(tables: Collection[str]) -> dict[str, str]:
    """Where the vocabularies of a data set are, by table."""
    return {table: f"vocabulary/{name}.parquet" for table, name in file_names(tables).items()}


def write_encoding(encoding: Encoding, directory: Path, vocabularies: Mapping[str, str]) -> None:
    """Writes ``encoding.json``.

    Args:
        directory: of the data set.
        vocabularies: files of the vocabularies by their tables, relative to ``directory``; they are written before.
    """
    files = {table: ValuesFile(file, sha256(directory / file)) for table, file in vocabularies.items()}
    encoding = replace(encoding, vocabularies=files)
    write_json(directory / FILE, {"format": FORMAT, **asdict(encoding)})


def read_encoding(directory: Location, meaning: Meaning | None = None) -> Encoding:
    """Reads ``encoding.json``.

    Args:
        meaning: of the data set or model whose rows it encodes; None: it is not compared.

    Raises:
        ValueError: the file is missing or invalid, or a table or dense feature has another meaning.
    """
    path = directory / FILE
    raw = read_object(path)
    try:
        version = raw.pop("format", None)
        if type(version) is not int or version != FORMAT:
            raise ValueError(f"format {quote(version)}, expected {FORMAT}")
        encoding = build(Encoding, raw, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if meaning is not None and (difference := find_difference(meaning, encoding.meaning)):
        raise ValueError(f"{path}: {difference.what} is {difference.now}, expected {difference.before}")
    return encoding


def read_assignments(encoding: Encoding, directory: Location) -> dict[str, Assignment]:
    """The assignments of ids, with the vocabularies beside ``encoding.json``.

    Raises:
        ValueError: a vocabulary is missing or has changed, or see :meth:`Encoding.assignments`.
    """
    return encoding.assignments(partial(read_vocabulary, encoding, directory))


def read_vocabulary(encoding: Encoding, directory: Location, table: str) -> Learnt:
    """The vocabulary of a table, from beside ``encoding.json``. Raises ValueError where it is missing or has
    changed."""
    path = find_vocabulary(encoding, directory, table)
    learnt = read_values(path, encoding.tables[table][0].kind)
    size = encoding.fingerprints.tables[table].size
    if learnt.cardinality != size:
        raise ValueError(f"{path}: {learnt.cardinality} ids, expected {size}")
    return learnt


def find_vocabulary(encoding: Encoding, directory: Location, table: str) -> Location:
    """The file with the vocabulary of a table, beside ``encoding.json``. Raises ValueError where it is missing or has
    changed."""
    if table not in encoding.vocabularies:
        raise ValueError(f"{directory / FILE}: table {quote(table)} has no vocabulary")
    return check_file(directory, encoding.vocabularies[table], FILE, f"the vocabulary of table {quote(table)}")


def check_file(directory: Location, file: ValuesFile, named_by: str, what: str) -> Location:
    """The path of a file that another one names. Raises ValueError where it is missing or has changed."""
    path = directory / file.file
    if not path.is_file():
        raise ValueError(f"{path}: not found, {what}")
    if sha256(path) != file.sha256:
        raise ValueError(f"{path}: differs from the file that {named_by} names (sha256)")
    return path
