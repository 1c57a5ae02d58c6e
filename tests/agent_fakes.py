"""Stand-ins for the agent's neighbours, for tests that want no server process: a ComfyUI that renders on command."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eva_env_base import PROJECT_DIR, ComfyUnavailable, EvaError, PromptFailed, PromptRejected
from eva_p1.agent_base import EnhancedVideoAgentV4
from eva_p1.agent_types import AgentOptions
from eva_p1.comfy_types import Finished, OutputFile, Progress, Queued
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.search_space import SearchSpace
from eva_p1.workflow import load_workflow
from eva_state.store import StateStore

WORKFLOW = PROJECT_DIR / "video_wan2_2_14B_t2v.json"
DEADLINE = 60.0
SMALL_SPACE = {
    "sampler": ["euler", "heun"],
    "scheduler": ["simple", "beta"],
    "fps": [16],
    "cfg_scale": [2, 5],
    "steps": [8, 20],
    "size": [[640, 480]],
}


def until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """Polls until ``condition`` holds; fails naming ``what``."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {deadline:g} s for: {what}")


@dataclass
class FakePrompt:
    prompt_id: str
    graph: dict[str, Any]
    state: str = "pending"
    outcome: str = "ok"


@dataclass
class FakeComfy:
    """A ComfyUI in memory. ``outcome(number, graph)`` says how the n-th prompt ends: ok, oom, error, no_output, rejected, cached.

    ``manual`` True: prompts end only when :meth:`finish` is called.
    """

    folder: Path
    url: str = "http://fake:1"
    samplers: tuple[str, ...] = ("euler", "heun", "lcm")
    schedulers: tuple[str, ...] = ("simple", "beta")
    outcome: Callable[[int, dict[str, Any]], str] = lambda _number, _graph: "ok"
    manual: bool = False
    seconds: float | None = 30.0
    remote: bool = False
    away: bool = False
    job_time: float = 0.0
    prompts: list[FakePrompt] = field(default_factory=list)
    posts: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    freed: int = 0
    idle_with_nothing_queued: int = 0

    def __post_init__(self) -> None:
        self.shown_url = self.url
        self.is_simulator = True
        self._change = threading.Condition()

    # -------------------------------------------------------- what the agent calls
    def object_info(self) -> None:
        self._alive()

    def samplers_and_schedulers(self) -> tuple[list[str], list[str]]:
        return list(self.samplers), list(self.schedulers)

    def system_stats(self) -> dict[str, Any]:
        self._alive()
        return {}

    def queue(self, graph: dict[str, Any], *, prompt_id: str, extra_data: Any = None) -> Queued:
        self._alive()
        with self._change:
            self.posts.append(prompt_id)
            outcome = self.outcome(len(self.posts), graph)
            if outcome == "rejected":
                raise PromptRejected("the node 'KSampler' has no sampler of that name")
            self.prompts.append(FakePrompt(prompt_id, graph, outcome=outcome))
            self._start_next()
            self._change.notify_all()
        return Queued(prompt_id, len(self.posts))

    def wait(self, prompt_id: str, on_progress: Any = None, timeout: float | None = None, stop: Any = None) -> Finished | None:
        started = time.monotonic()
        while True:
            with self._change:
                self._alive()
                prompt = self._find(prompt_id)
                if prompt is None:
                    raise PromptFailed("neither in the queue nor in the history", kind="lost")
                if prompt.state in ("done", "failed"):
                    return self._result(prompt)
                if prompt.state == "running":
                    if on_progress is not None:
                        on_progress(Progress(prompt_id, "step", "3", "KSampler", 4, 8))
                    if not self.manual and time.monotonic() - started >= self.job_time:
                        self._end(prompt)
                        continue
                self._change.wait(0.01)
            if stop is not None and stop():
                return None

    def state_of(self, prompt_id: str) -> str:
        self._alive()
        with self._change:
            prompt = self._find(prompt_id)
            return "unknown" if prompt is None else prompt.state

    def delete_pending(self, prompt_id: str) -> None:
        with self._change:
            self.deleted.append(prompt_id)
            self.prompts = [p for p in self.prompts if p.prompt_id != prompt_id or p.state != "pending"]

    def interrupt(self, prompt_id: str) -> None:
        with self._change:
            prompt = self._find(prompt_id)
            if prompt is not None and prompt.state == "running":
                prompt.outcome = "interrupted"
                self._end(prompt)

    def free_memory(self) -> None:
        self.freed += 1

    def fetch(self, output: OutputFile, dest: Path) -> Path:
        self._alive()
        dest.write_bytes((self.folder / output.filename).read_bytes())
        return dest

    def left_by(self, graph: dict[str, Any], prompt_id: str) -> Finished | None:
        self._alive()
        name = self._file(FakePrompt(prompt_id, graph))
        if not (self.folder / name).exists():
            return None
        videos = (OutputFile(name),)
        return Finished(prompt_id, videos, videos, cached=False, seconds=None)

    def close(self) -> None:
        pass

    # -------------------------------------------------------- what a test does
    def finish(self) -> str:
        """Ends the running prompt; waits for there to be one."""
        prompt = until(lambda: next((p for p in self.prompts if p.state == "running"), None), "a running prompt")
        with self._change:
            self._end(prompt)
            self._change.notify_all()
        return prompt.prompt_id

    def restart(self) -> None:
        """Queue and history are lost."""
        with self._change:
            self.prompts.clear()
            self._change.notify_all()

    def pending(self) -> list[FakePrompt]:
        with self._change:
            return [p for p in self.prompts if p.state == "pending"]

    def running(self) -> FakePrompt | None:
        with self._change:
            return next((p for p in self.prompts if p.state == "running"), None)

    # -------------------------------------------------------- inside
    def _alive(self) -> None:
        if self.away:
            raise ComfyUnavailable(f"{self.url} does not answer: connection refused")

    def _find(self, prompt_id: str) -> FakePrompt | None:
        return next((p for p in self.prompts if p.prompt_id == prompt_id), None)

    def _start_next(self) -> None:
        if not any(p.state == "running" for p in self.prompts):
            nxt = next((p for p in self.prompts if p.state == "pending"), None)
            if nxt is not None:
                nxt.state = "running"

    def _end(self, prompt: FakePrompt) -> None:
        prompt.state = "done" if prompt.outcome in ("ok", "no_output", "cached", "empty") else "failed"
        if prompt.outcome in ("ok", "empty"):
            (self.folder / self._file(prompt)).write_bytes(b"\0" * (1000 if prompt.outcome == "ok" else 0))
        if not any(p.state == "pending" for p in self.prompts):
            self.idle_with_nothing_queued += 1
        self._start_next()

    def _file(self, prompt: FakePrompt) -> str:
        if prompt.outcome == "cached":
            return sorted(path.name for path in self.folder.glob("*.mp4"))[0]
        save = next(node for node in prompt.graph.values() if "filename_prefix" in node["inputs"])
        return f"{save['inputs']['filename_prefix']}_00001_.mp4"

    def _result(self, prompt: FakePrompt) -> Finished:
        if prompt.state == "failed":
            raise PromptFailed(f"KSampler: {prompt.outcome}", kind="error" if prompt.outcome == "crash" else prompt.outcome, node="3")
        videos = () if prompt.outcome == "no_output" else (OutputFile(self._file(prompt)),)
        return Finished(prompt.prompt_id, videos, videos, prompt.outcome == "cached", self.seconds)


