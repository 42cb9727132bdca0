"""Dataclasses from plain data: types are checked, at every depth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from dlrm_mtl.records import build


@dataclass(frozen=True)
class Part:
    name: str
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size is {self.size}, expected 0 or more")


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    rate: float = 0.5
    flag: bool = False
    limit: float | None = None
    kind: Literal["a", "b"] = "a"
    pair: tuple[int, str] = (1, "x")
    groups: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    free: Mapping[str, Any] = field(default_factory=dict)


def test_every_kind_of_field() -> None:
    values = {
        "parts": [{"name": "p"}],
        "rate": 1,
        "flag": True,
        "limit": None,
        "kind": "b",
        "pair": [2, "y"],
        "groups": {"g": [{"name": "q", "size": 3}]},
        "free": {"any": [1, {"thing": None}]},
    }
    built = build(Whole, values, "")
    part = (Part("q", 3),)
    assert built == Whole((Part("p"),), 1.0, True, None, "b", (2, "y"), {"g": part}, {"any": [1, {"thing": None}]})
    assert isinstance(built.rate, float)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ([], "expected an object"),
        ({}, "parts"),
        ({"parts": {}}, "parts"),
        ({"parts": "ab"}, "parts"),
        ({"parts": [{"name": "p"}, 7]}, r"parts\[1\]"),
        ({"parts": [{"name": 7}]}, r"parts\[0\].name"),
        ({"parts": [{"name": "p", "size": -1}]}, r"parts\[0\]"),
        ({"parts": [{"name": "p", "size": 1.0}]}, r"parts\[0\].size"),
        ({"parts": [{"name": "p", "size": True}]}, r"parts\[0\].size"),
        ({"parts": [{"name": "p", "size": 2**64}]}, r"parts\[0\].size"),
        ({"parts": [], "rate": True}, "rate"),
        ({"parts": [], "rate": "1"}, "rate"),
        ({"parts": [], "rate": 10**400}, "rate"),
        ({"parts": [], "rate": None}, "rate"),
        ({"parts": [], "flag": 1}, "flag"),
        ({"parts": [], "limit": "x"}, "limit"),
        ({"parts": [], "kind": "c"}, "kind"),
        ({"parts": [], "kind": ["a"]}, "kind"),
        ({"parts": [], "pair": [1]}, "pair"),
        ({"parts": [], "pair": ["y", 1]}, r"pair\[0\]"),
        ({"parts": [], "groups": []}, "groups"),
        ({"parts": [], "groups": {"g": [None]}}, r"groups.g\[0\]"),
        ({"parts": [], "colour": 1}, "colour"),
        ({"parts": [], "c" * 10_000: 1}, "ccc"),
    ],
)
def test_a_wrong_type_is_refused_by_its_place(values: Any, where: str) -> None:
    with pytest.raises(ValueError, match=where) as refusal:
        build(Whole, values, "")
    assert len(str(refusal.value)) < 300
