"""Text files cut into segments."""

import gzip
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.sources import raw_text
from data_prep.sources.file_kinds import COMPRESSED
from data_prep.sources.raw_text import BrokenFile, first_line, read_blocks, segments_of
from tests.data_prep.logs import compressed, write_bytes

SUFFIXES = ["", ".gz", ".zst"]

TEXTS = (
    st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=40)
    .flatmap(
        lambda lines: st.sampled_from([b"\n", b"\r\n"]).flatmap(
            lambda end: st.sampled_from([end.join(lines), b"".join(line + end for line in lines)])
        )
    )
    .filter(lambda text: not text.startswith((raw_text.BOM, *COMPRESSED)))
)


@contextmanager
def sizes(segment: int, block: int, line: int = 1 << 20) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw_text, "SEGMENT_BYTES", segment)
        patch.setattr(raw_text, "BLOCK_BYTES", block)
        patch.setattr(raw_text, "LINE_BYTES", line)
        yield


def expected(text: bytes, segment_bytes: int) -> tuple[dict[int, list[bytes]], dict[int, int]]:
    """Lines by the segment of their first byte, and numbers of blank lines with which the text ends."""
    segments = defaultdict(list)
    blank: dict[int, int] = defaultdict(int)
    end = len(text.rstrip(b"\r\n"))
    position = 0
    for line in text.split(b"\n"):
        if position < end:
            # Blank lines may be given without the carriage returns that they hold.
            segments[position // segment_bytes].append((line if line.strip(b"\r") else b"") + b"\n")
        elif position < len(text):
            blank[position // segment_bytes] += 1
        position += len(line) + 1
    return dict(segments), dict(blank)


def read(path: Path, first: int, last: int | None) -> tuple[dict[int, list[bytes]], dict[int, int]]:
    segments: dict[int, list[bytes]] = defaultdict(list)
    blank: dict[int, int] = {}
    order = []
    for block in read_blocks(path, first, last):
        text = bytes(block.text)
        if block.blank_end:
            assert (text, block.lines) == (b"", 0)
            blank[block.segment] = block.blank_end
        else:
            assert text.count(b"\n") == block.lines > 0
            assert text.endswith(b"\n")
            segments[block.segment] += split(text)
            order.append(block.segment)
    assert order == sorted(order)
    return dict(segments), blank


def split(text: bytes) -> list[bytes]:
    return [(line if line.strip(b"\r") else b"") + b"\n" for line in text.split(b"\n")[:-1]]


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(1, 60), st.integers(1, 60))
def test_every_line_is_in_the_segment_of_its_first_byte(text: bytes, segment: int, block: int) -> None:
    with tempfile.TemporaryDirectory() as directory, sizes(segment, block):
        wanted, blank = expected(text, segment)
        plain = write_bytes(Path(directory) / "log", text)
        number = segments_of(plain)
        assert number is not None
        one_by_one = [read(plain, part, part) for part in range(number)]
        assert all(found.keys() | end.keys() <= {part} for part, (found, end) in enumerate(one_by_one))
        assert {part: lines for found, _ in one_by_one for part, lines in found.items()} == wanted
        assert {part: lines for _, end in one_by_one for part, lines in end.items()} == blank
        for suffix in SUFFIXES:
            path = write_bytes(Path(directory) / f"other{suffix}", text)
            assert read(path, 0, None) == (wanted, blank)
            for first in range(number):
                after = {part: lines for part, lines in wanted.items() if part >= first}
                end = {part: lines for part, lines in blank.items() if part >= first}
                assert read(path, first, None) == (after, end)
                alone = {part: lines for part, lines in after.items() if part == first}
                assert read(path, first, first) == (alone, {p: lines for p, lines in end.items() if p == first})


def test_only_reading_tells_how_many_segments_a_compressed_file_has(tmp_path: Path) -> None:
    with sizes(10, 4):
        assert segments_of(write_bytes(tmp_path / "log", b"x" * 21)) == 3
        assert segments_of(write_bytes(tmp_path / "empty", b"")) == 1
        assert segments_of(write_bytes(tmp_path / "log.gz", b"x" * 21)) is None


def test_bytes_of_the_file_are_counted_once(tmp_path: Path) -> None:
    text = b"".join(b"%d\n" % number for number in range(1000))
    with sizes(700, 256):
        for suffix in SUFFIXES:
            path = write_bytes(tmp_path / f"log{suffix}", text)
            assert sum(block.file_bytes for block in read_blocks(path, 0, None)) == path.stat().st_size


def read_long(path: Path, first: int, last: int | None) -> list[tuple[int, bytes, bool]]:
    """Segment, text and whether it is too long, line by line."""
    lines: list[tuple[int, bytes, bool]] = []
    for block in read_blocks(path, first, last):
        if block.is_too_long:
            assert block.lines == 1
            lines.append((block.segment, bytes(block.text), True))
        else:
            lines += [(block.segment, line, False) for line in split(bytes(block.text))]
    return lines


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("block", [7, 64, 3000, 100_000])
def test_reading_goes_on_behind_a_line_that_is_too_long(tmp_path: Path, suffix: str, block: int) -> None:
    """Whatever the blocks; each is in the segment where it begins, and no segment has more."""
    just_fits, too_long = b"y" * 1000, b"z" * 1001
    text = b"a\n" + b"x" * 5000 + b"\nb\n" + just_fits + b"\n" + too_long + b"\nc\n" + too_long + b"\n\n" + too_long
    path = write_bytes(tmp_path / f"log{suffix}", text)
    wanted = [
        (0, b"a\n", False),
        (0, b"x" * 1000, True),
        (7, b"b\n", False),
        (7, just_fits + b"\n", False),
        (8, b"z" * 1000, True),
        (10, b"c\n", False),
        (10, b"z" * 1000, True),
        (11, b"\n", False),
        (11, b"z" * 1000, True),
    ]
    with sizes(700, block, line=1000):
        assert read_long(path, 0, None) == wanted
        for first in range(13):
            assert read_long(path, first, first) == [line for line in wanted if line[0] == first]
    with sizes(100_000, block, line=6000):
        assert read(path, 0, None)[0][0][1] == b"x" * 5000 + b"\n"


def read_broken(path: Path, first: int) -> dict[int, list[bytes]]:
    """Lines up to the point where the file cannot be read."""
    segments: dict[int, list[bytes]] = defaultdict(list)
    with pytest.raises(BrokenFile, match="cannot be read further") as error:
        read_into(segments, path, first)
    assert error.value.line == len(segments[max(segments)])
    return dict(segments)


def read_into(segments: dict[int, list[bytes]], path: Path, first: int) -> None:
    for block in read_blocks(path, first, None):
        segments[block.segment] += split(bytes(block.text))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_breaks_off(tmp_path: Path, suffix: str) -> None:
    text = b"".join(b"line %d %d\n" % (number, number**5 % 9973) for number in range(50_000))
    whole = compressed(text, suffix)
    path = tmp_path / f"log{suffix}"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    lines = text.splitlines(keepends=True)
    with sizes(100_000, 4096):
        whole_run = read_broken(path, 0)
        found = [line for part in whole_run for line in whole_run[part]]
        assert 0 < len(found) < len(lines)
        assert found == lines[: len(found)]
        last = max(whole_run)
        assert last > 1
        # A run that resumes after an interruption ends at the same line.
        for first in range(last + 1):
            assert read_broken(path, first) == {part: lines for part, lines in whole_run.items() if part >= first}


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_bytes(b"1\t2\t3\n" * 100)
    with pytest.raises(BrokenFile, match="cannot be read further") as error:
        read(path, 0, None)
    assert error.value.line == 0
    with pytest.raises(ValueError, match="cannot be read"):
        first_line(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_what_follows_the_compressed_text_breaks_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_bytes(compressed(b"a\nb\n", suffix) + b"garbage behind it")
    with sizes(1000, 2), pytest.raises(BrokenFile, match="cannot be read further") as error:
        read(path, 0, None)
    assert error.value.line == 2


def test_files_of_several_compressed_parts(tmp_path: Path) -> None:
    parts = [b"a\nb", b"b\nc\n", b"", b"d\n"]
    (tmp_path / "log.gz").write_bytes(b"".join(map(gzip.compress, parts)))
    zstd = pa.Codec("zstd")
    (tmp_path / "log.zst").write_bytes(b"".join(zstd.compress(part, asbytes=True) for part in parts if part))
    with sizes(4, 3):
        for suffix in (".gz", ".zst"):
            assert read(tmp_path / f"log{suffix}", 0, None)[0] == {0: [b"a\n", b"bb\n"], 1: [b"c\n", b"d\n"]}


def test_first_line(tmp_path: Path) -> None:
    assert first_line(write_bytes(tmp_path / "log.gz", "\ufeffä b\r\nc".encode())) == "ä b"
    assert first_line(write_bytes(tmp_path / "no_end", b"abc")) == "abc"
    for name, text in (("empty", b""), ("blank", b"\nabc\n")):
        with pytest.raises(ValueError, match=f"{name}: is empty"):
            first_line(write_bytes(tmp_path / name, text))
