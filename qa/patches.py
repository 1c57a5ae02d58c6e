"""QA policies: named objects handed to the agent through its declared hooks. Nothing is monkeypatched.

| name | does |
|---|---|
| ``qa-ban`` | bans a combo whose last three rewards are all below 0.55 |
| ``reference-only`` | lets only the combos of a reference file be tried |
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
        raise UsageError(f"no reference file {path}: mark clips as reference in the review page, or name another with --reference-file")
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


def qa_policies(reference_file: Path | None = None) -> list[AgentHooks]:
    """The policies of a run: the QA ban, and the whitelist where a reference file is given."""
    policies: list[AgentHooks] = [RecentlyBadBan()]
    if reference_file is not None:
        policies.append(ReferenceOnly.from_file(reference_file))
    return policies
