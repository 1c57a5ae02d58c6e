"""QA policies: named objects handed to the agent through its declared hooks. Nothing is monkeypatched.

| name | does |
|---|---|
| ``qa-ban`` | bans a combo whose last three rewards are all below 0.55 |
| ``reference-only`` | lets only the combos of a reference file, or of the clips marked as reference, be tried |
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eva_env_base import StateError, UsageError
from eva_p1.agent_hooks import AgentControl, AgentHooks
from eva_p1.agent_types import Params, ScoredClip
from eva_state.keys import combo_key, parse_combo_key
from eva_state.reference import read_reference_params
from eva_state.store import StateStore

log = logging.getLogger(__name__)

QA_TRIES = 3  # the seed's QA rule: the last three tries ...
QA_THRESHOLD = 0.55  # ... all below this reward
REFERENCE_NAME = "reference_params.json"


class RecentlyBadBan(AgentHooks):
    """Bans a combo once its last ``tries`` rewards are all below ``threshold``; rewards from before an unban do not count."""

    name = "qa-ban"

    def __init__(self, tries: int = QA_TRIES, threshold: float = QA_THRESHOLD):
        self.tries, self.threshold = tries, threshold

    def on_scored(self, agent: AgentControl, result: ScoredClip) -> None:
        key = result.job.combo_key
        recent = agent.recent_rewards(key)[-self.tries :]
        if len(recent) == self.tries and all(reward < self.threshold for reward in recent):
            shown = ", ".join(f"{reward:.2f}" for reward in recent)
            agent.ban(key, f"QA rule: the last {self.tries} tries all below {self.threshold:g} ({shown})", by=self.name)


class ReferenceOnly(AgentHooks):
    """Only the given params may be tried; which of them comes next is still the bandit's choice."""

    name = "reference-only"

    def __init__(self, params: Sequence[Params]):
        if not params:
            raise UsageError("reference-only needs at least one combo")
        self._params = [dict(item) for item in params]

    @classmethod
    def from_file(cls, path: Path) -> ReferenceOnly:
        """Reads a reference file. Raises :class:`UsageError` naming the file where it gives nothing to try."""
        return cls(load_reference(path))

    def whitelist(self) -> list[Params]:
        return self._params

    def __len__(self) -> int:
        return len(self._params)


def load_reference(path: Path) -> list[Params]:
    """The complete, distinct combos of a reference file, in its order; incomplete items are reported and left out.

    Raises :class:`UsageError` for a file that is missing, malformed, or holds no complete combo.
    """
    if not path.is_file():
        raise UsageError(f"no reference file {path}: name another with --reference-file, or leave it out to take clips marked as reference")
    try:
        items = read_reference_params(path)
    except StateError as error:
        raise UsageError(str(error)) from error
    found: dict[str, Any] = {}
    for number, item in enumerate(items, 1):
        try:
            key = combo_key(item)
        except ValueError as error:
            log.warning("%s: item %d is left out: %s", path, number, error)
            continue
        found.setdefault(key, parse_combo_key(key))
    if not found:
        raise UsageError(f"{path} holds no complete combo: each needs sampler, scheduler, fps, cfg_scale, steps, width and height")
    return list(found.values())


def marked_reference(state_dir: Path) -> list[Params]:
    """The distinct combos of the clips a person marked as reference."""
    if not state_dir.is_dir():
        return []
    found: dict[str, Params] = {}
    with StateStore(state_dir, role="reader") as store:
        for name, item in store.iter_ratings():
            params = (store.entry(name) or {}).get("params")
            if params and (item.get("rating") or {}).get("is_reference") is True:
                try:
                    key = combo_key(params)
                except ValueError as error:
                    log.warning("the reference clip %s is left out: %s", name, error)
                    continue
                found.setdefault(key, parse_combo_key(key))
    return list(found.values())


def reference_params(file: Path | None, state_dir: Path) -> list[Params]:
    """What ``--reference-only`` tries: the combos of ``file``, else of the state's reference file, else of the clips marked as reference.

    Raises :class:`UsageError` where none of them gives anything.
    """
    own = state_dir / REFERENCE_NAME
    if file is not None or own.exists():
        return load_reference(file or own)
    marked = marked_reference(state_dir)
    if not marked:
        raise UsageError(
            f"no clip of {state_dir} is marked as reference, and there is no reference file {REFERENCE_NAME} there: mark clips in the "
            "review page, write that file, or name another with --reference-file"
        )
    return marked


def qa_policies(reference: Sequence[Params] | None = None) -> list[AgentHooks]:
    """The policies of a run: the QA ban, and the whitelist where ``reference`` names combos."""
    policies: list[AgentHooks] = [RecentlyBadBan()]
    if reference is not None:
        policies.append(ReferenceOnly(reference))
    return policies
