"""Lines to typed columns, against a reading in plain Python."""

import csv
import math
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout
from data_prep.columns.rows import LABEL_MISSING, Rows
from data_prep.sources.delimited import DelimitedParser
from dlrm_mtl.model_schema import Task

NAMES = ("label", "whole", "real", "hash", "word", "outcome", "unused")

PLAIN = Layout(
    name="plain",
    columns=NAMES,
    separator="\t",
    labels=(LabelColumn("label"), LabelColumn("outcome", positive=("yes", "ja"), negative=("no",))),
    tasks=(Task("label", "label"), Task("outcome", "outcome")),
    dense=(DenseColumn("whole", "integer"), DenseColumn("real")),
    categorical=(CategoricalColumn("hash", "hex"), CategoricalColumn("word")),
)
LAYOUTS = {
    "plain": PLAIN,
    "trimmed": replace(PLAIN, trim=True, missing=("", "NA"), separator=","),
    "quoted": replace(PLAIN, quoted=True, separator=","),
    "commented": replace(PLAIN, comment="#"),
    "lenient": replace(PLAIN, labels=tuple(replace(label, missing_is_negative=True) for label in PLAIN.labels)),
}

GOOD = ("1", "-12", "0.5", "00ff00Ff", "wörd", "yes", "x")

LABELS = ("0", "1", "1", "01", "2", "-1", "-0", "", "1.0", "0x1", " 1", "true", "٣", "300")
INTEGERS = ("0", "-5", str(2**63 - 1), str(-(2**63)), str(2**63), "", "007", "+5", "1_0", "1.0", " 12", "12 ", "\v5")
HEX_INTEGERS = ("0x1F", "0X1f", "-0x1", "NA", "--1", "1e5", "0" * 30 + "7", "5\u00a0", "٣")
NUMBERS = ("0", "-1.5", "1e5", ".5", "5.", "+2", "1e-400", "1e999", "-1e999", "1e39", "3e38", "nan", "NaN", "inf", "")
ODD_NUMBERS = ("-Infinity", "1_0", " 2 ", "٣", "1,5", "0x1p3", "\f1", "1e", "NA", "-", ".")
HASHES = ("00000000", "ffffffff", "ABCDEF01", "", "1234567", "123456789", "1234567g", "        ", "0x123456")
ODD_HASHES = (" 1234567", "12345678 ", "\u00e412345", "NA")
WORDS = ("word", "", " ", "ä", "日本", "wo rd", "#", "nan", "NA", "  NA ", "0x1", "a\0b", "a\rb", "\u00a0x\u00a0")
QUOTED = ('"', 'a"b', '"a"', '"a,b"', '"a""b"', '"a', 'a"', '"a"b')
ODD_BYTES = ("\ufeff", "\udcff", "\udce4\udcb8")
VALUES = {
    "label": LABELS,
    "whole": (*INTEGERS, *HEX_INTEGERS),
    "real": (*NUMBERS, *ODD_NUMBERS),
    "hash": (*HASHES, *ODD_HASHES),
    "word": (*WORDS, *QUOTED, *ODD_BYTES),
    "outcome": ("yes", "no", "ja", "maybe", "", " yes", "no ", "Yes", '"no"', '"no'),
    "unused": ("", "anything", "\udcff", "a\0", "0x1", '"'),
}

SOME = st.tuples(*(st.one_of(st.just(GOOD[i]), st.sampled_from(VALUES[name])) for i, name in enumerate(NAMES)))
MOSTLY_GOOD = st.tuples(*(st.just(value) for value in GOOD))
SPECIAL = [
    "",
    "#",
    "#1\t1\t1\t00000000\ta\tyes\tx",
    "\t\t\t\t\t\t",
    ",,,,,,",
    "1",
    " ",
    "\ufeff",
    "\r",
    "x\ty",
    '"',
    '1,"',
]


def one_fault() -> st.SearchStrategy[tuple[str, ...]]:
    def with_value(at: int) -> st.SearchStrategy[tuple[str, ...]]:
        return st.sampled_from(VALUES[NAMES[at]]).map(lambda value: (*GOOD[:at], value, *GOOD[at + 1 :]))

    return st.integers(0, len(NAMES) - 1).flatmap(with_value)


def lines_for(separator: str) -> st.SearchStrategy[list[str]]:
    line = st.one_of(
        st.one_of(MOSTLY_GOOD, one_fault(), one_fault(), SOME).map(separator.join),
        st.sampled_from(SPECIAL),
        one_fault().map(lambda fields: separator.join(fields[:-1])),
        one_fault().map(lambda fields: separator.join((*fields, "more"))),
        one_fault().map(lambda fields: "\ufeff" + separator.join(fields)),
    )
    return st.lists(st.tuples(line, st.sampled_from(["", "", "\r", "\r\r"])).map("".join), max_size=12)


def parse(layout: Layout, lines: list[str], first: int = 1) -> Rows:
    text = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
    return DelimitedParser(layout, NAMES).parse(memoryview(text), len(lines), first)


@dataclass(frozen=True)
class Fault:
    """A fault by the reference parser; column None: the whole line."""

    column: str | None


def reference(layout: Layout, line: str) -> tuple[Any, ...] | Fault | None:
    """Values of a line by column, or its first fault; None for a comment."""
    line = line.rstrip("\r")
    if layout.comment and (line == "" or line.startswith(layout.comment)):
        return None
    if "\r" in line or "\0" in line:
        return Fault(None)
    fields = quoted_fields(line, layout.separator) if layout.quoted else line.split(layout.separator)
    if len(fields) != len(NAMES):
        return Fault(None)
    values: list[Any] = []
    for name, use in layout.uses.items():
        field = fields[NAMES.index(name)]
        text = field.strip(" ") if layout.trim else field
        value: Any = None
        if any("\udc00" <= character <= "\udfff" for character in text):
            return Fault(name)
        if text in layout.missing:
            if name in ("label", "outcome") and not layout.labels[0].missing_is_negative:
                return Fault(name)
        else:
            value = value_of(use, text)
            if value is None or (name == "outcome" and text not in ("yes", "ja", "no")):
                return Fault(name)
        values.append(value)
    return tuple(values)


