"""What each connected server can do, and the search space all of them can serve.

A workflow may arrive in ComfyUI's UI format, which only a server's node list can turn into the graph that runs, so roles and checks are
made per server, once, when it first answers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eva_env_base import StateError, WorkflowError
from eva_p1.agent_types import Job, Params
from eva_p1.dimensions import Dimension, with_own
from eva_p1.workflow import apply_params, check_workflow, find_roles
from eva_p1.workflow_inputs import Setting, find_settings, write_settings
from eva_state.keys import EXTRA

log = logging.getLogger(__name__)

# What the bandit chooses, and the roles of the workflow each needs. Size is one axis with two inputs.
AXIS_ROLES = {
    "sampler": ("sampler",),
    "scheduler": ("scheduler",),
    "fps": ("fps",),
    "cfg_scale": ("cfg_scale",),
    "steps": ("steps",),
    "size": ("width", "height"),
}


KINDS = ("a real ComfyUI", "the simulator")


@dataclass(frozen=True)
class Profile:
    """One server's view of the workflow."""

    graph: dict[str, Any]
    roles: Any
    samplers: frozenset[str]
    schedulers: frozenset[str]
    simulator: bool
    settings: tuple[Setting, ...] = ()


def server_name(client: Any) -> str:
    """A server's address as it is shown and recorded: without the token or password it may hold."""
    return str(getattr(client, "shown_url", client.url))


def read_profile(client: Any, load: Callable[[Any], dict[str, Any]], dimensions: tuple[Dimension, ...] = ()) -> Profile:
    """Asks a server for its nodes and checks the workflow, and the user's own dimensions, against them.

    ``load`` takes the node list and gives the API-format graph. Raises :class:`WorkflowError` naming everything that is wrong,
    and ``ComfyError`` where the server cannot answer.
    """
    info = client.object_info()
    graph = load(info)
    roles = find_roles(graph, info).require("the workflow")
    problems = [problem.message for problem in check_workflow(graph, info) if problem.severity == "error"]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise WorkflowError(f"{server_name(client)} cannot run the workflow: " + " ".join(problems[:5]) + more)
    settings = find_settings(graph, dimensions, roles, info)
    samplers, schedulers = client.samplers_and_schedulers()
    return Profile(graph, roles, frozenset(samplers), frozenset(schedulers), bool(client.is_simulator), settings)


def workflow_value(graph: dict[str, Any], roles: Any, axis: str) -> Any:
    """The value the workflow itself uses for an axis it cannot be given, or None where it does not say."""
    latent = roles.latent
    if axis == "size" and latent is not None:
        inputs = graph[latent.node]["inputs"]
        size = (inputs.get("width"), inputs.get("height"))
        return size if all(isinstance(side, int) for side in size) else None
    return None


class Servers:
    """Profiles by address, and the space that fits all of them. Thread-safe."""

    def __init__(self, load: Callable[[Any], dict[str, Any]], space: Any):
        self._load, self._base = load, space
        self._lock = threading.Lock()
        self._profiles: dict[str, Profile] = {}
        self.space = space

    def connect(self, client: Any) -> tuple[Profile, list[str]]:
        """The server's profile, and messages for a person about what it took out of the search space.

        Raises :class:`WorkflowError` where the workflow or the search space does not fit the server.
        """
        api = server_name(client)
        profile = read_profile(client, self._load, self._base.extra)
        with self._lock:
            others = [known for other, known in self._profiles.items() if other != api]
            space, notes = fit_space(self._base, [*others, profile], api)
            space = replace(space, extra=with_own(space.extra, {item.name: item.own for item in profile.settings if item.own is not None}))
            self._profiles[api] = profile
            changed = space != self.space
            self.space = space
        return profile, notes if changed else []

    def refuse_mixing(self, simulator: bool, api: str, history: Iterable[Mapping[str, Any]], state_dir: Path | None) -> None:
        """Raises :class:`StateError` where clips of a simulator and of a real server would meet in one state.

        What the simulator's drawings teach says nothing about a real model, and one state is one bandit.
        """
        with self._lock:
            others = [name for name, known in self._profiles.items() if known.simulator != simulator]
        if others:
            raise StateError(
                f"{api} is {KINDS[simulator]}, {others[0]} {KINDS[not simulator]}: each needs a run and a --state-dir of its own"
            )
        reason = mixing(simulator, api, history, state_dir)
        if reason:
            raise StateError(f"{reason}. Name another folder with --state-dir")

    def profile(self, api: str) -> Profile:
        """The profile of a server that was connected. Raises ``KeyError`` otherwise."""
        with self._lock:
            return self._profiles[api]

    def graph_for(self, job: Job) -> dict[str, Any]:
        """The graph that makes this job's clip on its server."""
        profile = self.profile(job.api)
        graph = apply_params(
            profile.graph,
            profile.roles,
            job.params,
            prompt=job.prompt,
            negative_prompt=job.negative_prompt,
            seed=job.seed,
            prefix=job.prefix,
            seconds=job.seconds,
        )
        return write_settings(graph, profile.settings, job.params.get(EXTRA) or {})

    def unfit(self, params: Params) -> str | None:
        """Why no connected server can make these params, or None."""
        with self._lock:
            for profile in self._profiles.values():
                for name, offered in (("sampler", profile.samplers), ("scheduler", profile.schedulers)):
                    if name in profile.roles.settable and offered and params.get(name) not in offered:
                        return f"the server does not offer the {name} {params.get(name)!r}"
        return None


def mixing(simulator: bool, api: str, history: Iterable[Mapping[str, Any]], state_dir: Path | None) -> str | None:
    """Why clips of the server at ``api`` must not join this history, or None."""
    if all(bool(entry.get("simulator")) == simulator for entry in history):
        return None
    where = state_dir or "this state"
    return f"{where} holds clips of {KINDS[not simulator]} and {api} is {KINDS[simulator]}: what one teaches is wrong for the other"


def fit_space(space: Any, profiles: list[Profile], api: str) -> tuple[Any, list[str]]:
    """The part of ``space`` every profile can serve, and a sentence for each thing taken out of it."""
    notes: list[str] = []
    try:
        for profile in profiles:
            settable = profile.roles.settable
            fitted = space.restrict_to(
                profile.samplers if "sampler" in settable and profile.samplers else None,
                profile.schedulers if "scheduler" in settable and profile.schedulers else None,
            )
            for axis in ("sampler", "scheduler"):
                gone = [value for value in getattr(space, axis) if value not in getattr(fitted, axis)]
                if gone:
                    notes.append(f"{api} does not offer {axis} {', '.join(gone)}: taken out of the search space")
            space = fitted
            for axis, needed in AXIS_ROLES.items():
                if not settable.issuperset(needed) and len(getattr(space, axis)) > 1:
                    space = space.without(axis, workflow_value(profile.graph, profile.roles, axis))
                    kept = getattr(space, axis)[0]
                    reasons = profile.roles.not_settable
                    why = next((reasons[name] for name in needed if name in reasons), "it has no such input")
                    notes.append(f"the workflow cannot be given {axis} ({why}): held at {kept} and left out of the search")
    except ValueError as error:
        raise WorkflowError(f"{api}: {error}") from error
    return space, notes
