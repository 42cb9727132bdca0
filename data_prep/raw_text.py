"""Text logs, plain, .gz or .zst, cut into segments: the unit of parallel work and of resuming.

A segment is the lines that begin in one span of ``SEGMENT_BYTES`` of the uncompressed text. So a log and its
compressed form have the same segments. Those of a plain file can be read in any order; a compressed one is read
from its beginning.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

SEGMENT_BYTES = 128 << 20
"""About 550,000 rows of Criteo's logs. Part of what a data set's shards are: another value gives other shards."""

BLOCK_BYTES = 4 << 20
"""Bytes read at a time: about 17,000 rows of Criteo's logs."""

CACHED_BYTES = 1 << 18
"""Bytes whose temporaries stay in a core's cache."""

LINE_BYTES = 1 << 20
"""A longer line is taken for a sign that the file is none of text."""

CODECS = {".gz": "gzip", ".zst": "zstd"}


class BrokenFile(ValueError):
    """A file cannot be read on. ``line``: the last whole line before, relative to the segment."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Block:
    """Whole lines of one segment."""

    segment: int
    text: memoryview
    """Good until the next block is asked for."""
    lines: int
    file_bytes: int
    """Bytes of the file, as it is stored, that were read for it."""


def is_compressed(path: Path) -> bool:
    return path.suffix in CODECS


class TextFile:
    """The uncompressed text of a file, to be read from a position on."""

    def __init__(self, path: Path) -> None:
        self._file = pa.OSFile(str(path))
        codec = CODECS.get(path.suffix)
        self._stream = pa.CompressedInputStream(self._file, codec) if codec else self._file
        self.is_compressed = codec is not None

    def __enter__(self) -> "TextFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read_into(self, buffer: memoryview) -> int:
        """Fills a buffer as far as the file goes; the number of bytes."""
        return self._stream.readinto(buffer)

    def skip(self, size: int) -> None:
        """Passes over ``size`` bytes from the beginning, or to the end where it comes first."""
        if not self.is_compressed:
            self._file.seek(size)
            return
        while size > 0:
            passed = len(self._stream.read(min(size, BLOCK_BYTES)))
            if not passed:
                return
            size -= passed

    @property
    def file_position(self) -> int:
        return self._file.tell()


def first_line(path: Path) -> str:
    """The first line of a file, without its end. Raises ValueError where it cannot be read or is empty."""
    try:
        with TextFile(path) as file:
            buffer = bytearray(LINE_BYTES)
            size = file.read_into(memoryview(buffer))
            line = bytes(buffer[:size]).split(b"\n", 1)[0]
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    if not line.strip():
        raise ValueError(f"{path}: is empty, or its first line is")
    return line.decode("utf-8-sig", errors="replace").rstrip("\r")


def segments_of(path: Path) -> int | None:
    """Number of segments; None where only reading tells."""
    if is_compressed(path):
        return None
    return max(1, -(-path.stat().st_size // SEGMENT_BYTES))


def read_blocks(path: Path, first: int, last: int | None) -> Iterator[Block]:
    """The lines of segments ``first`` to ``last`` (None: to the end), in blocks; a last line without an end gets
    one. A segment in which no line begins has no block.

    Raises:
        BrokenFile: the file cannot be decompressed or read, or a line is too long.
    """
    line = 0
    segment = first
    buffer = bytearray(LINE_BYTES + BLOCK_BYTES)
    view = memoryview(buffer)
    try:
        with TextFile(path) as file:
            # The line at the byte before a segment's span is the last one of the segment before.
            passed = max(first * SEGMENT_BYTES - 1, 0)
            # A file that breaks off ends with the last whole block: the same one, wherever reading began.
            position = passed // BLOCK_BYTES * BLOCK_BYTES
            passed -= position
            file.skip(position)
            begun = file.file_position
            held = 0
            skipping = first > 0
            while size := file.read_into(view[held : held + BLOCK_BYTES]):
                filled = held + size
                start = buffer.find(b"\n", passed, filled) + 1 if skipping else 0
                passed = 0
                skipping = skipping and not start
                end = filled if skipping else buffer.rfind(b"\n", start, filled) + 1
                end = max(start, end)
                read, begun = file.file_position - begun, file.file_position
                for number, low, high in () if skipping else _by_segment(buffer, start, end, position):
                    if last is not None and number > last:
                        return
                    line = line if number == segment else 0
                    segment = number
                    lines = count_lines(view[low:high])
                    yield Block(number, view[low:high], lines, read if file.is_compressed else high - low)
                    line += lines
                    read = 0
                position += end
                held = filled - end
                if held > LINE_BYTES:
                    raise BrokenFile(f"has a line of more than {LINE_BYTES >> 20} MiB; expected lines of text", line)
                buffer[:held] = bytes(view[end:filled])
            if held and not skipping:
                number = position // SEGMENT_BYTES
                if last is None or number <= last:
                    yield Block(number, memoryview(bytes(view[:held]) + b"\n"), 1, file.file_position - begun)
    except OSError as error:
        raise BrokenFile(f"cannot be read on ({' '.join(str(error).split())})", line) from None


def count_lines(text: memoryview | bytes) -> int:
    """Number of line ends; several times as fast as ``bytes.count`` where lines are short."""
    characters = np.frombuffer(text, np.uint8)
    spans = range(0, len(text), CACHED_BYTES)
    return sum(int(np.count_nonzero(characters[start : start + CACHED_BYTES] == ord("\n"))) for start in spans)


def _by_segment(buffer: bytearray, start: int, stop: int, position: int) -> Iterator[tuple[int, int, int]]:
    """Cuts whole lines of a buffer where segments meet: segment, start and end of each cut.

    Args:
        position: of the buffer's first byte in the file.
    """
    while start < stop:
        segment = (position + start) // SEGMENT_BYTES
        border = (segment + 1) * SEGMENT_BYTES - position
        end = buffer.find(b"\n", border - 1, stop) + 1 if border <= stop else stop
        yield segment, start, end
        start = end
