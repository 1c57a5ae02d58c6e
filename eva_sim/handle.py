"""A simulator inside this process, for tests: it runs on a thread of its own and is stopped, killed or asked from here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eva_sim.faults import Fault
from eva_sim.server import SimServer
from eva_sim.surface import QualitySurface

START_SECONDS = 20.0


class SimHandle:
    """A running simulator. ``url`` is its address, ``surface`` its hidden truth."""

    def __init__(self, server: SimServer, loop: asyncio.AbstractEventLoop, thread: threading.Thread):
        self._server, self._loop, self._thread = server, loop, thread

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return self._server.url

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    @property
    def output_dir(self) -> Path:
        """Where its clips go."""
        return self._server.output_dir

    @property
    def surface(self) -> QualitySurface:
        """The hidden truth its clips follow."""
        return self._server.surface

    def add_fault(self, fault: str | Fault) -> Fault:
        """Adds a fault switch; ``hits`` of the returned object counts."""
        return self._server.faults.add(fault)

    def clear_faults(self) -> None:
        """Takes all fault switches away."""
        self._server.faults.clear()

    def stats(self) -> dict[str, Any]:
        """The figures of ``GET /sim/stats``."""
        return self._server.queue.stats()

    @property
    def alive(self) -> bool:
        """False once it stopped, was killed or crashed."""
        return not self._server.ended.is_set()

    def wait_dead(self, timeout: float = 10.0) -> bool:
        """Waits until it ended (a crash fault, say); False on timeout."""
        return self._server.ended.wait(timeout)

    def stop(self) -> None:
        """Ends it cleanly. Harmless when it is gone already."""
        self._end(self._server.stop)

    def kill(self) -> None:
        """Ends it as a killed process: connections are cut, nothing is said. Harmless when it is gone already."""
        self._end(self._server.die)

    def _end(self, how: Any) -> None:
        if self.alive and self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(how(), self._loop).result(10)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)


def start_simulator(output_dir: Path | str, **options: Any) -> SimHandle:
    """Starts a simulator on a thread; options as for :class:`SimServer` (``port seed speed job_seconds faults``).

    Returns when it accepts connections. Raises :class:`eva_env_base.EvaError` when it cannot start. Call ``stop()`` at the end.
    """
    server = SimServer(output_dir, **options)
    loop = asyncio.new_event_loop()
    started = threading.Event()
    trouble: list[BaseException] = []

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(server.start())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            trouble.append(error)
            started.set()
            loop.close()
            return
        started.set()
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=run, name="eva-sim-server", daemon=True)
    thread.start()
    if not started.wait(START_SECONDS):
        raise TimeoutError(f"the simulator did not start within {START_SECONDS:g} s")
    if trouble:
        raise trouble[0]
    return SimHandle(server, loop, thread)


@contextmanager
def running_simulator(output_dir: Path | str, **options: Any) -> Iterator[SimHandle]:
    """``with running_simulator(folder, seed=0, speed=50) as sim: ... sim.url ...``"""
    handle = start_simulator(output_dir, **options)
    try:
        yield handle
    finally:
        handle.stop()
