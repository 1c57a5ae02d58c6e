"""Runs one job: the messages of ComfyUI's executor, in its order, while the clip is rendered beside them."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eva_sim import graph
from eva_sim.clip_params import clip_spec
from eva_sim.faults import Fault, FaultPlan
from eva_sim.hub import Hub
from eva_sim.jobs import Job, JobQueue, Result
from eva_sim.outputs import Folders, OutsideOutput, describe
from eva_sim.render import ClipSpec, PreviewMaker, RenderCancelled, render_clip
from eva_sim.saving import VIDEO_SAVERS, clip_of, save_image, save_video
from eva_sim.surface import QualitySurface, quality_of

log = logging.getLogger(__name__)

OOM_TIP = (
    "This error means you ran out of memory on your GPU.\n\n"
    "TIPS: If the workflow worked before you might have accidentally set the batch_size to a large number."
)


class Interrupted(Exception):
    """Somebody asked to stop this job."""


class Forgotten(Exception):
    """The job ends without a trace: the server crashed or lost its queue."""


@dataclass(frozen=True)
class Pace:
    """How long a job takes: ``speed`` times faster than the model of time, or ``job_seconds`` in all."""

    speed: float = 1.0
    job_seconds: float | None = None


@dataclass
class _Cached:
    ui: dict[str, Any] | None
    meta: dict[str, Any] | None


class Executor:
    """Runs jobs one after the other and remembers the last one's nodes, as the real cache does."""

    def __init__(
        self,
        queue: JobQueue,
        hub: Hub,
        surface: QualitySurface,
        folders: Folders,
        pace: Pace,
        faults: FaultPlan,
        crash: Callable[[], None],
        go_down: Callable[[float], None],
    ):
        self.queue, self.hub, self.surface, self.folders, self.pace, self.faults = queue, hub, surface, folders, pace, faults
        self.crash, self.go_down = crash, go_down
        self.cache: dict[str, _Cached] = {}
        self.made: dict[str, dict[str, Any]] = {}  # prompt id -> ground truth, for /sim/truth
        self.free_memory = False
        self.renders: list[threading.Thread] = []

    def wait_for_renders(self, timeout: float) -> None:
        """Waits for renders that were told to stop. A thread still inside a C++ library when Python ends aborts the process."""
        limit = time.monotonic() + timeout
        for thread in self.renders:
            thread.join(max(0.0, limit - time.monotonic()))

    def work(self) -> None:
        """The worker thread: takes jobs until the queue stops."""
        while (job := self.queue.get()) is not None:
            if self.free_memory:
                self.cache.clear()
                self.free_memory = False
            faults = self.faults.for_next_job()
            run = _Run(self, job, faults)
            result = run.execute()
            if result is not None and "late_history" in faults:
                self.queue.interrupt.wait(faults["late_history"].options["seconds"])
            self.queue.finish(job, result)
            self.hub.running_node = None
            if result is not None and job.client_id is not None:
                self.hub.send("executing", {"node": None, "prompt_id": job.prompt_id}, job.client_id)


