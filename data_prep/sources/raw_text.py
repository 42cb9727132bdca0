"""Text logs cut into segments: the unit of parallel work and of resuming.

A segment holds the lines that begin in one span of ``SEGMENT_BYTES`` of the uncompressed text, so that a log and its
compressed form have the same segments. Segments of a plain file can be read in any order; a compressed file is read
from its beginning.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from data_prep.columns.rows import LINE_BYTES
from data_prep.sources.text_file import TextFile, check_is_text, codec_of
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import shorten
from dlrm_mtl.storage.parquet import is_of_file

SEGMENT_BYTES = 128 << 20
"""About 550,000 rows of Criteo's logs. Another value gives other shards."""

BLOCK_BYTES = 4 << 20
"""Bytes read at a time: about 17,000 rows of Criteo's logs."""

CACHED_BYTES = 1 << 18
"""Bytes whose temporaries stay in a core's cache."""

BOM = b"\xef\xbb\xbf"
"""Byte order mark, at the beginning of some UTF-8 texts."""


class BrokenFile(ValueError):
    """A file cannot be read further. ``line``: the last whole line before, relative to the segment."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Block:
    """Whole lines of one segment, or one line that is too long."""

    segment: int
    text: memoryview
    """Valid until the next block is requested. Of a too long line, its beginning."""
    lines: int
    file_bytes: int
    """Bytes of the stored file that were read for it."""
    is_too_long: bool = False
    """Whether it is a line of more than ``LINE_BYTES``."""
    blank_end: int = 0
    """Blank lines at the end of the file; not part of the block's lines."""


def first_line(path: Location) -> str:
    """The first line of a file, without its end.

    Raises:
        ValueError: the file or its first line is empty, or the line is too long or no text.
        BrokenFile: the line cannot be read.
    """
    check_is_text(path)
    buffer, size = bytearray(LINE_BYTES), 0
    try:
        with TextFile(path) as file:
            while b"\n" not in buffer[:size] and (read := file.read_into(memoryview(buffer)[size:])):
                size += read
    except OSError as error:
        if not is_of_file(error):
            raise
        raise _broken(error, 0) from None
    line = bytes(buffer[:size]).split(b"\n", 1)[0]
    if not line.strip():
        raise ValueError(f"{path}: is empty, or its first line is")
    text = line.rstrip(b"\r").decode("utf-8-sig", errors="replace")
    for fault, is_there in {
        "a carriage return that ends no line; expected lines that end in \\n or \\r\\n": "\r" in text,
        "NUL bytes; expected UTF-8 text": "\0" in text,
        f"more than {LINE_BYTES >> 20} MiB; expected lines of text": len(line) == LINE_BYTES,
    }.items():
        if is_there:
            raise ValueError(f"{path}, line 1: has {fault}")
    return text