def quoted_fields(line: str, separator: str) -> list[str]:
    """As RFC 4180 has it; an open quote leaves no fields."""
    try:
        fields = next(csv.reader([line], delimiter=separator, strict=False), [""])
    except csv.Error:
        return []
    state = "start"
    for character in line:
        if state in ("start", "plain"):
            state = (
                "quoted" if character == '"' and state == "start" else "start" if character == separator else "plain"
            )
        elif state == "quoted":
            state = "closed" if character == '"' else "quoted"
        else:
            state = "quoted" if character == '"' else "start" if character == separator else "plain"
    return [] if state == "quoted" else fields


def value_of(use: str, text: str) -> Any:
    number = text.strip(" \t")
    if use == "string":
        return text
    if use == "hex":
        return int(text, 16) if re.fullmatch("[0-9a-fA-F]{8}", text) else None
    if use == "number":
        if not number.isascii() or "_" in number or number != number.strip():
            return None
        try:
            value = float(number)
        except ValueError:
            return None
        return value if math.isfinite(value) and abs(value) <= float(np.finfo(np.float32).max) else None
    if not re.fullmatch("-?[0-9]+", number) or not -(2**63) <= int(number) < 2**63:
        return None
    return int(number) if use == "integer" or int(number) in (0, 1) else None


def rows_of(rows: Rows) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in rows.table.columns), strict=True)) if len(rows.table) else []


@pytest.mark.parametrize("name", LAYOUTS)
def test_good_rows_and_faults_are_those_of_the_reference(name: str) -> None:
    layout = LAYOUTS[name]

    @settings(max_examples=250, deadline=None)
    @given(lines_for(layout.separator), st.integers(1, 1000))
    def check(lines: list[str], first: int) -> None:
        rows = parse(layout, lines, first)
        wanted = [reference(layout, line) for line in lines]
        good = [(i, value) for i, value in enumerate(wanted) if isinstance(value, tuple)]
        faults = [(i, value) for i, value in enumerate(wanted) if isinstance(value, Fault)]
        assert rows.table.column_names == list(layout.uses)
        assert rows_of(rows) == [value for _, value in good]
        assert rows.positions.tolist() == [i for i, _ in good]
        assert [bad.line for bad in rows.bad] == [first + i for i, _ in faults]
        for bad, (_, fault) in zip(rows.bad, faults, strict=True):
            # A line with a quote left open may have another fault, too.
            assert (bad.column or None) == fault.column or (layout.quoted and fault.column is None)
        assert rows.ignored == wanted.count(None)
        assert rows.lines == len(lines)
        for bad in rows.bad:
            assert bad.text == lines[bad.line - first].rstrip("\r")
            assert bad.reason
            if bad.column and not layout.quoted:
                field = bad.text.split(layout.separator)[NAMES.index(bad.column)]
                assert bad.value == field.encode(errors="surrogateescape").decode(errors="backslashreplace")

    check()


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_good_does_not_depend_on_the_other_lines(name: str) -> None:
    layout = LAYOUTS[name]

    @settings(max_examples=150, deadline=None)
    @given(lines_for(layout.separator))
    @example(['1,1,1,00000000,"a', 'b",yes,x', "1,1,1,00000000,a\rb,yes,x"])
    @example(["\ufeff" + layout.separator.join(GOOD)])
    def check(lines: list[str]) -> None:
        whole = parse(layout, lines)
        alone = [parse(layout, [line], 1 + i) for i, line in enumerate(lines)]
        assert rows_of(whole) == [row for rows in alone for row in rows_of(rows)]
        assert list(whole.bad) == [bad for rows in alone for bad in rows.bad]
        assert whole.positions.tolist() == [i for i, rows in enumerate(alone) if len(rows.table)]
        assert whole.ignored == sum(rows.ignored for rows in alone)
        assert all(rows.table.schema == whole.table.schema for rows in alone)

    check()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("label", "2", "expected a label, 0 or 1"),
        ("label", "", LABEL_MISSING),
        ("whole", "1.5", "expected a 64-bit integer"),
        ("whole", "9223372036854775808", "expected a 64-bit integer"),
        ("whole", "0x1F", "expected a 64-bit integer"),
        ("real", "1e39", "expected a finite number"),
        ("real", "nan", "expected a finite number"),
        ("hash", "123456789", "expected 8 hexadecimal digits"),
        ("outcome", "maybe", "expected yes or ja or no"),
    ],
)
def test_a_fault_is_named(column: str, value: str, reason: str) -> None:
    fields = list(GOOD)
    fields[NAMES.index(column)] = value
    rows = parse(PLAIN, ["\t".join(GOOD), "\t".join(fields), "\t".join(GOOD)], 7)
    (bad,) = rows.bad
    assert (bad.line, bad.column, bad.value, bad.reason) == (8, column, value, reason)
    assert rows.positions.tolist() == [0, 2]


def test_many_lines_with_many_faults() -> None:
    lines = ["\t".join(GOOD) if i % 7 else f"{i}\tbad" for i in range(20_000)]
    rows = parse(PLAIN, lines)
    assert [bad.line for bad in rows.bad] == list(range(1, 20_001, 7))
    assert len(rows.table) == 20_000 - len(rows.bad)
    assert (np.diff(rows.positions) > 0).all()
