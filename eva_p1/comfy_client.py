"""The ComfyUI client: queue a prompt, wait for it, read what it made, fetch the clip.

One client drives one server and may be used from several threads. The pieces are in the siblings: ``comfy_http`` (addresses,
tokens, retries), ``comfy_socket`` (the WebSocket listener), ``comfy_wait`` (waiting and results), ``comfy_errors`` (the server's
refusals as sentences), ``comfy_fetch`` (clips through ``/view``), ``comfy_types`` (what is handed out).
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import requests

from eva_env_base import ComfyError, ComfyUnavailable, PromptRejected
from eva_p1.comfy_errors import node_sentences, rejection
from eva_p1.comfy_fetch import fetch_output, find_saved
from eva_p1.comfy_http import AWAY_STATUS, Address, ComfyHttp, backoff, never_sent
from eva_p1.comfy_socket import Listener
from eva_p1.comfy_types import Finished, OutputFile, Progress, Queued, QueueState
from eva_p1.comfy_wait import Stop, Waiter
from eva_p1.workflow_roles import find_roles
from eva_p1.workflow_schema import options_of

__all__ = ["ComfyClient", "Finished", "OutputFile", "Progress", "QueueState", "Queued"]
log = logging.getLogger(__name__)

GRAPHS_KEPT = 64  # graphs of prompts this client queued, for node titles in messages
MARK = "eva_prompt_id"  # in extra_data, which comes back in queue and history: our id where an older server chooses its own
RECENT = 32  # history entries searched for that mark
SETTLE_LOOKS, SETTLE_PAUSE = 3, 0.5  # a request whose answer was lost may still be on its way: looked for so often before it is sent again


class ComfyClient:
    """Drives one ComfyUI server.

    ``url`` may hold a base path, ``user:password@`` and ``?token=...``; ``token`` is sent as ``Authorization: Bearer``. ``timeout``:
    seconds one request may take. ``retries``: how often a harmless request is repeated. ``patience``: seconds :meth:`wait` endures
    a server that is away before it raises :class:`ComfyUnavailable`.
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str | None = None,
        token: str | None = None,
        timeout: float = 10.0,
        session: requests.Session | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        retries: int = 2,
        patience: float = 30.0,
    ):
        self.url = url
        self.client_id = client_id or uuid.uuid4().hex
        self.patience = patience
        address = Address(url, token)
        self.shown_url = address.shown
        self._http = ComfyHttp(address, timeout=timeout, retries=retries, session=session, sleep=sleep)
        self._listener = Listener(address, self.client_id, clock=clock)
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._object_info: dict[str, Any] | None = None
        self._classes: dict[str, dict[str, Any]] = {}
        self._simulator: bool | None = None
        self._graphs: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._doubtful: set[str] = set()  # prompts whose answer was lost and that could not be looked for
        self._server_ids: dict[str, str] = {}  # only where the server's id is not ours

    def __enter__(self) -> ComfyClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the listener thread and the connections."""
        self._listener.close()
        self._http.close()

    # ------------------------------------------------------------ about the server
    def system_stats(self) -> dict[str, Any]:
        """``GET /system_stats``: versions, memory, devices."""
        stats = self._object(self._http.get_json("/system_stats"), "/system_stats")
        system = stats.get("system")
        self._simulator = isinstance(system, dict) and bool(system.get("eva_simulator") or stats.get("eva_simulator"))
        return stats

    @property
    def is_simulator(self) -> bool:
        """True when the server says it is EVA's embedded simulator."""
        if self._simulator is None:
            self.system_stats()
        return bool(self._simulator)

    def object_info(self, node_class: str | None = None, refresh: bool = False) -> dict[str, Any]:
        """The server's node classes, kept after the first answer; with ``node_class`` that class alone (``{}`` if unknown)."""
        with self._lock:
            if refresh:
                self._object_info = None
                self._classes.clear()
            known = self._object_info
            if node_class is not None and known is None and node_class in self._classes:
                return self._classes[node_class]
        if node_class is None:
            if known is None:
                known = self._object(self._http.get_json("/object_info"), "/object_info")
                with self._lock:
                    self._object_info = known
            return known
        if known is not None:
            return known.get(node_class) or {}
        path = f"/object_info/{quote(node_class, safe='')}"
        info = self._object(self._http.get_json(path), path).get(node_class)
        found = info if isinstance(info, dict) else {}
        with self._lock:
            self._classes[node_class] = found
        return found

    def samplers_and_schedulers(self) -> tuple[list[str], list[str]]:
        """Names this server offers, in its order. Raises :class:`ComfyError` where it has no sampler node."""
        for node_class in ("KSampler", "KSamplerAdvanced"):
            info = {node_class: self.object_info(node_class)}
            samplers = options_of(info, node_class, "sampler_name")
            schedulers = options_of(info, node_class, "scheduler")
            if samplers and schedulers:
                return [str(name) for name in samplers], [str(name) for name in schedulers]
        raise ComfyError(f"ComfyUI at {self.shown_url} lists no samplers: it has no KSampler node; is its installation complete?")

    # ------------------------------------------------------------ queueing
    def queue(self, graph: Mapping[str, Any], *, prompt_id: str | None = None, extra_data: Mapping[str, Any] | None = None) -> Queued:
        """Queues a graph. Never twice: when the answer is lost, the server is asked for ``prompt_id`` before anything is sent again.

        Raises :class:`PromptRejected` with a sentence for each fault, or :class:`ComfyUnavailable`; after the latter the prompt may have
        been accepted all the same. Queueing it again with the same ``prompt_id`` looks for it first; a new client must ask
        :meth:`state_of`.
        """
        self._listener.start()
        prompt_id = prompt_id or str(uuid.uuid4())
        marked = {**(extra_data or {}), MARK: prompt_id}
        body: dict[str, Any] = {"prompt": dict(graph), "client_id": self.client_id, "prompt_id": prompt_id, "extra_data": marked}
        self._remember(prompt_id, graph)
        attempt, doubtful = 0, prompt_id in self._doubtful
        if doubtful and (known := self._settle(prompt_id, 1)) is not None:
            return known
        while True:
            looks = SETTLE_LOOKS
            try:
                response = self._http.send("POST", "/prompt", json=body)
            except requests.RequestException as error:
                reason = self._http.away_reason(error)
                looks = 0 if never_sent(error) else SETTLE_LOOKS
            else:
                if response.status_code not in AWAY_STATUS:
                    if response.status_code >= 500 and (found := self._find(prompt_id)) is not None:
                        return found
                    queued = self._accepted(response, graph, prompt_id)
                    if doubtful:
                        self._drop_double(prompt_id)
                    return queued
                reason = f"answers {response.status_code} {response.reason}"
                # 429 and 503 come from whoever refused to pass the request on, so it is not on its way any more.
                looks = 1 if response.status_code in (429, 503) else SETTLE_LOOKS
            if looks:
                doubtful = True
                found = self._settle(prompt_id, looks)
                if found is not None:
                    return found
            if attempt >= self._http.retries:
                raise ComfyUnavailable(f"ComfyUI at {self.shown_url} {reason}; the prompt was not queued")
            self._sleep(backoff(attempt))
            attempt += 1

    def _accepted(self, response: requests.Response, graph: Mapping[str, Any], prompt_id: str) -> Queued:
        if response.status_code in (401, 403):
            raise ComfyError(
                f"ComfyUI at {self.shown_url} refused the request ({response.status_code}): is a token needed? "
                f"Give it in the address: {self.shown_url}/?token=..."
            )
        try:
            body = response.json()
        except ValueError:
            body = None
        if response.status_code >= 400:
            raise rejection(response.status_code, body, graph, self.object_info)
        if not isinstance(body, dict) or not isinstance(body.get("prompt_id"), str):
            raise ComfyError(
                f"{self.shown_url} accepted the prompt with an answer that is not ComfyUI's: is another program listening there?"
            )
        self._learn(prompt_id, body["prompt_id"])
        node_errors = body.get("node_errors")
        if isinstance(node_errors, dict) and node_errors:
            self._part_refused(prompt_id, node_errors, graph)
        return Queued(prompt_id, float(body.get("number") or 0))

    def _part_refused(self, prompt_id: str, node_errors: Mapping[str, Any], graph: Mapping[str, Any]) -> None:
        """Some outputs were refused and the others will run. Without the video that is GPU time for nothing, so it is called off."""
        sentences = " ".join(node_sentences(node_errors, graph, self.object_info))
        lost = {str(node) for entry in node_errors.values() if isinstance(entry, dict) for node in entry.get("dependent_outputs") or ()}
        if find_roles(graph).save in lost:
            self.delete_pending(prompt_id)
            self.interrupt(prompt_id)
            raise PromptRejected(f"ComfyUI refused the part of the prompt that saves the video. {sentences}", node_errors)
        log.warning("%s runs only a part of the workflow. %s", self.shown_url, sentences)

    def _find(self, prompt_id: str) -> Queued | None:
        """The prompt as the server knows it, or ``None``."""
        entry = self.history(prompt_id)
        items = [item for group in self._queue_items() for item in group if item[1] == prompt_id]
        if entry is None and not items:
            entry = self.history(prompt_id) or self._recent(prompt_id)  # it may have ended between the two questions
        if items:
            return Queued(prompt_id, float(items[0][0]))
        if entry is None:
            return None
        prompt = entry.get("prompt")
        return Queued(prompt_id, float(prompt[0]) if isinstance(prompt, list) and prompt and isinstance(prompt[0], (int, float)) else 0.0)

    def _recent(self, prompt_id: str) -> dict[str, Any] | None:
        """The history entry that carries our mark, on a server that chose an id of its own."""
        path = "/history"
        for server_id, entry in self._object(self._http.get_json(path, params={"max_items": RECENT}), path).items():
            prompt = entry.get("prompt") if isinstance(entry, dict) else None
            if isinstance(prompt, list) and _mark(prompt) == prompt_id:
                self._learn(prompt_id, str(server_id))
                return entry
        return None

    def _learn(self, prompt_id: str, server_id: str) -> None:
        if server_id != prompt_id:
            with self._lock:
                self._server_ids[prompt_id] = server_id

    def _server_id(self, prompt_id: str) -> str:
        return self._server_ids.get(prompt_id, prompt_id)

    def _settle(self, prompt_id: str, looks: int) -> Queued | None:
        """After a request whose answer was lost: did the server take it?"""
        for look in range(looks):
            if look:
                self._sleep(SETTLE_PAUSE)
            try:
                found = self._find(prompt_id)
            except ComfyUnavailable as error:
                self._doubtful.add(prompt_id)
                raise ComfyUnavailable(f"{error} The answer to a prompt was lost; whether it was queued is not known yet.") from error
            if found is not None:
                self._doubtful.discard(prompt_id)
                return found
        return None

    def _drop_double(self, prompt_id: str) -> None:
        """A prompt sent again may stand in the queue twice after all (the server takes duplicates): one of them is enough."""
        running, pending = self._queue_items()
        waiting = sum(item[1] == prompt_id for item in pending)
        if waiting and waiting + sum(item[1] == prompt_id for item in running) > 1:
            log.warning("%s had taken prompt %s twice; one is deleted", self.shown_url, prompt_id)
            self._http.post("/queue", {"delete": [self._server_id(prompt_id)]})

    # ------------------------------------------------------------ queue and history
    def _queue_items(self) -> tuple[list[list[Any]], list[list[Any]]]:
        data = self._object(self._http.get_json("/queue"), "/queue")

        def items(key: str) -> list[list[Any]]:
            found = [item for item in data.get(key) or () if isinstance(item, list) and len(item) > 1 and isinstance(item[0], (int, float))]
            found.sort(key=lambda item: item[0])  # the server answers in heap order
            for item in found:
                ours = _mark(item)
                if ours is not None:
                    self._learn(ours, str(item[1]))
                    item[1] = ours
            return found

        return items("queue_running"), items("queue_pending")

    def queue_state(self) -> QueueState:
        """What runs and what waits, everybody's prompts, in the order they will run."""
        running, pending = self._queue_items()
        return QueueState(tuple(str(item[1]) for item in running), tuple(str(item[1]) for item in pending))

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """The prompt's history entry, ``None`` while it has none."""
        server_id = self._server_id(prompt_id)
        path = f"/history/{quote(server_id, safe='')}"
        entry = self._object(self._http.get_json(path), path).get(server_id)
        return entry if isinstance(entry, dict) else None

    def state_of(self, prompt_id: str) -> str:
        """``pending``, ``running``, ``done``, ``failed`` or ``unknown``."""
        for look in range(2):
            entry = self.history(prompt_id) or (self._recent(prompt_id) if look else None)
            if entry is not None:
                status = entry.get("status")
                return "failed" if isinstance(status, dict) and status.get("status_str", "success") != "success" else "done"
            if look == 0:
                state = self.queue_state()
                if prompt_id in state.running:
                    return "running"
                if prompt_id in state.pending:
                    return "pending"
        return "unknown"

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Stops the running prompt; with ``prompt_id`` only if it is the one running."""
        if prompt_id is None:
            self._http.post("/interrupt", {})
        elif prompt_id in self.queue_state().running:  # asked first: older servers stop whatever runs
            self._http.post("/interrupt", {"prompt_id": self._server_id(prompt_id)})

    def delete_pending(self, prompt_ids: str | Iterable[str]) -> None:
        """Takes waiting prompts out of the queue. The server answers yes to everything: :meth:`state_of` tells what became of one."""
        wanted = [prompt_ids] if isinstance(prompt_ids, str) else list(prompt_ids)
        if wanted:
            self._http.post("/queue", {"delete": [self._server_id(prompt_id) for prompt_id in wanted]})

    def free_memory(self) -> None:
        """Asks the server to unload models and forget cached results, after an out-of-memory error for instance."""
        self._http.post("/free", {"unload_models": True, "free_memory": True})

    # ------------------------------------------------------------ waiting and fetching
    def wait(
        self,
        prompt_id: str,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float | None = None,
        stop: Stop = None,
    ) -> Finished | None:
        """Waits for a prompt; several threads may wait for several prompts at once.

        ``timeout``: seconds it may run (time in the queue is not counted). ``stop``: an event, or a function, that ends the wait with
        ``None`` and leaves the prompt alone. Raises :class:`PromptFailed` (``kind``: error, oom, interrupted, lost, no_output, timeout),
        and :class:`ComfyUnavailable` when the server stays away longer than ``patience``.
        """
        self._listener.start()
        server_id = self._server_id(prompt_id)
        inbox = self._listener.watch(server_id)
        try:
            waiter = Waiter(
                self, prompt_id, self._graphs.get(prompt_id) or {}, inbox, self._listener.connected.is_set, self._clock, self.patience,
                on_progress, timeout, stop,
            )  # fmt: skip
            return waiter.run()
        finally:
            self._listener.unwatch(server_id, inbox)

    def fetch(self, output: OutputFile, dest: Path) -> Path:
        """Copies an output file from the server to ``dest`` (whole or not at all) and returns ``dest``.

        Raises :class:`ClipError` for a file that is gone, empty or cut short, ``OSError`` where ``dest`` cannot be written,
        :class:`ComfyError` for anything else.
        """
        return fetch_output(self._http, output, Path(dest), self._sleep)

    def left_by(self, graph: Mapping[str, Any], prompt_id: str) -> Finished | None:
        """What a prompt the server forgot (it was restarted) had saved before that, ``None`` where it had not.

        The graph's ``filename_prefix`` must be its own. Whether the file is whole has to be looked at: a server may die while it writes.
        """
        found = find_saved(self._http, graph, self._sleep)
        return None if found is None else Finished(prompt_id, (found,), (found,), cached=False, seconds=None)

    # ------------------------------------------------------------ helpers
    def _remember(self, prompt_id: str, graph: Mapping[str, Any]) -> None:
        with self._lock:
            self._graphs[prompt_id] = graph
            while len(self._graphs) > GRAPHS_KEPT:
                self._graphs.popitem(last=False)

    def _object(self, data: Any, path: str) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise ComfyError(f"{self.shown_url} answered {path} with {type(data).__name__}, not an object: is this a ComfyUI server?")
        return data


def _mark(item: list[Any]) -> str | None:
    """Our id in a queue item or a history entry's prompt: ``[number, id, graph, extra_data, outputs]``."""
    extra = item[3] if len(item) > 3 else None
    mark = extra.get(MARK) if isinstance(extra, dict) else None
    return mark if isinstance(mark, str) else None