class FakeAnalyzer:
    """Scores a clip by a function of its file; ``gate`` holds scoring back."""

    def __init__(self, score: Callable[[Path], float] = lambda _path: 0.6):
        self.score = score
        self.gate = threading.Event()
        self.gate.set()
        self.calls = 0

    def analyze(self, path: Path) -> dict[str, Any]:
        self.calls += 1
        assert self.gate.wait(DEADLINE)
        overall = self.score(path)
        metrics = {"blur": overall, "exposure": overall, "blockiness": overall, "flicker": overall, "overall": overall}
        return {"video": str(path), "metrics": metrics, "raw": {"frames": 33}, "findings": [], "absent": {}, "version": "test"}


@dataclass
class FakePrompts:
    """Numbered prompts."""

    count: int = 0

    def next(self) -> Any:
        self.count += 1
        return _Prompt(f"a red kite over a green field, take {self.count}", "blurry", "kite")


@dataclass(frozen=True)
class _Prompt:
    text: str
    negative: str
    scenario_id: str


FAST = AgentOptions(seconds=2.0, backoff=(0.01, 0.05), hold_unknown=0.0, hold_share=0.0, rest=60.0)


def make_agent(store: StateStore, clients: list[Any], tmp_path: Path, **changes: Any) -> EnhancedVideoAgentV4:
    """An agent on fakes with the real bandit, store and workflow."""
    space = SearchSpace.from_dict(changes.pop("space", SMALL_SPACE))
    arguments: dict[str, Any] = {
        "analyzer": changes.pop("analyzer", None) or FakeAnalyzer(),
        "prompts": changes.pop("prompts", None) or FakePrompts(),
        "space": space,
        "video_dir": tmp_path / "video",
        "state_dir": tmp_path / "state",
        "options": FAST,
        "rng": random.Random(1),
    }
    arguments.update(changes)
    (tmp_path / "video").mkdir(exist_ok=True)
    bandit = arguments.pop("bandit", None) or MultiDimensionalBandit(space=space, seed=1)
    analyzer, prompts = arguments.pop("analyzer"), arguments.pop("prompts")
    kind = arguments.pop("kind", EnhancedVideoAgentV4)
    return kind(clients, store, bandit, analyzer, prompts, load_workflow(WORKFLOW), **arguments)


class Running:
    """A search in a thread of its own."""

    def __init__(self, agent: Any, iterations: int | None):
        self.agent = agent
        self.error: BaseException | None = None
        self.stats: dict[str, Any] | None = None
        self.thread = threading.Thread(target=self._run, args=(iterations,))
        self.thread.start()

    def _run(self, iterations: int | None) -> None:
        try:
            self.stats = self.agent.search_v4(iterations)
        except EvaError as error:
            self.error = error

    def end(self) -> dict[str, Any]:
        self.thread.join(60)
        assert not self.thread.is_alive(), "the search did not end"
        if self.error is not None:
            raise self.error
        assert self.stats is not None
        return self.stats


def live_status(tmp_path: Path, state: str) -> dict[str, Any] | None:
    """What the agent last said of itself, once it says that it is in this state."""
    path = tmp_path / "state" / "agent_status.json"
    if not path.exists():
        return None
    status = json.loads(path.read_text(encoding="utf-8"))
    return status if status["state"] == state else None
