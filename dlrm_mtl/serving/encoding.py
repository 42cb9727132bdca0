"""What encodes raw rows, as an export holds it: ``encoding.json``, and vocabularies without counts."""

from pathlib import Path

from data_prep.encoding.files import FILE, find_vocabulary, read_encoding, write_encoding
from data_prep.encoding.values import load_values, write_values
from dlrm_mtl.location import Location


def copy_encoding(data: Location, directory: Path) -> None:
    """Copies the encoding of a data set, where it has one. Raises ValueError where it is damaged."""
    if not (data / FILE).is_file():
        return
    encoding = read_encoding(data)
    files = {table: vocabulary.file for table, vocabulary in encoding.vocabularies.items()}
    for table, file in files.items():
        write_values(load_values(find_vocabulary(encoding, data, table)), directory / file)
    directory.mkdir(exist_ok=True)
    write_encoding(encoding, directory, files)
