"""Policies the agent asks and tells: declared hooks, so that nothing needs to be monkeypatched.

A policy is an object with any of the methods of :class:`AgentHooks`. Policies are asked in the order given:

- ``propose``: the first that answers with params (or a :class:`Proposal`) decides what is tried next (the bandit decides where none does);
  ``on_refused``: that policy is told why, where its proposal cannot be tried;
- ``whitelist``: the params that may be tried at all; several whitelists are intersected by combo key;
- ``allow``: the first that answers with a reason vetoes that choice;
- ``on_scored``, ``on_failed``, ``on_event``, ``on_message``: told in order, after the state was written.

Hooks run on the agent's worker threads and should return quickly. A hook that raises is logged and passed over: a policy's
bug must not cost GPU time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from eva_p1.agent_types import FailedTry, Params, Proposal, ScoredClip

log = logging.getLogger(__name__)


class AgentControl(Protocol):
    """What a hook may do with the agent that calls it."""

    def ban(self, key: str, reason: str, by: str) -> bool: ...
    def stop(self, reason: str) -> None: ...
    def recent_rewards(self, key: str) -> list[float]: ...
    def is_banned(self, key: str) -> bool: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def stop_after(self) -> None: ...
    def skip(self, prompt_id: str) -> bool: ...


class AgentHooks:
    """Base of policies: every hook does nothing. Override those you need."""

    name = "hooks"

    def propose(self, agent: AgentControl) -> Params | Proposal | None:
        """Params to try next, or None to leave the choice to whoever comes after."""
        return None

    def on_refused(self, agent: AgentControl, proposal: Proposal, reason: str) -> None:
        """What was proposed cannot be tried: a ban, the search space, the whitelist, a server or another policy forbids it."""

    def whitelist(self) -> Sequence[Params] | None:
        """The only params that may be tried, or None for no such limit."""
        return None

    def allow(self, params: Params) -> str | None:
        """A reason why these params must not be tried now, or None."""
        return None

    def on_scored(self, agent: AgentControl, result: ScoredClip) -> None:
        """A clip was scored and recorded."""

    def on_failed(self, agent: AgentControl, failure: FailedTry) -> None:
        """A try failed and was recorded."""

    def on_event(self, agent: AgentControl, change: Any) -> None:
        """The shared state changed (a rating, a ban, an undo by anybody). ``change`` is an ``eva_state`` Change."""

    def on_message(self, text: str) -> None:
        """The agent has something to say to the person who watches."""


class HookChain:
    """Asks and tells a list of policies in order."""

    def __init__(self, policies: Iterable[Any] = ()):
        self.policies: list[Any] = list(policies)

    def add(self, policy: Any) -> None:
        self.policies.append(policy)

    def _call(self, method: str, *args: Any) -> Iterable[tuple[Any, Any]]:
        for policy in self.policies:
            function: Callable[..., Any] | None = getattr(policy, method, None)
            if function is None:
                continue
            try:
                yield policy, function(*args)
            except Exception:
                log.exception("policy %s failed in %s; it is passed over", policy_name(policy), method)

    def propose(self, agent: AgentControl) -> tuple[Proposal | None, str]:
        """(proposal, name of the policy that made it), or (None, "")."""
        for policy, found in self._call("propose", agent):
            if found is not None:
                return found if isinstance(found, Proposal) else Proposal(dict(found)), policy_name(policy)
        return None, ""

    def on_refused(self, agent: AgentControl, proposal: Proposal, reason: str) -> None:
        for _ in self._call("on_refused", agent, proposal, reason):
            pass

    def whitelist(self, key_of: Callable[[Params], str]) -> list[Params] | None:
        """The params every whitelist holds, compared by ``key_of``; None where no policy sets one."""
        allowed: dict[str, Params] | None = None
        for _, params_list in self._call("whitelist"):
            if params_list is None:
                continue
            mine = {key_of(params): dict(params) for params in params_list}
            allowed = mine if allowed is None else {key: params for key, params in allowed.items() if key in mine}
        return None if allowed is None else list(allowed.values())

    def refusal(self, params: Params) -> str | None:
        """Why some policy refuses these params, or None."""
        for policy, reason in self._call("allow", params):
            if reason:
                return f"{policy_name(policy)}: {reason}"
        return None

    def on_scored(self, agent: AgentControl, result: ScoredClip) -> None:
        for _ in self._call("on_scored", agent, result):
            pass

    def on_failed(self, agent: AgentControl, failure: FailedTry) -> None:
        for _ in self._call("on_failed", agent, failure):
            pass

    def on_event(self, agent: AgentControl, change: Any) -> None:
        for _ in self._call("on_event", agent, change):
            pass

    def on_message(self, text: str) -> None:
        for _ in self._call("on_message", text):
            pass


def policy_name(policy: Any) -> str:
    """The name a policy goes by in messages and reasons."""
    return str(getattr(policy, "name", None) or type(policy).__name__)
