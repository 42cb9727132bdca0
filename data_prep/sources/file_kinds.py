"""The kind of a file by its first bytes, since names may be wrong."""

from dlrm_mtl.location import Location
from dlrm_mtl.storage.transfer import open_bytes

HEAD_BYTES = 512
"""First bytes of a file, enough to tell its kind."""

COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""Compressed files, which are read as the text inside."""

PARQUET = "parquet"

MAGIC = {
    **COMPRESSED,
    b"PAR1": PARQUET,
    b"PARE": "encrypted parquet",
    **{b"BZh%d1AY&SY" % level: "bzip2" for level in range(1, 10)},
    b"\xfd7zXZ\0": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xff\x06\0\0sNaPpY": "snappy",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"ORC": "ORC",
    b"Obj\x01": "Avro",
    b"ARROW1": "Arrow IPC",
    b"FEA1": "Feather",
    b"SEQ": "Hadoop sequence file",
    b"RCF": "Hadoop RC file",
    b"\x89HDF\r\n": "HDF5",
    b"\x93NUMPY": "NumPy",
    b"SQLite format 3\0": "SQLite",
    b"%PDF": "PDF",
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"version https://git-lfs": "Git LFS pointer",
}
"""Kinds by the bytes that their files begin with; longer prefixes before shorter ones."""

PRINTABLE = {bytes([number]) for number in (0x09, *range(0x20, 0x7F))}

TAR_PLACE, TAR = 257, b"ustar"
"""Offset and bytes of the mark of a tar archive."""


def head(path: Location) -> bytes:
    """The first bytes of a file. Raises OSError where it cannot be read."""
    with open_bytes(path) as file:
        return bytes(file.read(HEAD_BYTES))


def kind_of(first_bytes: bytes) -> str | None:
    """The kind of a file by its first bytes; None: it may be text."""
    for magic, kind in MAGIC.items():
        # Letters may begin the name of a column.
        is_text = magic.isalnum() and first_bytes[len(magic) : len(magic) + 1] in PRINTABLE
        if first_bytes.startswith(magic) and not is_text:
            return kind
    return "tar" if first_bytes[TAR_PLACE:].startswith(TAR) else None
