"""Range and conditional headers against RFC 9110, with an independent reading of the grammar as the oracle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eva_web.ranges import Unsatisfiable, Validators, parse_range, precondition, range_applies

NOW = Validators('"abc"', 1_700_000_000.7)


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        (None, 10, None),
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=0-", 10, (0, 10)),
        ("bytes=3-5", 10, (3, 3)),
        ("bytes=9-100", 10, (9, 1)),
        ("bytes=0-99999999999999999", 10, (0, 10)),
        ("bytes=-3", 10, (7, 3)),
        ("bytes=-99", 10, (0, 10)),
        ("Bytes=1-2", 10, (1, 2)),
        ("bytes= 1-2 ", 10, (1, 2)),
        ("bytes=1-2,", 10, (1, 2)),
        ("bytes=5-2", 10, None),  # malformed: last before first
        ("bytes=a-b", 10, None),
        ("bytes=", 10, None),
        ("bytes=-", 10, None),
        ("bytes", 10, None),
        ("items=0-1", 10, None),
        ("bytes=0-1,3-4", 10, None),
        ("bytes=+1-2", 10, None),
        ("bytes=1 - 2", 10, None),
        ("bytes=\u0661-2", 10, None),  # only ASCII digits are digits here
        ("bytes=0-" + "9" * 5000, 10, (0, 10)),  # more digits than Python would read as one number
        ("bytes=-" + "9" * 5000, 10, (0, 10)),
        ("bytes=" + "0" * 5000 + "1-2", 10, (1, 2)),
        ("bytes=-5", 0, None),  # satisfiable, but no Content-Range could say so: the whole, which is nothing
        ("bytes =1-2", 10, None),
        (" bytes=1-2", 10, None),
        ("bytes=0-0,-1", 10, None),
        ("bytes=1--2", 10, None),
        ("bytes=--2", 10, None),
        ("bytes==1-2", 10, None),
    ],
)
def test_ranges(text: str | None, size: int, expected: tuple[int, int] | None) -> None:
    assert parse_range(text, size) == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=-0", 0), ("bytes=0-", 0), ("bytes=" + "9" * 40 + "-", 10)],
)
def test_unsatisfiable(text: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(text, size)


@given(st.integers(0, 60), st.integers(0, 70), st.none() | st.integers(0, 70))
def test_a_range_selects_what_slicing_selects(size: int, first: int, last: int | None) -> None:
    data = bytes(range(size))
    text = f"bytes={first}-{'' if last is None else last}"
    if last is not None and last < first:
        assert parse_range(text, size) is None
    elif first >= size:
        with pytest.raises(Unsatisfiable):
            parse_range(text, size)
    else:
        found = parse_range(text, size)
        assert found is not None
        assert data[found[0] : found[0] + found[1]] == data[first : None if last is None else last + 1]


@given(st.integers(1, 60), st.integers(1, 80))
def test_a_suffix_selects_the_end(size: int, wanted: int) -> None:
    data = bytes(range(size))
    found = parse_range(f"bytes=-{wanted}", size)
    assert found is not None and data[found[0] : found[0] + found[1]] == data[-wanted:]


@given(st.text(max_size=40), st.integers(0, 1000))
def test_no_text_breaks_it(text: str, size: int) -> None:
    for value in (text, "bytes=" + text):
        try:
            found = parse_range(value, size)
        except Unsatisfiable:
            continue
        assert found is None or (found[0] >= 0 and found[1] > 0 and sum(found) <= size)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"if-none-match": '"abc"'}, 304),
        ({"if-none-match": 'W/"abc"'}, 304),
        ({"if-none-match": '"x", "abc"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, None),
        ({"if-none-match": '"x"', "if-modified-since": NOW.last_modified}, None),  # the tag decides alone
        ({"if-modified-since": NOW.last_modified}, 304),
        ({"if-modified-since": "Tue, 14 Nov 2023 22:13:19 GMT"}, None),
        ({"if-modified-since": "yesterday"}, None),
        ({"if-match": '"abc"'}, None),
        ({"if-match": "*"}, None),
        ({"if-match": 'W/"abc"'}, 412),  # strong comparison
        ({"if-match": '"x"'}, 412),
        ({"if-unmodified-since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 412),
        ({"if-unmodified-since": NOW.last_modified}, None),
    ],
)
def test_preconditions(headers: dict[str, str], expected: int | None) -> None:
    assert precondition(headers, NOW) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, True),
        ('"abc"', True),
        ('W/"abc"', False),
        ('"x"', False),
        (NOW.last_modified, True),
        ("Tue, 14 Nov 2023 22:13:19 GMT", False),
        ("Tue, 14 Nov 2023 22:13:21 GMT", False),
        ("Tuesday, 14-Nov-23 22:13:20 GMT", True),  # the obsolete form of the same second
        ('"abc", "x"', False),  # If-Range takes one tag, not a list
        ("", False),
    ],
)
def test_if_range(text: str | None, expected: bool) -> None:
    assert range_applies(text, NOW) is expected


def test_a_weak_tag_of_ours_is_good_for_if_none_match_alone() -> None:
    weak = Validators('W/"abc"', NOW.mtime)
    for text in ('"abc"', 'W/"abc"', '"x", W/"abc"', "*"):
        assert precondition({"if-none-match": text}, weak) == 304
    assert precondition({"if-match": 'W/"abc"'}, weak) == 412 and precondition({"if-match": '"abc"'}, weak) == 412
    assert not range_applies('W/"abc"', weak) and not range_applies('"abc"', weak)


@given(st.dictionaries(st.sampled_from(["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]), st.text(max_size=40)))
def test_no_precondition_breaks_it(headers: dict[str, str]) -> None:
    assert precondition(headers, NOW) in (None, 304, 412)
