"""Feature lists: parsing all at once and the search for the fault of a single list agree."""

import random

import pyarrow as pa
import pytest

from data_prep.ali_ccp_log.feature_lists import FeatureLists
from data_prep.columns.layout import CategoricalColumn
from tests.data_prep.ali_ccp_log.raw_ali_ccp import MULTI_HOT_ROW, ONE_HOT_ROW, feature_list, some_features

FEATURES = [CategoricalColumn(field, "integer", multi_hot=field in MULTI_HOT_ROW) for field in ("205", "206", "210")]

PIECES = [*"\x01\x02\x030019.-+eE _xa\t\"'", "é", "205", "210"]


@pytest.fixture
def lists() -> FeatureLists:
    return FeatureLists(FEATURES, (*ONE_HOT_ROW, *MULTI_HOT_ROW))


def test_a_list_is_bad_for_both_or_for_neither(lists: FeatureLists) -> None:
    rng = random.Random(0)
    good = 0
    for _ in range(4000):
        features = some_features(rng, ONE_HOT_ROW, MULTI_HOT_ROW, 2)
        text = feature_list(features)
        for _ in range(rng.randrange(3)):
            place, cut = rng.randrange(len(text) + 1), rng.randrange(3)
            text = text[:place] + rng.choice(["", *PIECES]) + text[place + cut :]
        fault = lists.fault(text, str(len(features)))
        parsed = lists.parse(pa.array([text]), pa.array([str(len(features))]))
        assert (parsed is None) == (fault is not None), (text, fault)
        good += fault is None
    assert 1000 < good < 3000


@pytest.mark.parametrize("number", ["0", "-7", "007", str(2**63 - 1), str(-(2**63)), "0" * 30 + "5"])
def test_ids(lists: FeatureLists, number: str) -> None:
    text = f"205\x02{number}\x031.0"
    columns = lists.parse(pa.array([text]), pa.array(["1"]))
    assert columns is not None
    assert columns["205"].to_pylist() == [int(number)]
    assert lists.fault(text, "1") is None


def test_columns(lists: FeatureLists) -> None:
    texts = ["205\x025\x031.0\x01210\x027\x031\x01210\x026\x03.5", "", "301\x021\x031\x01210\x027\x03-1e-3"]
    columns = lists.parse(pa.array(texts), pa.array(["3", "0", "2"]))
    assert columns is not None
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "205": [5, None, None],
        "206": [None, None, None],
        "210": [[7, 6], [], [7]],
    }
    assert columns["210"].type == pa.list_(pa.int64())
