"""Recipes of arms."""

from typing import Any

import pytest

from dlrm_mtl.recipe import Recipe, parse_recipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mean", Recipe("mean", "mean")),
        ("multibalance:beta=0.1", Recipe("multibalance:beta=0.1", "multibalance", {"beta": 0.1})),
        (
            "multibalance:beta=1e-2,gamma=1,direction=gradient",
            Recipe(
                "multibalance:beta=1e-2,gamma=1,direction=gradient",
                "multibalance",
                {"beta": 0.01, "gamma": 1, "direction": "gradient"},
            ),
        ),
        ("static:weights=0.2/0.3/1", Recipe("static:weights=0.2/0.3/1", "static", {"weights": [0.2, 0.3, 1]})),
        (
            "multibalance:reduction=delayed,beta=-1",
            Recipe("multibalance:reduction=delayed,beta=-1", "multibalance", {"beta": -1}, "delayed"),
        ),
        ("mgda:fade_share=0.4", Recipe("mgda:fade_share=0.4", "mgda", fade_share=0.4)),
        ("own.module:Own", Recipe("own.module:Own", "own.module:Own")),
        ("own:Own:x=1,level=dense", Recipe("own:Own:x=1,level=dense", "own:Own", {"x": 1}, level="dense")),
        ("imtl_l+own:Own:x=1", Recipe("imtl_l+own:Own:x=1", "imtl_l+own:Own", {"x": 1})),
        ("own:Loss+mgda:x=1", Recipe("own:Loss+mgda:x=1", "own:Loss+mgda", {"x": 1})),
        ("own:Loss+torchjd:CAGrad:c=1", Recipe("own:Loss+torchjd:CAGrad:c=1", "own:Loss+torchjd:CAGrad", {"c": 1})),
        ("torchjd:UPGrad", Recipe("torchjd:UPGrad", "torchjd:UPGrad")),
    ],
)
def test_recipes(text: str, expected: Recipe) -> None:
    assert parse_recipe(text) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("none", None),
        ("None", None),
        ("true", True),
        ("False", False),
        ("3", 3),
        ("3.0", 3.0),
        ("-0.5", -0.5),
        ("word", "word"),
        ("1/2", [1, 2]),
        ("a/none", ["a", None]),
        ("click:0.7", {"click": 0.7}),
        ("click:1/a:b:-2e-1", {"click": 1, "a:b": -0.2}),
        ("a:b", "a:b"),
    ],
)
def test_values(text: str, value: Any) -> None:
    [found] = parse_recipe(f"method:option={text}").options.values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "arm '' names no method"),
        (":beta=1", "arm ':beta=1' names no method"),
        ("multibalance:beta", "'beta' is not of the form OPTION=VALUE"),
        ("multibalance:beta=", "'beta=' is not of the form OPTION=VALUE"),
        ("multibalance:=1", "'=1' is not of the form OPTION=VALUE"),
        ("multibalance:beta=1,beta=2", "option 'beta' is given twice"),
        ("static:weights=a:1/a:2", "a name occurs twice in 'weights=a:1/a:2'"),
        ("mean:reduction=local,reduction=exact", "option 'reduction' is given twice"),
        ("mgda:fade_share=1.5", r"fade_share is '1.5', expected a number in \[0, 1\]"),
        ("mgda:fade_share=true", "fade_share is 'True'"),
        ("mgda:fade_share=nan", "fade_share is 'nan'"),
        ("mgda:fade_share=word", "fade_share is 'word'"),
        ("mgda:fade_share=0.5,fade=9", "fade is '9', expected 0 beside fade_share"),
    ],
)
def test_malformed_recipes_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_recipe(text)


@pytest.mark.parametrize(("share", "fade"), [(1, 10), (0.25, 2), (0.01, 1)])
def test_a_share_of_the_run_in_steps(share: float, fade: int) -> None:
    text = f"mgda:normalization=l2,fade_share={share}"
    assert parse_recipe(text).in_steps(10) == Recipe(text, "mgda", {"normalization": "l2", "fade": fade})
