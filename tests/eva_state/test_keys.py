from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eva_state import keys

word = st.text(st.characters(categories=("L", "N"), include_characters="_-+ ."), min_size=1).map(str.strip).filter(lambda t: t and t != "*")
number = st.one_of(st.integers(1, 240), st.floats(0.01, 1e6, allow_nan=False).map(lambda x: round(x, 4)))
params = st.fixed_dictionaries(
    {
        "sampler": word,
        "scheduler": word,
        "fps": number,
        "cfg_scale": number,
        "steps": st.integers(1, 200),
        "width": st.integers(1, 4096),
        "height": st.integers(1, 4096),
    }
)


@given(params)
def test_key_and_params_are_each_others_inverse(found):
    key = keys.combo_key(found)
    assert keys.parse_combo_key(key) == found
    assert keys.normalise_pattern(key) == key
    assert keys.matches(key, key)
    assert keys.matches("*|*|*|*|*|*", key)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("euler|simple|16.0|7.0|20|832x480", "euler|simple|16|7|20|832x480"),
        (" euler | simple |16|3.50|20.0| 832X480", "euler|simple|16|3.5|20|832x480"),
        ("*|*|16|*|*|*", "*|*|16|*|*|*"),
    ],
)
def test_reads_tolerantly(text, key):
    assert keys.normalise_pattern(text) == key


def test_shortest_form_of_numbers():
    assert keys.combo_key({"sampler": "a", "scheduler": "b", "fps": 16.0, "cfg": "7.0", "steps": 20.0, "width": 832, "height": 480}) == (
        "a|b|16|7|20|832x480"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "euler",
        "a|b|c|7|20|832x480",
        "a|b|16|7|20|832",
        "a|b|16|nan|20|832x480",
        "a|b|16|7|2.5|832x480",
        "a|b|16|7|20|0x480",
        "|b|16|7|20|8x8",
    ],
)
def test_a_malformed_key_is_named(text):
    with pytest.raises(ValueError, match="combo key"):
        keys.normalise_pattern(text)


def test_a_pattern_is_no_full_key():
    with pytest.raises(ValueError, match="pattern"):
        keys.parse_combo_key("*|b|16|7|20|832x480")


@pytest.mark.parametrize(("field", "value"), [("fps", None), ("fps", True), ("cfg_scale", math.inf), ("sampler", "a|b"), ("steps", 2.5)])
def test_bad_params_name_the_field(field, value):
    good = {"sampler": "a", "scheduler": "b", "fps": 16, "cfg_scale": 7, "steps": 20, "width": 832, "height": 480}
    with pytest.raises(ValueError, match=field):
        keys.combo_key(good | {field: value})


def test_matching_is_field_by_field():
    key = "euler|simple|16|7|20|832x480"
    assert keys.matches("euler|*|*|*|*|832x480", key)
    assert not keys.matches("euler|*|24|*|*|*", key)
    assert keys.pattern_of({"sampler": "euler"}) == "euler|*|*|*|*|*"


PLAIN = "euler|simple|16|3.5|20|832x480"
EXTRA_PARAMS = {
    **{"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 3.5, "steps": 20, "width": 832, "height": 480},
    "extra": {"shift": 5.0, "lora": 0.8, "style": "soft light.safetensors", "tiled": True},
}


def test_own_dimensions_are_appended_in_order() -> None:
    key = keys.combo_key(EXTRA_PARAMS)
    assert key == f"{PLAIN}|lora=0.8|shift=5|style=soft light.safetensors|tiled=true"
    assert keys.parse_combo_key(key) == EXTRA_PARAMS
    assert keys.base_key(key) == PLAIN and keys.extra_of_key(key)["shift"] == "5"
    assert keys.normalise_pattern(f"{PLAIN}| shift = 5.0 |lora=0.80") == f"{PLAIN}|lora=0.8|shift=5"
    assert keys.combo_key({**EXTRA_PARAMS, "extra": {}}) == PLAIN == keys.combo_key({**EXTRA_PARAMS, "extra": None})
    assert "extra" not in keys.parse_combo_key(PLAIN)


def test_what_a_key_or_pattern_does_not_name_it_covers() -> None:
    key = f"{PLAIN}|lora=0.8|shift=5"
    for pattern in (PLAIN, "euler|*|*|*|*|*", f"{PLAIN}|shift=5", "*|*|*|*|*|*|shift=5", f"{PLAIN}|shift=*", key):
        assert keys.matches(pattern, key), pattern
    for pattern in (f"{PLAIN}|shift=8", "*|*|*|*|*|*|cfg2=1", "heun|*|*|*|*|*|shift=5"):
        assert not keys.matches(pattern, key), pattern
    assert not keys.matches(f"{PLAIN}|shift=5", PLAIN)
    assert keys.normalise_pattern(f"{PLAIN}|shift=*") == PLAIN
    assert keys.pattern_of({"sampler": "euler", "extra": {"shift": 5, "lora": "*"}}) == "euler|*|*|*|*|*|shift=5"


@pytest.mark.parametrize("tail", ["shift", "shift=", "Shift=5", "fps=3", "shift=5|shift=6", "a b=5", "=5", "shift=5=6"])
def test_a_malformed_dimension_is_refused(tail: str) -> None:
    with pytest.raises(ValueError, match="combo key"):
        keys.normalise_pattern(f"{PLAIN}|{tail}")


@pytest.mark.parametrize("extra", [5, {"cfg": 1}, {"shift": None}, {"shift": math.nan}, {"shift": "a|b"}, {"shift": ""}, {"": 1}])
def test_malformed_extra_params_are_refused(extra: object) -> None:
    with pytest.raises(ValueError):
        keys.combo_key({**EXTRA_PARAMS, "extra": extra})
