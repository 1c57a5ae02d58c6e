"""The agent: choose, prompt, queue, wait, take the clip, score it, write it down, learn.

Threads: every server has a lane (``lanes.py``), scoring runs on a small pool (``agent_scoring.py``), and whatever changes the state or
the bandit goes through the ledger's lock (``agent_ledger.py``). Lock order: lane, ledger, store, board; the store's callback takes none.

What is written when (contract, section 3): ``submitted`` before the prompt is posted, with a prompt id chosen here, so that a crash at
any instant leaves either nothing or a prompt that can be looked up; ``generated`` or ``failed`` once the try has ended.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eva_env_base import ClipError, ComfyError, ComfyUnavailable, PromptFailed, StateError, UsageError
from eva_p1.agent_budget import Spend, Tickets
from eva_p1.agent_choice import Chooser, PromptSource
from eva_p1.agent_hooks import HookChain
from eva_p1.agent_ledger import Ledger
from eva_p1.agent_live import STATUS_NAME, Board, LiveWriter
from eva_p1.agent_report import REPORT_NAME, ReportWriter
from eva_p1.agent_requests import RequestDesk
from eva_p1.agent_results import as_analysis, build_entry, failure_kind, take_clip_patiently
from eva_p1.agent_scoring import ScoringPool
from eva_p1.agent_servers import Servers, server_name
from eva_p1.agent_service import LaneService
from eva_p1.agent_types import AgentOptions, Analysis, Job, Params, ScoredClip
from eva_p1.agent_worth import Worth
from eva_p1.lanes import Lane
from eva_p1.review_order import ORDER_NAME, OrderWriter
from eva_state.keys import combo_key
from eva_state.live import write_live

log = logging.getLogger("eva.agent")

POLL = 0.1  # how often the main thread looks whether the run is over


class EnhancedVideoAgentV4(LaneService):
    """Makes clips on one or more ComfyUI servers and learns which parameters make good ones.

    clients       one ``ComfyClient`` a server
    store         an open ``StateStore`` with role ``agent``
    bandit        a ``MultiDimensionalBandit`` without a file of its own: the store is the truth
    analyzer      ``analyze(path) -> {"metrics", "raw", "findings", "version"}``
    prompts       ``next() -> Prompt(text, negative, scenario_id)``
    workflow      the API-format graph, or a function from a server's node list to it (for UI-format files)
    space         the search space asked for; each server's limits are taken out of it
    video_dir     where the clips are, or are fetched to; state_dir: where the live status goes (None: nowhere)
    policies      objects with any of the methods of :class:`AgentHooks`
    check_text    raises for a prompt the content policy refuses
    """

    def __init__(
        self,
        clients: Sequence[Any],
        store: Any,
        bandit: Any,
        analyzer: Any,
        prompts: PromptSource,
        workflow: Mapping[str, Any] | Callable[[Any], dict[str, Any]],
        *,
        space: Any,
        video_dir: Path,
        state_dir: Path | None = None,
        policies: Iterable[Any] = (),
        options: AgentOptions | None = None,
        check_text: Callable[[str], Any] | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.time,
    ):
        if not clients:
            raise UsageError("the agent needs at least one ComfyUI server; give --api")
        self.clients, self.bandit, self.analyzer = list(clients), bandit, analyzer
        self.video_dir, self.state_dir = Path(video_dir), state_dir
        self.options = options or AgentOptions()
        self.board = Board(clock)
        self.ledger = Ledger(store, bandit)
        rng = rng or random.Random()
        self.desk = RequestDesk(self.ledger, lambda: self._servers.space, rng)
        self.hooks = HookChain([self.desk, *policies])
        self.tickets = Tickets(0)
        self.spend = Spend(self.options)
        self.stopping = threading.Event()
        self._clock = clock
        self._servers = Servers(workflow if callable(workflow) else lambda _info: dict(workflow), space)
        self._chooser = Chooser(
            bandit,
            prompts,
            self.hooks,
            rng,
            key_of=combo_key,
            check_text=check_text or (lambda _text: None),
            is_banned=self.is_banned,
            unfit=self._servers.unfit,
            space=lambda: self._servers.space,
            options=self.options,
            spend=lambda: self.spend,
            clock=clock,
        )
        self._lanes: list[Lane] = []
        self._pool: ScoringPool | None = None
        self._error: BaseException | None = None
        self._order: OrderWriter | None = None
        self._report: ReportWriter | None = None
        self._worth: Worth | None = None

    # ------------------------------------------------------------ the three calls of the contract
    def run_iteration_v4(self, params: Params) -> tuple[float, dict[str, Any], Path, dict[str, Any]]:
        """One try with given params on the first server: ``(score, metrics, video_path, workflow)``.

        Blocks until the clip is scored and recorded. Raises ``ComfyError`` or :class:`ClipError` after recording a failure.
        """
        self._warm_start()
        client = self.clients[0]
        self.prepare(client)
        self._drain()
        reason = self._servers.unfit(params) or (f"{combo_key(params)} is banned" if self.is_banned(combo_key(params)) else None)
        if reason:
            raise UsageError(f"these params cannot be tried: {reason}")
        with self.ledger.lock:
            job = self._chooser.job_for(dict(params), server_name(client))
            self.ledger.mark_in_flight(job.params)
            self.ledger.submitted(job)
        job.graph = self.graph_for(job)
        try:
            queued = client.queue(job.graph, prompt_id=job.prompt_id)
            if queued.prompt_id != job.prompt_id:
                self.renamed(job, queued.prompt_id)
            finished = client.wait(job.prompt_id, timeout=self.options.job_timeout)
            result = self._score(client, job, finished)
        except ComfyUnavailable:
            raise  # the prompt may be on the server all the same: it stays in flight, the next run looks it up
        except (ComfyError, ClipError) as error:
            self.record_failure(job, failure_kind(error), str(error))
            raise
        return result.analysis.score, result.analysis.metrics, result.path, job.graph

    def search_v4(self, iterations: int | None = None) -> dict[str, Any]:
        """Tries until ``iterations`` tries (scored or failed) have ended; None or 0: until :meth:`stop`. Returns the stats.

        Raises :class:`EvaError` where the run cannot go on (no server fits, too many failures, state full).
        """
        if iterations is not None and iterations < 0:
            raise UsageError(f"iterations must be 0 (no end) or more, not {iterations}")
        total = iterations or None
        self.tickets = Tickets(total)
        self.spend = self.ledger.spend = Spend(self.options, self._chooser.expected_minutes, self.board.elapsed)
        self.board.begin(total, self.ledger.best())
        live = LiveWriter(self.board, self.state_dir / STATUS_NAME, write_live) if self.state_dir is not None else None
        if live is not None:
            live.start()
        self._pool = ScoringPool(max(self.options.scoring_workers, len(self.clients)))
        try:
            self._warm_start()
            self._worth = Worth(self.bandit)
            self._hold(None)
            self.desk.begin()
            if self.state_dir is not None:
                self._order = OrderWriter(self.ledger.store, self.bandit, self.state_dir / ORDER_NAME, write_live, self._clock)
                self._report = ReportWriter(self.ledger.store, self.bandit, self.state_dir / REPORT_NAME, write_live, self._clock)
            resumed = self._resumed_jobs()
            self._lanes = [Lane(client, self, resumed.get(server_name(client))) for client in self.clients]
            for lane in self._lanes:
                lane.start()
            while any(lane.alive for lane in self._lanes):
                time.sleep(POLL)
                self._update_state()
                self._drain()
                if self._order is not None:
                    self._order.publish()
                if self._report is not None:
                    self._report.publish(self.spend.report())
                if self._ended_by_person():
                    self.stop("a person asked for no further clip")
        except KeyboardInterrupt:
            self.stop("interrupted")
            for lane in self._lanes:
                lane.join(self.options.drain_timeout)
            raise
        finally:
            self._wind_down(live)
        if self._error is not None:
            raise self._error
        return self.get_stats_v4()

    def get_stats_v4(self) -> dict[str, Any]:
        """Figures of this run and of what was learned so far."""
        snapshot = self.board.snapshot()
        with self.ledger.lock:
            try:
                recommend = self.bandit.recommend()
            except ValueError as error:
                recommend = None
                log.info("nothing to recommend: %s", error)
            figures = {name: snapshot[name] for name in ("scored", "failed", "best_score", "best_combo", "gpu_minutes", "simulator")}
            learned = {"banned": self.ledger.ban_count, "recommend": recommend, "bandit": self.bandit.status()}
            spent = self.spend.report()
            worth = self._worth.report(spent["minutes"]) if self._worth is not None else {}
            return {"iterations": snapshot["iteration"], **figures, **learned, "budget": {**spent, **worth}}

    def stop(self, reason: str | None = "stopped") -> None:
        """Ends the run soon: nothing new is chosen, waiting prompts are taken back, clips at hand are still scored. Any thread.

        ``reason`` None: nothing is said.
        """
        if not self.stopping.is_set():
            self.stopping.set()
            self.board.set_state("stopping")
            if reason is not None:
                self.say(f"stopping: {reason}")
            for lane in self._lanes:
                lane.kick()

    # ------------------------------------------------------------ what a subclass may change
    def analyse(self, path: Path, job: Job) -> Analysis:
        """Measures a clip. Raises :class:`ClipError` for one that cannot be measured: such a clip is never scored 0."""
        return as_analysis(self.analyzer.analyze(path), path)

    # ------------------------------------------------------------ scoring
    def _score_task(self, lane: Lane, job: Job, finished: Any) -> None:
        kind, reason = None, ""
        try:
            self._score(lane.client, job, finished)
        except ComfyUnavailable:  # the run is stopping: the clip stays on its server, the next run fetches it
            log.warning("%s was not fetched; the next run picks it up", job.combo_key)
        except (ComfyError, ClipError) as error:
            kind, reason = failure_kind(error), str(error)
        except StateError as error:
            self._fatal(error)
        except Exception as error:
            log.exception("scoring %s broke", job.combo_key)
            kind, reason = "analysis", f"{type(error).__name__}: {error}"
        if kind is not None:
            self.record_failure(job, kind, reason, self._seconds(job, finished))
        lane.scored(kind, reason)

    def _seconds(self, job: Job, finished: Any) -> float:
        """Execution time: by the server's own clock, or by ours where it does not say."""
        return self.board.elapsed(job) if finished.seconds is None else float(finished.seconds)

    def _score(self, client: Any, job: Job, finished: Any) -> ScoredClip:
        seconds = self._seconds(job, finished)
        video, path = take_clip_patiently(client, finished, self.video_dir, self.stopping, self.options.backoff)
        if not self.ledger.claim(job, video) and finished.cached:
            raise PromptFailed(f"answered from the server's cache with {video}, a known clip; does the workflow set a seed?", kind="cached")
        analysis = self.analyse(path, job)
        minutes = seconds / 60.0
        simulator = self._servers.profile(job.api).simulator
        entry = build_entry(job, video, analysis, run_seconds=seconds, at=self._clock(), simulator=simulator)
        bans = self.ledger.generated(job, entry, analysis.score, minutes)
        if self._worth is not None:
            with self.ledger.lock:
                self._worth.scored(analysis.score)
        self.board.learn_time(job.params, job.seconds, seconds)
        tries = self._settle(job)
        last = {"combo_key": job.combo_key, "video": video, "score": analysis.score, "metrics": analysis.metrics}
        best = self.board.finished(tries=tries, scored=True, run_minutes=minutes, score=analysis.score, combo_key=job.combo_key, last=last)
        result = ScoredClip(job, video, path, analysis, entry, minutes, tries, best)
        for key, reason in bans:
            self.ban(key, reason, by="autoban")
        if self._order is not None:
            self._order.scored(video)
        self.hooks.on_scored(self, result)
        return result

    # ------------------------------------------------------------ inside
    def _warm_start(self) -> None:
        count = self.ledger.warm_start()
        if count:
            self.say(f"learned from {count} clip{'s' * (count != 1)} of earlier runs")
        for entry in self.ledger.timed_entries():
            self.board.learn_time(entry["params"], float(entry.get("seconds") or self.options.seconds), float(entry["run_seconds"]))

    def _resumed_jobs(self) -> dict[str, list[Job]]:
        """Jobs of earlier runs by server. Those of servers this run does not drive are left alone: nobody here can ask about them."""
        mine = {server_name(client) for client in self.clients}
        jobs: dict[str, list[Job]] = {}
        for job in self.ledger.in_flight_jobs():
            jobs.setdefault(job.api, []).append(job)
        elsewhere = sorted(set(jobs) - mine)
        if elsewhere:
            count = sum(len(jobs[api]) for api in elsewhere)
            self.say(f"{count} prompt(s) of earlier runs are on servers not driven now; to get their clips add --api {','.join(elsewhere)}")
        return jobs

    def _drain(self) -> None:
        """Takes in what people did meanwhile."""
        changes, banned = self.ledger.drain()
        for change in changes:
            self.hooks.on_event(self, change)
        if banned:
            for lane in self._lanes:
                lane.kick(check_bans=True)

    def _update_state(self) -> None:
        if not self.stopping.is_set():
            states = self.board.server_states()
            best = next((state for state in ("running", "waiting_for_server") if state in states), "starting")
            self.board.set_state(best)
            self.board.set_requests(self.desk.waiting)
            self.board.set_budget(self.spend.report() if self.spend.limit is not None else None)

    def _wind_down(self, live: LiveWriter | None) -> None:
        """Ends lanes and pool, writes the views and the last live status."""
        self.board.set_state("stopping")
        for lane in self._lanes:
            lane.kick()
        if self._order is not None:
            self._order.close()
        late = self._pool.close(self.options.drain_timeout) if self._pool is not None else 0
        if late:
            log.warning("%d clip(s) are still being scored; the next run picks them up", late)
        try:
            self.ledger.store.flush()
        except StateError as error:
            log.error("the views could not be written: %s; the journal is complete", error)
        if self._report is not None:
            self._report.publish(self.spend.report(), last=True)
        if live is not None:
            live.stop()
        else:
            self.board.set_state("stopped")
