"""Waiting for one prompt: WebSocket messages say when to look, the history says what happened."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from eva_env_base import ComfyUnavailable, PromptFailed
from eva_p1.comfy_errors import failure
from eva_p1.comfy_http import backoff
from eva_p1.comfy_socket import Message
from eva_p1.comfy_types import Finished, OutputFile, Progress, QueueState
from eva_p1.workflow_graph import title_of

SLICE = 0.25  # longest pause between two looks at ``stop`` and Ctrl-C, seconds
POLL_CONNECTED = 5.0  # how often the server is asked while the socket talks; a lost message costs at most this
POLL_ALONE = 1.0  # how often it is asked while the socket is away
SETTLE = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # after a message of the end, the history may lag: asked again after these pauses
LOST_LOOKS, LOST_PAUSE = 3, 0.5  # a prompt in neither queue nor history is given up after so many looks: it may be moving between them
VIDEO_SUFFIXES = (".mp4", ".webm", ".mov", ".mkv", ".m4v", ".avi")
MOVING_SUFFIXES = (".gif", ".webp", ".apng")
Stop = threading.Event | Callable[[], bool] | None


class Server(Protocol):
    """What waiting asks of the client."""

    def history(self, prompt_id: str) -> dict[str, Any] | None: ...
    def queue_state(self) -> QueueState: ...


@dataclass
class Waiter:
    """The state of one wait. ``patience``: seconds the server may be away before :class:`ComfyUnavailable` is raised."""

    server: Server
    prompt_id: str
    graph: Mapping[str, Any]
    inbox: queue.SimpleQueue[Message]
    connected: Callable[[], bool]
    clock: Callable[[], float]
    patience: float
    on_progress: Callable[[Progress], None] | None = None
    timeout: float | None = None
    stop: Stop = None
    _started_at: float | None = None
    _last: Progress | None = None
    _ends: list[float] = field(default_factory=list)
    _absent: int = 0

    def run(self) -> Finished | None:
        """Waits to the end; ``None`` when ``stop`` asked to leave. Raises :class:`PromptFailed` or :class:`ComfyUnavailable`."""
        poll_at = self.clock()
        while True:
            if self._stopped():
                return None
            now = self.clock()
            if self.timeout is not None and self._started_at is not None and now - self._started_at > self.timeout:
                raise PromptFailed(f"prompt {self.prompt_id} ran for more than {self.timeout:g} s", kind="timeout")
            if now >= poll_at:
                finished = self._look()
                if finished is not None:
                    return finished
                poll_at = self.clock() + self._pause()
                continue
            try:
                kind, data = self.inbox.get(timeout=max(0.0, min(SLICE, poll_at - now)))
            except queue.Empty:
                continue
            if self._take(kind, data):
                poll_at = self.clock()

    def _stopped(self) -> bool:
        if self.stop is None:
            return False
        return self.stop.is_set() if isinstance(self.stop, threading.Event) else bool(self.stop())

    def _pause(self) -> float:
        if self._ends:
            return self._ends.pop(0)
        if self._absent:
            return LOST_PAUSE
        return POLL_CONNECTED if self.connected() else POLL_ALONE

    # ------------------------------------------------------------ asking the server
    def _look(self) -> Finished | None:
        """Asks the history, then the queue. Rides out a server that is away, up to ``patience``."""
        away_since, attempt = None, 0
        while True:
            try:
                entry = self.server.history(self.prompt_id)
                if entry is not None:
                    return result_of(self.prompt_id, entry, self.graph)
                state = self.server.queue_state()
                break
            except ComfyUnavailable:
                now = self.clock()
                away_since = now if away_since is None else away_since
                if now - away_since >= self.patience:
                    raise
                self._tell("waiting")
                until = min(now + backoff(attempt), away_since + self.patience)
                attempt += 1
                while self.clock() < until:
                    if self._stopped():
                        return None
                    try:
                        self.inbox.get(timeout=min(SLICE, max(0.001, until - self.clock())))
                    except queue.Empty:
                        pass
        if self.prompt_id in state.running:
            self._absent = 0
            self._begin()
        elif self.prompt_id in state.pending:
            self._absent = 0
            self._started_at = None
            self._tell("queued", queue_position=len(state.running) + state.pending.index(self.prompt_id))
        elif not self._ends:
            self._absent += 1
            if self._absent >= LOST_LOOKS:
                raise PromptFailed(
                    f"prompt {self.prompt_id} is neither in the queue nor in the history: the server was restarted, or somebody deleted it",
                    kind="lost",
                )
        return None

    def _begin(self) -> None:
        if self._started_at is None:
            self._started_at = self.clock()
            self._tell("started")

    # ------------------------------------------------------------ messages
    def _take(self, kind: str, data: Mapping[str, Any]) -> bool:
        """Handles one message; True when the server should be asked at once."""
        node = data.get("display_node") or data.get("node")
        node = None if node is None else str(node)
        if kind in ("execution_success", "execution_error", "execution_interrupted") or (kind == "executing" and data.get("node") is None):
            self._ends = list(SETTLE)
            return True
        if kind == "_lost":
            self._tell("reconnecting")
            return True
        if kind == "_connected":
            return True  # what was said while nobody listened is gone: ask
        if kind == "status":
            return self._started_at is None  # a waiting prompt may have moved up, or been deleted
        if kind == "execution_start":
            self._begin()
        elif kind == "execution_cached":
            self._begin()
            nodes = data.get("nodes")
            self._tell("cached", value=len(nodes) if isinstance(nodes, list) else 0, max=len(self.graph))
        elif kind == "executing":
            self._begin()
            self._tell("node", node)
        elif kind == "progress":
            self._begin()
            self._tell("step", node, value=_count(data.get("value")), max=_count(data.get("max")))
        elif kind == "progress_state":
            self._begin()
            self._progress_state(data.get("nodes"))
        elif kind == "preview":
            self._tell("preview", node or (self._last.node if self._last else None), image=data.get("image"))
        return False

    def _progress_state(self, nodes: Any) -> None:
        """The newer form: every node with its state. The running one is told like a ``progress`` message."""
        for node_id, state in (nodes or {}).items() if isinstance(nodes, dict) else ():
            if isinstance(state, dict) and state.get("state") == "running" and _count(state.get("max")) > 1:
                self._tell(
                    "step", str(state.get("display_node_id") or node_id), value=_count(state.get("value")), max=_count(state.get("max"))
                )

    def _tell(self, kind: str, node: str | None = None, *, value: int = 0, max: int = 0, queue_position: int | None = None,
              image: bytes | None = None) -> None:  # fmt: skip
        if self.on_progress is None:
            return
        title = title_of(self.graph, node) if node is not None and node in self.graph else node
        progress = Progress(self.prompt_id, kind, node, title, value, max, queue_position, image)
        if progress != self._last:  # both forms of progress say the same thing
            if kind != "preview":
                self._last = progress
            self.on_progress(progress)


def _count(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value else 0


# ---------------------------------------------------------------- history
def result_of(prompt_id: str, entry: Mapping[str, Any], graph: Mapping[str, Any]) -> Finished:
    """Reads a history entry. Raises :class:`PromptFailed` where the prompt failed or saved nothing."""
    status = entry.get("status")
    status = status if isinstance(status, dict) else {}  # servers before 2024 kept no status: then the outputs must do
    prompt = entry.get("prompt")
    if not graph and isinstance(prompt, list) and len(prompt) > 2 and isinstance(prompt[2], dict):
        graph = prompt[2]
    if status.get("status_str", "success") != "success":
        raise failure(prompt_id, status, graph)
    outputs, videos, writers = _files(entry.get("outputs"))
    if not outputs:
        raise PromptFailed(f"prompt {prompt_id} ended without saving a file", kind="no_output")
    times, cached_nodes = {}, set()
    for message in status.get("messages") or []:
        if isinstance(message, list) and len(message) == 2 and isinstance(message[1], dict):
            if isinstance(message[1].get("timestamp"), (int, float)):
                times[message[0]] = message[1]["timestamp"] / 1000.0
            if message[0] == "execution_cached" and isinstance(message[1].get("nodes"), list):
                cached_nodes = {str(node) for node in message[1]["nodes"]}
    seconds = None
    if "execution_start" in times and "execution_success" in times:
        seconds = max(0.0, times["execution_success"] - times["execution_start"])
    return Finished(prompt_id, outputs, videos, cached=bool(writers) and writers <= cached_nodes, seconds=seconds)


def _files(outputs: Any) -> tuple[tuple[OutputFile, ...], tuple[OutputFile, ...], set[str]]:
    """All files, the videos among them (saved ones before temporary ones), and the nodes that wrote them.

    SaveVideo reports its file under ``images`` with ``animated``, VideoHelperSuite under ``gifs``, others under ``videos``.
    """
    files: list[OutputFile] = []
    videos: list[OutputFile] = []
    writers: set[str] = set()
    for node_id, output in (outputs or {}).items() if isinstance(outputs, dict) else ():
        if not isinstance(output, dict):
            continue
        animated = output.get("animated")
        moving = animated is True or (isinstance(animated, list) and any(animated))
        for key, items in output.items():
            for item in items if isinstance(items, list) else ():
                if not (isinstance(item, dict) and isinstance(item.get("filename"), str) and item["filename"]):
                    continue
                file = OutputFile(item["filename"], str(item.get("subfolder") or ""), str(item.get("type") or "output"))
                if file in files:
                    continue
                files.append(file)
                writers.add(str(node_id))
                suffix = "." + file.filename.rsplit(".", 1)[-1].lower()
                if suffix in VIDEO_SUFFIXES or (suffix in MOVING_SUFFIXES and (moving or key in ("gifs", "videos", "video"))):
                    videos.append(file)
    videos.sort(key=lambda file: (file.type != "output", not file.filename.lower().endswith(VIDEO_SUFFIXES)))
    return tuple(files), tuple(videos), writers
