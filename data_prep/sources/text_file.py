"""The text in a file, plain or compressed; the first bytes decide which."""

import zlib
from collections.abc import Iterator
from contextlib import suppress

import pyarrow as pa

from data_prep.sources.file_kinds import COMPRESSED, HEAD_BYTES, head, kind_of
from dlrm_mtl.location import Location
from dlrm_mtl.storage.parquet import is_of_file
from dlrm_mtl.storage.transfer import open_bytes

COMPRESSED_SUFFIXES = {".gz": "gzip", ".zst": "zstd"}

PIECE_BYTES = 1 << 16
"""Bytes decompressed at a time."""

FINE_BYTES = 1 << 12
"""Bytes of a damaged file that are tried at a time."""

GZIP_BITS = 31
"""zlib's ``wbits`` for its largest window and a gzip header."""


def codec_of(path: Location) -> str | None:
    """The compression of a file, by its first bytes or else its name. Raises OSError where it cannot be read."""
    kind = kind_of(head(path))
    return kind if kind in COMPRESSED.values() else COMPRESSED_SUFFIXES.get(path.suffix.lower())


def open_text(path: Location) -> pa.NativeFile:
    """The uncompressed text of a file, as a stream. Raises OSError where it cannot be read."""
    codec = codec_of(path)
    file = open_bytes(path)
    return pa.CompressedInputStream(file, codec) if codec else file


class TextFile:
    """The uncompressed text of a file."""

    def __init__(self, path: Location) -> None:
        self._path = path
        self._codec = codec_of(path)
        self._file = open_bytes(path)
        self._stream = pa.CompressedInputStream(self._file, self._codec) if self._codec else self._file
        self._position = 0
        self._error: OSError | None = None
        self._remains: Iterator[bytes] = iter(())
        self._rest = b""
        if self._codec and not path.stat().st_size:
            self._error = OSError("an empty file, compressed by its name")

    def __enter__(self) -> "TextFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def is_compressed(self) -> bool:
        return self._codec is not None

    @property
    def file_position(self) -> int:
        """Bytes of the file that were read, for progress; in a store, of the text."""
        return self._file.tell() if self._file.seekable() else self._position

    def read_into(self, buffer: memoryview) -> int:
        """Fills a buffer as far as the text goes; returns the number of bytes.

        Raises:
            OSError: no more text can be decompressed, although the file does not end here.
        """
        if not self.is_compressed:
            return self._stream.readinto(buffer)
        filled = 0
        while filled < len(buffer) and (size := self._decompress_into(buffer[filled : filled + PIECE_BYTES])):
            filled += size
        if self._error is not None and not filled:
            raise self._error
        return filled

    def skip(self, size: int) -> None:
        """Skips ``size`` bytes from the beginning, or all where there are fewer."""
        if not self.is_compressed:
            self._file.close()
            self._file = self._stream = open_bytes(self._path, size)
            return
        scratch = memoryview(bytearray(min(size, PIECE_BYTES)))
        while size > 0:
            passed = self.read_into(scratch[: min(size, len(scratch))])
            if not passed:
                return
            size -= passed

    def _decompress_into(self, buffer: memoryview) -> int:
        """Fills a buffer as far as the text can be decompressed; returns 0 at the end, or where the file is damaged."""
        if self._error is None:
            try:
                size: int = self._stream.readinto(buffer)
                self._position += size
                return size
            except OSError as error:
                if not is_of_file(error):
                    raise
                # The failed stream has lost what it had decompressed before.
                self._error = error
                self._remains = _remains(self._path, str(self._codec), self._position)
        self._rest = self._rest or next(self._remains, b"")
        size = min(len(self._rest), len(buffer))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _remains(path: Location, codec: str, position: int) -> Iterator[bytes]:
    """The text of a damaged file from a position on, as far as it can be decompressed."""
    for text in _gunzipped(path) if codec == "gzip" else _decompressed_bytewise(path, codec, position):
        passed = min(position, len(text))
        position -= passed
        if passed < len(text):
            yield text[passed:]


def _gunzipped(path: Location) -> Iterator[bytes]:
    with path.open("rb") as file:
        decoder = zlib.decompressobj(GZIP_BITS)
        while piece := file.read(FINE_BYTES):
            while piece:
                before = decoder.copy()
                try:
                    yield decoder.decompress(piece)
                except zlib.error:
                    yield from _gunzipped_bytewise(before, piece)
                    return
                piece = decoder.unused_data
                decoder = zlib.decompressobj(GZIP_BITS) if decoder.eof else decoder


def _gunzipped_bytewise(decoder: "zlib._Decompress", piece: bytes) -> Iterator[bytes]:
    with suppress(zlib.error):
        for byte in piece:
            yield decoder.decompress(bytes([byte]))


def _decompressed_bytewise(path: Location, codec: str, position: int) -> Iterator[bytes]:
    """The text, byte by byte from a position on."""
    with open_bytes(path) as file, suppress(OSError):
        stream = pa.CompressedInputStream(file, codec)
        while text := stream.read(min(position, PIECE_BYTES) or 1):
            position -= min(position, len(text))
            yield text


def check_is_text(path: Location) -> None:
    """Raises ValueError where a file is no text, plain or compressed."""
    kinds = [kind_of(head(path))]
    with suppress(OSError), TextFile(path) as file:
        if file.is_compressed:
            buffer = bytearray(HEAD_BYTES)
            kinds = [kind_of(bytes(buffer[: file.read_into(memoryview(buffer))]))]
    for kind in kinds:
        if kind is not None and kind not in COMPRESSED.values():
            raise ValueError(f"{path}: is {kind}; expected text, plain or compressed as .gz or .zst, or parquet files")
