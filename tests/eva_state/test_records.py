from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eva_state import records
from eva_state.heads import Head
from eva_state.records import BadRecord, Record, decode_many, encode

text = st.text(st.characters(exclude_categories=("Cs",)))
json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=12,
)


def line_of(data, id="x", kind="rating"):
    return records.encode(Record(1, id, 2, 1.5, "server", kind, records.dump(data)))


@given(st.dictionaries(text, json_value), text, st.sampled_from(["rating", "submitted", "generated"]))
def test_any_json_survives(data, id, kind):
    line = line_of(data, id, kind)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    json.loads(line)
    for record, _ in (records.decode(line), records.decode_many([line[:-1]])[0]):
        assert (record.seq, record.id, record.lc, record.ts, record.w, record.type, record.data) == (1, id, 2, 1.5, "server", kind, data)


def test_the_checksum_is_zlibs_crc32_of_the_bytes_after_it():
    line = line_of({"a": 1})
    body = line[line.index(b",") + 1 : -1]
    assert json.loads(line)["crc"] == f"{zlib.crc32(body):08x}"


@given(st.data())
def test_every_flipped_bit_is_noticed(data):
    line = bytearray(line_of({"name": 'Ж\n"x".mp4', "rating": {"overall_quality": 7}})[:-1])
    bit = data.draw(st.integers(0, len(line) * 8 - 1))
    line[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadRecord):
        records.decode(bytes(line))
    good = line_of({"b": 1})[:-1]
    found = records.decode_many([good, bytes(line), good])
    assert isinstance(found[1], BadRecord)
    assert [item[0].data for item in (found[0], found[2])] == [{"b": 1}] * 2


def test_intact_bytes_that_are_no_record():
    for body in (b'"seq":1}', b'"seq":"1","id":"x","lc":1,"ts":1.0,"w":"a","type":"rating","data":{}}', b'"a":1},{"b":2}', b"["):
        line = b'{"crc":"%08x",%s' % (zlib.crc32(body), body)
        good = line_of({"b": 1})[:-1]
        assert [isinstance(item, BadRecord) for item in records.decode_many([good, line, good])] == [False, True, False]


def test_plain_takes_other_libraries_numbers_and_refuses_what_is_not_json():
    class Number:
        def item(self):
            return 2.5

    assert records.plain({"a": Number(), "b": (1, float("nan"))}) == {"a": 2.5, "b": [1, None]}
    with pytest.raises(ValueError, match=r"rating\.x\[1\]"):
        records.plain({"x": [1, object()]}, "rating")
    with pytest.raises(ValueError, match="is not text"):
        records.plain({1: 2})
    with pytest.raises(ValueError, match="Unicode"):
        records.plain("\udc80")


@pytest.mark.parametrize("kind", sorted(records.TYPES))
def test_every_type_of_record_is_read_quickly(kind):
    data = {"name": "a", "rating": None, "entry": {"video": "a"}, "prompt_id": None}
    line = encode(Record(1, "x", 1, 1.0, "server", kind, records.dump(data)))[:-1]
    [(record, head)] = decode_many([line])
    assert isinstance(head, Head) and record.type == head.kind == kind and record.data == data


def test_a_line_of_an_unknown_form_among_many_is_read_in_the_general_way():
    lines = [encode(Record(n, f"e{n}", n, 1.0, "server", "rating", records.dump({"name": "a", "rating": None})))[:-1] for n in range(1, 60)]
    lines[30] = encode(Record(31, "e31", 31, 1.0, "someone", "from the future", b'{"x":1}'))[:-1]
    lines[40] = encode(Record(41, "e41", 41, 1.0, "server", "rating", b'{"name":7}'))[:-1]
    lines[50] = b"rubbish"
    found = decode_many(lines)
    assert [number for number, item in enumerate(found) if isinstance(item, BadRecord)] == [50]
    good = [item for item in found if not isinstance(item, BadRecord)]
    assert [record.seq for record, _ in good] == [n for n in range(1, 60) if n != 51]
    assert [number for number, (_, data) in enumerate(good) if isinstance(data, dict)] == [30, 40]