class _Run:
    """One job on its way through the graph."""

    def __init__(self, owner: Executor, job: Job, faults: dict[str, Fault]):
        self.o, self.job, self.faults = owner, job, faults
        self.hub, self.client = owner.hub, job.client_id
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.outputs: dict[str, Any] = {}
        self.meta: dict[str, Any] = {}
        self.executed: list[str] = []
        self.nodes: dict[str, dict[str, Any]] = {}
        self.order = graph.execution_order(job.prompt, job.outputs)
        self.outcomes = graph.evaluate(job.prompt, self.order)
        self.keys = graph.signatures(job.prompt, self.order)
        self.renders: dict[str, Future[Path]] = {}
        self.abandoned = threading.Event()
        self.preview: PreviewMaker | None = None
        self.steps_done = 0
        self.due = time.monotonic()

    # ------------------------------------------------------------------ messages
    def _tell(self, kind: str, keep: bool = True, **data: Any) -> None:
        """An execution message: to its client only, and into the history."""
        body = {"prompt_id": self.job.prompt_id, **data}
        if keep:
            body["timestamp"] = int(time.time() * 1000)
            self.messages.append((kind, body))
        if self.client is not None:
            self.hub.send(kind, body, self.client)

    def _progress_state(self, node_id: str, value: float, maximum: float, state: str) -> None:
        self.nodes[node_id] = {
            "value": value,
            "max": maximum,
            "state": state,
            "node_id": node_id,
            "prompt_id": self.job.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        nodes = {key: dict(value) for key, value in self.nodes.items()}
        self.hub.send("progress_state", {"prompt_id": self.job.prompt_id, "nodes": nodes}, self.client)

    # ------------------------------------------------------------------ the job
    def execute(self) -> Result | None:
        """Runs the job. ``None``: it was forgotten."""
        self.hub.running_client, self.hub.running_node = self.client, None
        self._tell("execution_start")
        cached = [node for node in self.job.prompt if self.keys.get(node) in self.o.cache]
        self._tell("execution_cached", nodes=cached)
        todo = self._needed(set(cached))
        self._plan_time(todo)
        self._start_renders(todo)
        node_id = ""
        success = False
        try:
            for node_id in self.job.outputs:
                if node_id in cached:
                    self._repeat_cached(node_id)
            for node_id in todo:
                self._run_node(node_id)
            self._trouble(1.0)
            self._tell("execution_success")
            success = True
        except Interrupted:
            kind = self.job.prompt[node_id]["class_type"]
            self._tell("execution_interrupted", node_id=node_id, node_type=kind, executed=list(self.executed))
        except Forgotten:
            return None
        except Exception as error:  # noqa: BLE001 - whatever a node raises becomes its execution_error, as on the real server
            self._report(node_id, error)
        finally:
            self.abandoned.set()  # a render nobody waits for any more stops
        self._remember(set(cached))
        return Result(success, self.outputs, self.meta, self.messages)

    def _needed(self, cached: set[str]) -> list[str]:
        """Nodes that must run, in order: an uncached output needs its uncached inputs, and so on."""
        wanted = {node for node in self.job.outputs if node not in cached}
        for node in reversed(self.order):
            if node in wanted:
                wanted.update(source for source in graph.links(self.job.prompt[node]) if source not in cached)
        return [node for node in self.order if node in wanted]

    def _plan_time(self, todo: list[str]) -> None:
        works = {node: outcome.work for node, outcome in self.outcomes.items()}
        whole = sum(work.seconds for work in works.values())
        self.scale = 1 / self.o.pace.speed
        if self.o.pace.job_seconds is not None:
            self.scale = self.o.pace.job_seconds / whole if whole > 0 else 0.0
        if "slow" in self.faults:
            self.scale *= self.faults["slow"].options["factor"]
        self.all_steps = max(1, sum(works[node].steps for node in todo if node in works))

    def _start_renders(self, todo: list[str]) -> None:
        """Clips depend on the graph alone, so they are rendered while the steps are 'sampled'."""
        for node_id in todo:
            if self.job.prompt[node_id]["class_type"] not in VIDEO_SAVERS:
                continue
            spec = clip_of(self.job.prompt[node_id], self.outcomes, self.o.surface)
            if spec is None:
                continue
            future: Future[Path] = Future()
            self.renders[node_id] = future
            thread = threading.Thread(target=self._render, args=(node_id, spec, future), name="eva-sim-render", daemon=True)
            self.o.renders = [*(one for one in self.o.renders if one.is_alive()), thread]
            thread.start()

    def _render(self, node_id: str, spec: ClipSpec, future: Future[Path]) -> None:
        pnginfo = self.job.extra_data.get("extra_pnginfo")
        metadata = {"prompt": self.job.prompt, **(pnginfo if isinstance(pnginfo, dict) else {})}
        path = self.o.folders.temp / f"render-{self.job.counter}-{self.order.index(node_id)}.mp4"
        try:
            log.info("prompt %s: %s", self.job.prompt_id, describe(spec))
            future.set_result(render_clip(spec, path, metadata, cancelled=self.abandoned.is_set))
            if self.abandoned.is_set():
                path.unlink(missing_ok=True)
        except RenderCancelled:
            future.cancel()
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits for the clip
            future.set_exception(error)

    def _repeat_cached(self, node_id: str) -> None:
        entry = self.o.cache[self.keys[node_id]]
        if self.client is not None and entry.ui is not None:
            self.hub.send(
                "executed",
                {"node": node_id, "display_node": node_id, "output": entry.ui, "prompt_id": self.job.prompt_id},
                self.client,
            )
            self.outputs[node_id] = entry.ui
            self.meta[node_id] = {**(entry.meta or {}), "node_id": node_id, "display_node": node_id}
        self._progress_state(node_id, 1.0, 1.0, "finished")

    def _run_node(self, node_id: str) -> None:
        self._progress_state(node_id, 0.0, 1.0, "running")
        self.hub.running_node = node_id
        self._tell("executing", keep=False, node=node_id, display_node=node_id)
        self._wait(0.0)
        outcome = self.outcomes[node_id]
        if "oom" in self.faults and outcome.work.steps and self.faults["oom"].options["at"] <= 0:
            raise graph.OutOfMemory("Allocation on device")
        if outcome.error is not None:
            raise outcome.error
        if outcome.work.steps:
            self._sample(node_id, outcome)
        else:
            self._wait(outcome.work.seconds * self.scale + outcome.work.fixed)
        ui = self._save(node_id)
        if ui is not None:
            self.outputs[node_id] = ui
            self.meta[node_id] = {"node_id": node_id, "display_node": node_id, "parent_node": None, "real_node_id": node_id}
            data = {"node": node_id, "display_node": node_id, "output": ui, "prompt_id": self.job.prompt_id}
            if self.client is not None:
                self.hub.send("executed", data, self.client)
        maximum = outcome.work.steps or 1.0
        self.executed.append(node_id)
        self._progress_state(node_id, maximum, maximum, "finished")

    def _sample(self, node_id: str, outcome: graph.Outcome) -> None:
        steps = outcome.work.steps
        pause = (outcome.work.seconds * self.scale + outcome.work.fixed) / steps
        latent = outcome.outputs[0] if isinstance(outcome.outputs[0], graph.Latent) and not outcome.work.fixed else None
        for step in range(1, steps + 1):
            self._wait(pause)
            self._progress_state(node_id, step, steps, "running")
            self.steps_done += 1
            data = {"value": step, "max": steps, "prompt_id": self.job.prompt_id, "node": node_id}
            # With metadata the preview goes out before the progress message, without it after: so it was recorded.
            first = self.hub.wants_metadata(self.client)
            if first:
                self._send_preview(node_id, latent)
            self.hub.send("progress", data, self.client)
            if not first:
                self._send_preview(node_id, latent)
            self._trouble(self.steps_done / self.all_steps)

    def _send_preview(self, node_id: str, latent: graph.Latent | None) -> None:
        if latent is None or not self.hub.listeners or self.job.extra_data.get("preview_method") == "none":
            return
        if self.preview is None:
            images = graph.Images(latent, latent.width, latent.height, latent.frames)
            self.preview = PreviewMaker(clip_spec(self.o.surface, images, 16))
        metadata = {"node_id": node_id, "prompt_id": self.job.prompt_id, "display_node_id": node_id, "parent_node_id": None}
        self.hub.send_preview(self.preview.jpeg(self.steps_done / self.all_steps), {**metadata, "real_node_id": node_id}, self.client)

    def _wait(self, seconds: float) -> None:
        """Sleeps until the job's clock has moved on by ``seconds``; raises :class:`Interrupted` at once when asked to stop."""
        self.due = max(self.due, time.monotonic() - 0.5) + seconds  # a late render is caught up, but not more than half a second
        if self.o.queue.interrupt.wait(max(0.0, self.due - time.monotonic())):
            raise Forgotten if self.o.queue.stopped else Interrupted

    # ------------------------------------------------------------------ faults in the middle
    def _trouble(self, share: float) -> None:
        """Lets the faults of this job strike once ``share`` of its steps is done."""
        for kind in ("ws_drop", "hang", "error", "oom", "crash", "lose_queue"):
            fault = self.faults.get(kind)
            if fault is None or share < fault.options["at"]:
                continue
            if not (kind == "ws_drop" and fault.options["repeat"]):
                del self.faults[kind]
            log.warning("fault %s strikes prompt %s", kind, self.job.prompt_id)
            if kind == "ws_drop":
                self.hub.drop_all()
            elif kind == "hang":
                self.o.queue.interrupt.wait()
                self._wait(0.0)
            elif kind == "error":
                raise _named_error(fault.options["type"], fault.options["message"])
            elif kind == "oom":
                raise graph.OutOfMemory("Allocation on device")
            elif kind == "crash":
                self.o.crash()
                raise Forgotten
            else:
                self.o.go_down(fault.options["down"])
                self.o.queue.forget_everything()
                self.o.cache.clear()
                raise Forgotten

    # ------------------------------------------------------------------ files
    def _save(self, node_id: str) -> dict[str, Any] | None:
        """What the node shows: ``None`` for one that saves nothing."""
        node = self.job.prompt[node_id]
        spec = clip_of(node, self.outcomes, self.o.surface)
        if spec is None:
            return None
        prefix = node["inputs"].get("filename_prefix", "")
        if isinstance(prefix, list):
            prefix = self.outcomes[prefix[0]].outputs[prefix[1]]
        if node["class_type"] not in VIDEO_SAVERS:
            return save_image(node, spec, self.o.folders, str(prefix))
        saved = save_video(node, spec, self._rendered(node_id), self.o.folders, self.faults, str(prefix))
        if saved is None:
            return None
        self.o.made[self.job.prompt_id] = {
            "simulator": True,
            "file": saved[0],
            "quality": quality_of(spec.defects),
            "defects": spec.defects.as_dict(),
        }
        return saved[1]

    def _rendered(self, node_id: str) -> Path:
        """Waits for the clip, still ready to be interrupted."""
        future = self.renders[node_id]
        while not future.done():
            if self.o.queue.interrupt.wait(0.005):
                raise Forgotten if self.o.queue.stopped else Interrupted
        return future.result()

    # ------------------------------------------------------------------ the end
    def _report(self, node_id: str, error: Exception) -> None:
        name, message = type(error).__name__, f"{error}\n"
        if isinstance(error, graph.OutOfMemory):
            name, message = "torch.OutOfMemoryError", f"{error}\n{OOM_TIP}"
        elif isinstance(error, OutsideOutput):
            name = "Exception"
        inputs = self.job.prompt[node_id]["inputs"]
        log.warning("prompt %s failed in node %s: %s: %s", self.job.prompt_id, node_id, name, error)
        self._tell(
            "execution_error",
            node_id=node_id,
            node_type=self.job.prompt[node_id]["class_type"],
            executed=list(self.executed),
            exception_message=message,
            exception_type=name,
            traceback=traceback.format_tb(error.__traceback__),
            current_inputs={key: [str(value)] for key, value in inputs.items()},
            current_outputs=[node for node in self.order if node in self.executed or self.keys[node] in self.o.cache],
        )

    def _remember(self, cached: set[str]) -> None:
        """The cache holds the nodes of the last prompt only: those found there and those run now."""
        fresh: dict[str, _Cached] = {}
        for node_id in self.order:
            if node_id in cached:
                fresh[self.keys[node_id]] = self.o.cache[self.keys[node_id]]
            elif node_id in self.executed:
                fresh[self.keys[node_id]] = _Cached(self.outputs.get(node_id), self.meta.get(node_id))
        self.o.cache.clear()
        self.o.cache.update(fresh)


def _named_error(name: str, message: str) -> Exception:
    """An exception whose class is called ``name``."""
    return type(name, (RuntimeError,), {})(message)
