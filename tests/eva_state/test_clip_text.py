"""The word index of prompts agrees with reading every text, also while it is built and after changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eva_state import clip_text
from eva_state.clip_rows import Row, rows_of
from eva_state.clip_table import RowTable, Search
from eva_state.clip_text import TextIndex, in_names, in_texts

TEXT = st.text(alphabet="ab \u00a0\u0457\n\t", max_size=12)
WORD = st.text(alphabet="ab\u0457", min_size=1, max_size=3)


@given(
    st.lists(TEXT, max_size=12),
    st.lists(st.tuples(st.integers(0, 13), TEXT), max_size=10),
    st.lists(WORD, min_size=1, max_size=4),
    st.integers(0, 9),
    st.integers(1, 5),
)
def test_the_index_agrees_with_reading_everything(
    prompts: list[str], changes: list[tuple[int, str]], words: list[str], when: int, piece: int
) -> None:
    table = RowTable()
    table.fill([Row(f"A{n}", present=True, text=f"a{n}\n{prompt}") for n, prompt in enumerate(prompts)])
    before, clip_text.BUILD_AT_ONCE = clip_text.BUILD_AT_ONCE, piece
    try:
        for step, (number, prompt) in enumerate(changes):
            if step >= when:
                table.text.build_piece(table.rows)
            table.put(Row(f"A{number}", present=True, text=f"a{number}\n{prompt}"))
        while not table.text.build_piece(table.rows):
            pass
    finally:
        clip_text.BUILD_AT_ONCE = before
    for word in words:
        assert in_names(table.names, word) | table.text.in_prompts(word) == in_texts(table.rows, word), word


def test_a_large_set_is_kept_in_pieces() -> None:
    index = TextIndex()
    rows = [Row(f"{n}", text=f"{n}\ncommon w{n % 7} " + "x" * (n % 3)) for n in range(3500)]
    while not index.build_piece(rows):
        pass
    assert list(rows_of(index.in_prompts("common"))) == list(range(3500))
    assert list(rows_of(index.in_prompts("w3"))) == list(range(3, 3500, 7))
    assert index.in_prompts("nowhere") == 0


def test_the_best_row_follows_changes() -> None:
    table = RowTable()
    table.fill([Row(f"{n}", present=True, score=n / 10) for n in range(5)])

    def best() -> str | None:
        found = table.best()
        return None if found is None else found.name

    assert best() == "4"
    table.put(Row("2", present=True, score=0.9))
    assert best() == "2"
    table.put(Row("2", present=False, score=0.9))
    assert best() == "4"
    table.put(Row("4", present=True))
    table.put(Row("new", present=True, score=0.3))
    assert best() == "new"
    assert table.mask(Search(), list) == 0b111011
