"""Rank correlation and shrunken means against values worked out elsewhere."""

from __future__ import annotations

import random

import pytest

from eva_state.statistics_of import ranks, shrunken_means, spearman


def test_equal_values_share_the_mean_of_their_ranks():
    assert ranks([3, 1, 3, 2]) == [3.5, 1, 3.5, 2]


def test_rank_correlation_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = random.Random(5)
    x = [rng.randint(1, 10) for _ in range(200)]
    y = [value + rng.gauss(0, 3) for value in x]
    found = spearman(x, y)
    assert found is not None
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    assert found.low < found.rho < found.high


def test_the_interval_of_no_relation_covers_zero_about_as_often_as_it_says():
    rng = random.Random(11)
    covered = 0
    for _ in range(300):
        found = spearman([rng.random() for _ in range(30)], [rng.random() for _ in range(30)])
        assert found is not None
        covered += found.low <= 0 <= found.high
    assert 0.91 <= covered / 300 <= 0.99


def test_looking_at_many_metrics_widens_the_interval_and_constants_have_none():
    x, y = [1.0, 2, 3, 4, 5, 6], [1.0, 3, 2, 5, 4, 6]
    one, many = spearman(x, y), spearman(x, y, tests=10)
    assert one is not None and many is not None and many.low < one.low
    assert spearman([1, 1, 1, 1], [1, 2, 3, 4]) is None
    assert spearman([1, 2], [2, 1]) is None


def sums(groups: dict[str, list[float]]) -> dict[object, tuple[int, float, float]]:
    return {name: (len(values), sum(values), sum(value * value for value in values)) for name, values in groups.items()}


def test_a_group_of_few_is_drawn_further_to_the_mean_of_all_than_one_of_many():
    rng = random.Random(2)
    found = shrunken_means(
        sums(
            {
                "many": [0.8 + rng.gauss(0, 0.1) for _ in range(100)],
                "few": [0.8, 0.81],
                "low": [0.4 + rng.gauss(0, 0.1) for _ in range(100)],
            }
        )
    )
    assert abs(found["many"].mean - found["many"].raw) < abs(found["few"].mean - found["few"].raw)
    assert found["few"].high - found["few"].low > found["many"].high - found["many"].low
    assert found["low"].high < found["many"].low


def test_intervals_of_groups_hold_the_truth_about_as_often_as_they_say():
    rng = random.Random(4)
    held = total = 0
    for _ in range(60):
        truth = {f"g{i}": 0.5 + rng.gauss(0, 0.1) for i in range(8)}
        found = shrunken_means(sums({name: [mean + rng.gauss(0, 0.2) for _ in range(rng.randint(2, 30))] for name, mean in truth.items()}))
        held += sum(found[name].low <= mean <= found[name].high for name, mean in truth.items())
        total += len(truth)
    assert 0.88 <= held / total <= 0.99


def test_no_group_and_a_single_value():
    assert shrunken_means({}) == {}
    only = shrunken_means({"a": (1, 0.5, 0.25)})["a"]
    assert only.mean == only.low == only.high == 0.5
