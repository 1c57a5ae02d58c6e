"""Waiting for a server that is away, and finding out what it still knows once it is back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from eva_env_base import ComfyError, ComfyUnavailable
from eva_p1.agent_types import Job

# In which order prompts of an earlier run are followed: those that have ended cost nothing but the looking.
RESUME_ORDER = {"done": 0, "failed": 0, "running": 1, "pending": 2}
RESUME_WORDS = ("finished meanwhile", "is running", "is waiting")


def until_up(
    action: Callable[[], Any],
    *,
    over: Callable[[], bool],
    stopping: threading.Event,
    backoff: tuple[float, float],
    on_wait: Callable[[str, bool], None],
    on_back: Callable[[bool], None],
) -> bool:
    """Repeats ``action`` with growing pauses until it raises no ``ComfyError``; False where the run ended first.

    ``backoff``: first and longest pause in seconds. ``on_wait(reason, is_new)`` is told before each pause, ``on_back(had_waited)`` at
    the end. The action may be run several times, also after it did a part of its work.
    """
    delay, longest = backoff
    told = ""
    while not over():
        try:
            action()
        except ComfyUnavailable as error:
            reason = str(error)
        except ComfyError as error:
            reason = f"answers with an error: {error}"
        else:
            on_back(bool(told))
            return True
        on_wait(reason, reason != told)
        told = reason
        if stopping.wait(delay):
            return False
        delay = min(longest, delay * 2)
    return False


def states_of(client: Any, jobs: list[Job]) -> list[tuple[str, Job]]:
    """What the server knows of each job, in the order in which they should be followed. Raises ``ComfyError``."""
    found = [(client.state_of(job.prompt_id), job) for job in jobs]
    return sorted(found, key=lambda pair: RESUME_ORDER.get(pair[0], 3))
