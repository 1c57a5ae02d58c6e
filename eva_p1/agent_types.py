"""What the agent's parts hand each other.

Words: a *job* is one prompt from the moment it is chosen until its clip is scored or its failure is recorded;
a *try* is a job that ended either way. Times are unix seconds, durations seconds unless the name says minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Params = dict[str, Any]

# A failure of one of these kinds says nothing about the parameters: the bandit only learns that the pull is over.
DISK_FULL = "disk_full"  # the server's disk: nothing it renders now can be saved
BLAMELESS_KINDS = frozenset({"withdrawn", "lost", "interrupted", "cached", "fetch", "stopped", "skipped", DISK_FULL})
# A failure of one of these kinds says nothing about the server's health either.
QUIET_KINDS = frozenset({"withdrawn", "interrupted", "cached", "skipped"})


@dataclass(frozen=True)
class AgentOptions:
    """How the agent works; the defaults are what a person gets who names nothing.

    depth            prompts kept at each server: one running and one waiting
    seconds          length of a clip
    max_failures     failed tries in a row after which a server rests; when every server rests the run stops; 0: never
    scoring_workers  clips scored at the same time (threads: decoding releases the GIL)
    hold_share       a free place in the queue waits for the score of the clip before it, but never longer than this
                     share of the expected run time of the prompt that is rendering, so that the GPU never waits
    hold_unknown     the same bound in seconds while no run time is known yet
    backoff          first and longest pause between two attempts to reach a server that is away
    job_timeout      seconds after which a prompt that has not ended is interrupted and recorded as failed; None: never
    rest             how long a server rests after max_failures, doubled each time
    drain_timeout    how long a stop waits for clips that are being scored
    oom_retry        a prompt that ran out of memory is tried once more with fewer pixels or frames
    give_up          seconds a server may be away or take nothing, until its prompts are left to the other servers at work
    prefix           first part of the names of the clips
    budget_minutes   GPU minutes a run may spend; budget_dollars the same in dollars at gpu_price an hour; the first reached holds
    """

    depth: int = 2
    seconds: float = 5.0
    max_failures: int = 5
    scoring_workers: int = 2
    hold_share: float = 0.4
    hold_unknown: float = 1.0
    backoff: tuple[float, float] = (0.5, 20.0)
    job_timeout: float | None = 7200.0
    rest: float = 30.0
    drain_timeout: float = 20.0
    oom_retry: bool = True
    give_up: float = 20.0
    prefix: str = "eva"
    budget_minutes: float | None = None
    budget_dollars: float | None = None
    gpu_price: float | None = None


@dataclass
class Job:
    """One prompt on its way. ``api`` is the server's address; ``attempts`` counts how often it was posted."""

    prompt_id: str
    api: str
    params: Params
    combo_key: str
    prompt: str
    negative_prompt: str
    seed: int
    prefix: str
    seconds: float
    submitted_at: float
    scenario_id: str | None = None
    retry_of: str | None = None  # prompt id of the try that ran out of memory, which this one repeats with less
    graph: dict[str, Any] | None = None  # None for a job picked up after a restart: it is built again only if needed
    attempts: int = 0
    posted: bool = False
    doubtful: bool = False  # the answer to a post was lost: the server may have it
    resumed: bool = False
    ticket: bool = False  # counted among the tries of this run
    withdrawn: str | None = None  # why it was taken out of the server's queue
    started_at: float | None = None
    request: str | None = None  # id of the person's request it was made for
    skip: str = ""  # "asked" once a person wants it ended, "done" when the server was told
    held: str = ""  # the reason for which it was looked at to be taken back

    def prompt_text(self) -> PromptText:
        return PromptText(self.prompt, self.negative_prompt, self.scenario_id)

    def submitted_data(self) -> dict[str, Any]:
        """The data of this job's ``submitted`` event."""
        data = {
            "prompt_id": self.prompt_id,
            "api": self.api,
            "params": dict(self.params),
            "combo_key": self.combo_key,
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "prefix": self.prefix,
            "seconds": self.seconds,
            "submitted_at": self.submitted_at,
        }
        if self.scenario_id:
            data["scenario_id"] = self.scenario_id
        if self.retry_of:
            data["retry_of"] = self.retry_of
        if self.request:
            data["request"] = self.request
        return data

    @classmethod
    def from_submitted(cls, data: Mapping[str, Any]) -> Job:
        """A job from a ``submitted`` event of an earlier run. Raises ``KeyError`` or ``TypeError`` on a malformed one."""
        return cls(
            prompt_id=str(data["prompt_id"]),
            api=str(data.get("api") or ""),
            params=dict(data["params"]),
            combo_key=str(data["combo_key"]),
            prompt=str(data.get("prompt") or ""),
            negative_prompt=str(data.get("negative_prompt") or ""),
            seed=int(data.get("seed") or 0),
            prefix=str(data.get("prefix") or ""),
            seconds=float(data.get("seconds") or 0.0),
            submitted_at=float(data.get("submitted_at") or 0.0),
            scenario_id=data.get("scenario_id"),
            retry_of=data.get("retry_of"),
            request=data.get("request"),
            attempts=1,
            posted=True,
            resumed=True,
        )


@dataclass(frozen=True)
class Analysis:
    """What measuring one clip gave.

    score: reward in [0,1]; metrics: name -> score in [0,1] (absent or None where it could not be measured);
    raw: measurements in their own units; findings: where something is wrong; version: of the analysis; pictures: what the
    measuring pass left on disk.
    """

    score: float
    metrics: dict[str, Any]
    raw: dict[str, Any] = field(default_factory=dict)
    findings: list[Any] = field(default_factory=list)
    version: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredClip:
    """A finished try: the clip, its scores and the history entry written about it."""

    job: Job
    video: str  # the clip's name below the video folder
    path: Path
    analysis: Analysis
    entry: dict[str, Any]
    cost_minutes: float
    tries: int  # finished or failed tries of this run, this one included
    is_best: bool


@dataclass(frozen=True)
class FailedTry:
    """A try without a usable clip. ``kind``: error, oom, disk_full, interrupted, lost, no_output, timeout, rejected, bad_clip, fetch,
    analysis, cached, withdrawn, skipped."""

    job: Job
    kind: str
    reason: str
    cost_minutes: float
    tries: int


@dataclass(frozen=True)
class PromptText:
    """A prompt that is known already, in the form prompt sources give theirs."""

    text: str
    negative: str = ""
    scenario_id: str | None = None


@dataclass(frozen=True)
class Proposal:
    """What a policy wants to be tried next. What is None is chosen as usual. ``request``: the person's request it answers."""

    params: Params
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    request: str | None = None


def frames_of(seconds: float, fps: float) -> int:
    """Frames of a clip of ``seconds`` at ``fps``, at least 1; used to estimate work, not to set the workflow."""
    return max(1, round(seconds * fps))
