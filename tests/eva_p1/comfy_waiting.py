"""Waiting in tests: for a condition, for the socket, for a prompt in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from eva_env_base import ComfyUnavailable, PromptFailed
from eva_p1.comfy_client import ComfyClient, Finished, Progress


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def connect(client: ComfyClient) -> None:
    """Waits for the socket, so that a test about messages does not depend on who is faster."""
    client._listener.start()
    assert client._listener.connected.wait(10)


class Waiting:
    """A wait in a thread of its own."""

    def __init__(self, client: ComfyClient, prompt_id: str, **options: Any):
        self.seen: list[Progress] = []
        self.result: Finished | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(client, prompt_id, options), daemon=True)
        self._thread.start()

    def _run(self, client: ComfyClient, prompt_id: str, options: dict[str, Any]) -> None:
        try:
            self.result = client.wait(prompt_id, on_progress=self.seen.append, **options)
        except (PromptFailed, ComfyUnavailable) as error:
            self.error = error

    def kinds(self) -> list[str]:
        return [progress.kind for progress in self.seen]

    def join(self) -> Finished:
        self._thread.join(60)
        assert not self._thread.is_alive(), "the wait did not end"
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result
