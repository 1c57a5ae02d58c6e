"""Pages of an order agree with sorting everything, whatever changes, at every size."""

from __future__ import annotations

import random
from typing import Any

import pytest

from eva_state import clip_orders
from eva_state.clip_orders import Order, by_name, in_pieces
from eva_state.clip_rows import Row, changed_rows, mask_of, rows_of


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_orders, "BLOCK", 8)
    monkeypatch.setattr(clip_orders, "SORT_BELOW", 4)
    monkeypatch.setattr(clip_orders, "UNBUILT_PAGES", 0)


def row(rng: random.Random, number: int) -> Row:
    return Row(f"{rng.random():.3f} {number}", score=rng.choice([None, 0.5, round(rng.random(), 2)]))


def expected(rows: list[Row], mask: int, descending: bool) -> list[int]:
    wanted = list(rows_of(mask))
    known = [n for n in wanted if rows[n].score is not None]
    return sorted(known, key=lambda n: (rows[n].score, rows[n].name), reverse=descending) + [n for n in wanted if rows[n].score is None]


@pytest.mark.parametrize("seed", range(30))
def test_it_agrees_with_sorting_everything(seed: int) -> None:
    rng = random.Random(seed)
    rows = [row(rng, number) for number in range(rng.choice([0, 1, 7, 60, 200]))]
    order = Order(rows, lambda item: item.score)
    if rng.random() < 0.7:  # built beside the table, which changes meanwhile
        copy = rows[:]
        blocks = order.blocks_of(copy, by_name(copy))
        for number in rng.sample(range(len(rows)), min(len(rows), rng.choice([0, 3]))):
            rows[number] = row(rng, number)
        rows += [row(rng, len(rows))] * rng.randrange(2)
        order.build(copy, blocks)
    else:
        order.build()
    for _ in range(100):
        if rows and rng.random() < 0.6:
            number = rng.randrange(len(rows))
            order.remove(number)
            rows[number] = row(rng, number)
        else:
            number = len(rows)
            rows.append(row(rng, number))
        order.insert(number)
        share = rng.choice([0.02, 0.5, 1.0])
        mask = mask_of([n for n in range(len(rows)) if rng.random() < share])
        descending, offset, limit = rng.random() < 0.5, rng.choice([0, 1, 40, 500]), rng.choice([1, 9, 300])
        assert order.page(mask, descending, offset, limit) == expected(rows, mask, descending)[offset : offset + limit]
        low, high = rng.choice([None, 0.3, 0.5]), rng.choice([None, 0.5, 0.9])
        fit = [
            n for n, r in enumerate(rows) if r.score is not None and (low is None or r.score >= low) and (high is None or r.score <= high)
        ]
        assert order.between(low, high) == mask_of(fit)


def test_a_row_that_goes_and_comes_leaves_nothing_behind() -> None:
    rows = [Row("a", score=0.1), Row("b", score=0.2)]
    order = Order(rows, lambda item: item.score)
    order.build()
    for number in (0, 1):
        order.remove(number)
        order.remove(number)  # as often as one likes
    assert order.page(3, True, 0, 5) == [0, 1], "without a place in the order they come by number"
    order.insert(1)
    assert order.page(3, True, 0, 5) == [1, 0] and order.between(None, None) == 2


@pytest.mark.parametrize("values", [[5] * 100, list(range(100)), [n % 3 for n in range(100)], [], [1]])
def test_sorting_in_pieces_is_sorting(values: list[Any]) -> None:
    pauses: list[None] = []
    found = [number for part in in_pieces(range(len(values)), values, lambda: pauses.append(None)) for number in part]
    assert found == sorted(range(len(values)), key=values.__getitem__), "stable: equal ones stay as they came"
    assert pauses or len(values) < 16


def test_sparse_and_dense_sets_are_read_alike() -> None:
    rng = random.Random(1)
    for share in (0.0, 0.001, 0.02, 0.04, 0.5, 1.0):
        numbers = [n for n in range(3000) if rng.random() < share]
        assert list(rows_of(mask_of(numbers))) == numbers
    assert list(rows_of(1 << 2999)) == [2999]


def test_changed_rows() -> None:
    before = [Row("a"), Row("b"), Row("c")]
    assert changed_rows(before, before[:]) == []
    assert changed_rows(before, [*before, Row("d")]) == [3]
    assert changed_rows(before, [before[0], Row("b"), before[2], Row("d")]) == [1, 3]
