"""What is tried next: policies first, then the bandit; then a prompt that passes the content policy, a seed and a name.

:class:`Chooser` is not thread-safe; the agent calls it under its own lock, because choosing changes the bandit.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from eva_env_base import EvaError, UsageError
from eva_p1.agent_hooks import AgentControl, HookChain
from eva_p1.agent_types import AgentOptions, Job, Params

log = logging.getLogger(__name__)

# Refused choices are kept in flight while another is sought, so that the bandit moves on; after this many the policies
# and the search space contradict each other, and a person has to look.
MAX_REFUSALS = 200
MAX_PROMPT_DRAWS = 50
MAX_SEED = 2**48  # exact in JSON readers that hold numbers as doubles, and below every sampler node's limit


class PromptSource(Protocol):
    """``next()`` gives an object with ``text``, ``negative`` and ``scenario_id``."""

    def next(self) -> Any: ...


class Chooser:
    """Turns the bandit, the policies and the prompt source into jobs."""

    def __init__(
        self,
        bandit: Any,
        prompts: PromptSource,
        hooks: HookChain,
        rng: random.Random,
        *,
        key_of: Callable[[Params], str],
        check_text: Callable[[str], Any],
        is_banned: Callable[[str], bool],
        unfit: Callable[[Params], str | None],
        options: AgentOptions,
        clock: Callable[[], float] = time.time,
    ):
        self._bandit, self._prompts, self._hooks, self._rng = bandit, prompts, hooks, rng
        self._key_of, self._check_text, self._is_banned = key_of, check_text, is_banned
        self._unfit = unfit
        self._options, self._clock = options, clock

    def choose(self, agent: AgentControl, api: str) -> Job:
        """The next job for the server at ``api``; its params are in flight in the bandit.

        Raises :class:`UsageError` where nothing may be tried (everything banned, refused, or outside the whitelist).
        """
        return self.job_for(self._choose_params(agent), api)

    def job_for(self, params: Params, api: str) -> Job:
        """A job for given params: prompt, seed, unique prompt id and clip prefix."""
        prompt = self._draw_prompt()
        now = self._clock()
        prompt_id = str(uuid.UUID(int=random.SystemRandom().getrandbits(128), version=4))  # never from the seeded rng: ids must not repeat
        stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(now))
        return Job(
            prompt_id=prompt_id,
            api=api,
            params=params,
            combo_key=self._key_of(params),
            prompt=prompt.text,
            negative_prompt=prompt.negative,
            seed=self._rng.randrange(MAX_SEED),
            prefix=f"{self._options.prefix}_{stamp}_{prompt_id[:8]}",
            seconds=self._options.seconds,
            submitted_at=now,
            scenario_id=getattr(prompt, "scenario_id", None),
        )

    def _choose_params(self, agent: AgentControl) -> Params:
        among = self._hooks.whitelist(self._key_of)
        if among is not None:
            reasons = {self._key_of(params): self._veto(params) for params in among}
            among = [params for params in among if reasons[self._key_of(params)] is None]
            if not among:
                why = "; ".join(dict.fromkeys(str(reason) for reason in reasons.values()))
                raise UsageError(f"none of the {len(reasons)} combos of the whitelist can be tried: {why}")
        proposed, who = self._hooks.propose(agent)
        if proposed is not None:
            reason = self._veto(proposed) or self._hooks.refusal(proposed)
            if reason is None and among is not None and self._key_of(proposed) not in {self._key_of(params) for params in among}:
                reason = "it is not in the whitelist"
            if reason is None:
                return self._select([proposed])
            log.info("the proposal of %s was not taken: %s", who, reason)
        refused: list[Params] = []
        try:
            for _ in range(MAX_REFUSALS):
                params = self._select(among)
                reason = "it is banned" if self._is_banned(self._key_of(params)) else self._hooks.refusal(params)
                if reason is None:
                    return params
                refused.append(params)
        finally:
            for params in refused:
                self._bandit.cancel(params)
        raise UsageError(f"the policies refused {len(refused)} choices in a row, the last: {reason}; widen the space or the policies")

    def _veto(self, params: Params) -> str | None:
        """Why these params can never be tried now, whatever the policies say, or None."""
        key = self._key_of(params)
        return f"{key} is banned" if self._is_banned(key) else self._unfit(params)

    def _select(self, among: list[Params] | None) -> Params:
        try:
            return dict(self._bandit.select_params(among=among) if among is not None else self._bandit.select_params())
        except ValueError as error:  # the bandit's way to say that no arm is left
            raise UsageError(f"nothing is left to try: {error}; lift a ban or widen the search space") from error

    def _draw_prompt(self) -> Any:
        last: EvaError | ValueError | None = None
        for _ in range(MAX_PROMPT_DRAWS):
            prompt = self._prompts.next()
            try:
                self._check_text(prompt.text)
            except (EvaError, ValueError) as error:
                log.warning("a prompt was dropped by the content policy: %s", error)
                last = error
                continue
            return prompt
        raise UsageError(f"{MAX_PROMPT_DRAWS} prompts in a row were refused by the content policy ({last}); mend the prompt source")
