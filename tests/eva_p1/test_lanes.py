"""Tries are counted exactly, and a server that keeps failing rests longer each time."""

from __future__ import annotations

import threading

import pytest

from eva_p1.agent_budget import Streak, Tickets


def test_tickets_are_never_overdrawn_by_many_threads() -> None:
    tickets = Tickets(100)
    taken: list[bool] = []

    def grab() -> None:
        for _ in range(50):
            if tickets.take():
                taken.append(True)

    threads = [threading.Thread(target=grab) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 100


def test_a_ticket_given_back_can_be_taken_again_and_only_settled_ones_finish_the_run() -> None:
    tickets = Tickets(2)
    assert tickets.take() and tickets.take() and not tickets.take()
    tickets.give_back()
    assert tickets.take() and not tickets.finished
    assert tickets.settle() == 1 and not tickets.finished
    assert tickets.settle() == 2 and tickets.finished


def test_without_a_total_there_is_no_end_until_it_is_closed() -> None:
    tickets = Tickets(None)
    assert all(tickets.take() for _ in range(1000)) and not tickets.finished
    tickets.give_back()
    tickets.close()
    assert not tickets.take()
    for _ in range(999):
        tickets.settle()
    assert tickets.finished


def test_closing_never_raises_the_total() -> None:
    tickets = Tickets(3)
    tickets.take()
    tickets.close()
    assert not tickets.take()


def test_a_server_rests_after_failures_in_a_row_and_longer_each_time() -> None:
    now = [0.0]
    streak = Streak(3, 10.0, lambda: now[0])
    assert [streak.add("error") for _ in range(3)] == [None, None, 10.0]
    assert streak.resting
    now[0] = 10.0
    assert not streak.resting
    assert [streak.add("oom") for _ in range(3)][-1] == 20.0


def test_a_scored_clip_ends_the_streak() -> None:
    streak = Streak(2, 10.0)
    assert streak.add("error") is None and streak.add(None) is None and streak.add("error") is None
    assert not streak.resting


@pytest.mark.parametrize("kind", ["interrupted", "withdrawn", "cached"])
def test_what_is_nobodys_fault_does_not_count(kind: str) -> None:
    streak = Streak(1, 10.0)
    assert streak.add(kind) is None and not streak.resting


def test_a_limit_of_nought_never_rests() -> None:
    streak = Streak(0, 10.0)
    assert all(streak.add("error") is None for _ in range(50))