def segments_of(path: Location) -> int | None:
    """Number of segments; None: unknown until the file has been read."""
    if codec_of(path):
        return None
    return max(1, -(-path.stat().st_size // SEGMENT_BYTES))


def read_blocks(path: Location, first: int, last: int | None) -> Iterator[Block]:
    """The lines of segments ``first`` to ``last`` (None: to the end), in blocks. A last line without a line end gets
    one. A segment in which no line begins has no block. Blank lines at the end of the file are only counted.

    Raises:
        BrokenFile: the file cannot be decompressed or read.
    """
    segment, line = first, 0
    try:
        with TextFile(path) as file:
            for block in _without_blank_end(_cut(file, first), last):
                line = line if block.segment == segment else 0
                segment = block.segment
                yield block
                line += block.lines
    except OSError as error:
        if not is_of_file(error):
            raise
        raise _broken(error, line) from None


def count_lines(text: memoryview | bytes) -> int:
    """Number of line ends; for short lines several times as fast as ``bytes.count``."""
    characters = np.frombuffer(text, np.uint8)
    spans = range(0, len(text), CACHED_BYTES)
    return sum(int(np.count_nonzero(characters[start : start + CACHED_BYTES] == ord("\n"))) for start in spans)


def _broken(error: OSError, line: int) -> BrokenFile:
    return BrokenFile(f"cannot be read further ({shorten(' '.join(str(error).split()))})", line)


def _cut(file: TextFile, first: int) -> Iterator[Block]:
    """The lines from segment ``first`` on, cut at the borders of segments and around too long lines."""
    buffer = bytearray(LINE_BYTES + BLOCK_BYTES)
    view = memoryview(buffer)
    # The line at the byte before a segment's span belongs to the segment before.
    passed = max(first * SEGMENT_BYTES - 1, 0)
    # Blocks are cut at the same positions wherever reading begins.
    position = passed // BLOCK_BYTES * BLOCK_BYTES
    passed -= position
    file.skip(position)
    begun = file.file_position
    unfinished = 0
    skipping = first > 0
    while size := file.read_into(view[unfinished : unfinished + BLOCK_BYTES]):
        filled = unfinished + size
        start = buffer.find(b"\n", passed, filled) + 1 if skipping else 0
        passed = 0
        skipping = skipping and not start
        end = filled if skipping else max(start, buffer.rfind(b"\n", start, filled) + 1)
        for segment, low, high, is_too_long in () if skipping else _spans(buffer, start, end, position):
            read = file.file_position - begun if file.is_compressed else high - low
            begun = file.file_position
            if is_too_long:
                yield Block(segment, view[low : low + LINE_BYTES], 1, read, is_too_long=True)
            else:
                low += len(BOM) if position + low == 0 and buffer.startswith(BOM) else 0
                yield Block(segment, view[low:high], count_lines(view[low:high]), read)
        position += end
        unfinished = filled - end
        buffer[:unfinished] = bytes(view[end:filled])
        if unfinished > LINE_BYTES:
            yield Block(position // SEGMENT_BYTES, view[:LINE_BYTES], 1, 0, is_too_long=True)
            skipping, position, unfinished = True, position + unfinished, 0
    if unfinished:
        text = bytes(view[:unfinished]).removeprefix(BOM if position == 0 else b"") + b"\n"
        yield Block(
            position // SEGMENT_BYTES,
            memoryview(text),
            1,
            file.file_position - begun if file.is_compressed else unfinished,
        )


def _spans(buffer: bytearray, start: int, stop: int, position: int) -> Iterator[tuple[int, int, int, bool]]:
    """Cuts whole lines of a buffer at the borders of segments: yields segment, start and end of each cut, and whether
    it is one too long line.

    Args:
        position: of the buffer's first byte in the file.
    """
    while start < stop:
        segment = (position + start) // SEGMENT_BYTES
        border = (segment + 1) * SEGMENT_BYTES - position
        end = buffer.find(b"\n", border - 1, stop) + 1 if border <= stop else stop
        low = start
        while start < end:
            last = buffer.rfind(b"\n", start, min(start + LINE_BYTES + 1, end))
            if last >= 0:
                start = last + 1
                continue
            if low < start:
                yield segment, low, start, False
            low, start = start, buffer.find(b"\n", start, end) + 1
            yield segment, low, start, True
            low = start
        if low < end:
            yield segment, low, end, False


def _without_blank_end(blocks: Iterator[Block], last: int | None) -> Iterator[Block]:
    """Blocks up to segment ``last``. Blank lines are held back until other lines follow; at the end of the file
    they are counted, in a block without lines for each segment."""
    blank_lines: Counter[int] = Counter()
    for block in blocks:
        is_beyond = last is not None and block.segment > last
        end = len(block.text) if block.is_too_long else _blank_end(block.text)
        if end:
            yield from _blank_lines(blank_lines)
            blank_lines.clear()
        if is_beyond and not blank_lines:
            return
        blank = 0 if block.is_too_long else count_lines(block.text[end:])
        if end:
            yield replace(block, text=block.text[:end], lines=block.lines - blank)
        if blank and not is_beyond:
            blank_lines[block.segment] += blank
    for segment, number in blank_lines.items():
        yield Block(segment, memoryview(b""), 0, 0, blank_end=number)


def _blank_end(text: memoryview) -> int:
    """Offset at which the last line that is not blank ends."""
    end = len(text)
    while end and text[end - 1] in b"\r\n":
        end -= 1
    while end and text[end - 1] != ord("\n"):
        end += 1
    return end


def _blank_lines(numbers: Counter[int]) -> Iterator[Block]:
    for segment, number in numbers.items():
        for begin in range(0, number, BLOCK_BYTES):
            lines = min(BLOCK_BYTES, number - begin)
            yield Block(segment, memoryview(b"\n" * lines), lines, 0)
