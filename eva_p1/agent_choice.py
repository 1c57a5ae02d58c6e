"""What is tried next, and with which prompt, seed and name.

A smaller try in place of one that ran out of memory comes first, then what policies propose, then the bandit's choice. Prompts pass the
content policy.

:class:`Chooser` is not thread-safe; the agent calls it under its own lock, because choosing changes the bandit.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from eva_env_base import EvaError, UsageError
from eva_p1.agent_budget import Spend
from eva_p1.agent_hooks import AgentControl, HookChain
from eva_p1.agent_oom import smaller_params
from eva_p1.agent_types import AgentOptions, Job, Params, PromptText, Proposal
from eva_p1.bandit_prices import NothingFits
from eva_p1.dimensions import FIXED
from eva_state.keys import EXTRA

log = logging.getLogger(__name__)

# Refused choices are kept in flight while another is sought, so that the bandit moves on; after this many the policies
# and the search space contradict each other, and a person has to look.
MAX_REFUSALS = 200
MAX_PROMPT_DRAWS = 50
BANNED = "it is banned"
# Before the first price is known physics may be wrong by a factor of ten; a budget then reckons each try this many times.
CAUTION = 3.0
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
        space: Callable[[], Any],
        options: AgentOptions,
        spend: Callable[[], Spend] | None = None,
        clock: Callable[[], float] = time.time,
    ):
        unlimited = Spend(AgentOptions())
        self._spend = spend or (lambda: unlimited)
        self._bandit, self._prompts, self._hooks, self._rng = bandit, prompts, hooks, rng
        self._key_of, self._check_text, self._is_banned = key_of, check_text, is_banned
        self._unfit, self._space = unfit, space
        self._smaller: list[tuple[Job, Params]] = []  # tries that ran out of memory, and what to try in their place
        self._options, self._clock = options, clock

    def choose(self, agent: AgentControl, api: str) -> Job:
        """The next job for the server at ``api``; its params are in flight in the bandit.

        Raises :class:`UsageError` where nothing may be tried (everything banned, refused, or outside the whitelist), and
        :class:`NothingFits` where nothing fits into what is left to spend.
        """
        for item in [item for item in self._smaller if item[0].api == api]:
            self._smaller.remove(item)
            failed, params = item
            reason = self._refusal(params) or self._too_dear(params, api)  # asked again: much may have happened since
            if reason is None:
                return self.job_for(self._select([params], api), api, again=failed)
            log.info("%s is not tried after all: %s", self._key_of(params), reason)
        plan = self._choose_params(agent, api)
        return self.job_for(plan.params, api, plan=plan)

    def after_oom(self, job: Job) -> str:
        """Plans the one smaller try that takes the place of a try that ran out of memory; says what comes of it.

        It goes to the same server, with the same prompt and seed, as soon as a place is free there.
        """
        if job.retry_of:
            return "it was the smaller try already, so it is left at that"
        params = smaller_params(job.params, self._space())
        if params is None:
            return "the search space holds nothing smaller"
        reason = self._refusal(params)
        if reason:
            return f"{self._key_of(params)} is not tried in its place: {reason}"
        self._smaller.append((job, params))
        return f"{self._key_of(params)} is tried in its place"

    def give_back(self, job: Job) -> None:
        """A smaller try left its server's queue unpaid: it is the next one there again."""
        if job.retry_of:
            self._smaller.insert(0, (replace(job, prompt_id=job.retry_of), job.params))

    def _refusal(self, params: Params) -> str | None:
        """Why these params must not be tried now, by bans, servers, whitelist or policies, or None."""
        among = self._hooks.whitelist(self._key_of)
        if among is not None and self._key_of(params) not in {self._key_of(item) for item in among}:
            return "it is not in the whitelist"
        return self._veto(params) or self._hooks.refusal(params)

    def job_for(self, params: Params, api: str, *, again: Job | None = None, plan: Proposal | None = None) -> Job:
        """A job for given params: prompt, seed, unique prompt id and clip prefix.

        ``again``: the failed job whose prompt and seed it takes; ``plan``: the proposal that may name them.
        """
        source = again or plan
        prompt = again.prompt_text() if again else self._prompt_of(plan)
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
            seed=self._seed_of(source, params),
            prefix=f"{self._options.prefix}_{stamp}_{prompt_id[:8]}",
            seconds=self._options.seconds,
            submitted_at=now,
            scenario_id=getattr(prompt, "scenario_id", None),
            retry_of=again.prompt_id if again else None,
            request=source.request if source else None,
        )

    def _prompt_of(self, plan: Proposal | None) -> Any:
        return self._draw_prompt() if plan is None or plan.prompt is None else PromptText(plan.prompt, plan.negative_prompt or "")

    def _seed_of(self, source: Job | Proposal | None, params: Params) -> int:
        if source is not None and source.seed is not None:
            return source.seed
        own = params.get(EXTRA) or {}
        policy = next((item for item in getattr(self._space(), "extra", ()) if item.is_seed), None)
        drawn = self._rng.randrange(MAX_SEED)  # also where it is not used, so that a run with --seed draws the same prompts
        return policy.seed if policy is not None and policy.level_of(own) == FIXED else drawn

    def _limits(self, api: str) -> dict[str, Any]:
        """What a choice may cost, for the bandit; nothing where there is no limit."""
        spend = self._spend()
        left = spend.left
        if left is None:
            return {}
        return {"within": left / self._caution, "probe": not spend.under_way, "seconds": self._options.seconds, "server": api}

    @property
    def _caution(self) -> float:
        return 1.0 if self._bandit.prices_known else CAUTION

    @property
    def prices_awaited(self) -> bool:
        """True while there is a budget and no price is known: then nothing is queued behind another try."""
        return self._spend().limit is not None and not self._bandit.prices_known

    def expected_minutes(self, job: Job) -> float:
        """GPU minutes a try is reckoned with; 0 where nothing tells."""
        return self._expected(job.params, job.api)

    def _expected(self, params: Params, api: str) -> float:
        try:
            return float(self._bandit.expected_minutes(params, self._options.seconds, api)) * self._caution
        except ValueError as error:
            log.info("no price can be told: %s", error)
            return 0.0

    def _too_dear(self, params: Params, api: str) -> str | None:
        """Why these params do not fit into what is left to spend, or None."""
        spend = self._spend()
        left = spend.left
        if left is None or (not spend.under_way and not self._bandit.prices_known and left > 0):
            return None
        expected = self._expected(params, api)
        if expected <= left:
            return None
        return f"it is expected to take {expected:.2g} GPU minutes, {max(0.0, left):.2g} are left of the budget"

    def _proposed(self, agent: AgentControl, api: str) -> Proposal | None:
        """The first proposal of a policy that can be tried, its params in flight."""
        for _ in range(MAX_REFUSALS):
            proposal, who = self._hooks.propose(agent)
            if proposal is None:
                return None
            reason = self._refusal(proposal.params) or self._misfit(proposal) or self._too_dear(proposal.params, api)
            if reason is None:
                try:
                    return replace(proposal, params=dict(self._bandit.select_params(among=[proposal.params])))
                except ValueError as error:
                    reason = str(error)
            log.info("the proposal of %s was not taken: %s", who, reason)
            self._hooks.on_refused(agent, proposal, reason)
            if proposal.request is None:  # a policy of its own will says the same again: the bandit chooses
                return None
        return None

    def _misfit(self, proposal: Proposal) -> str | None:
        """Why what a person asked for must not be made: outside the search space, or a prompt the content policy refuses."""
        if proposal.request is not None and proposal.params not in self._space():
            return f"{self._key_of(proposal.params)} lies outside the search space"
        try:
            self._check_text(proposal.prompt or "")
        except (EvaError, ValueError) as error:
            return f"the content policy refuses the prompt: {error}"
        return None

    def _choose_params(self, agent: AgentControl, api: str) -> Proposal:
        among = self._hooks.whitelist(self._key_of)
        if among is not None:
            reasons = {self._key_of(params): self._veto(params) for params in among}
            among = [params for params in among if reasons[self._key_of(params)] is None]
            if not among:
                why = "; ".join(dict.fromkeys(str(reason) for reason in reasons.values()))
                raise UsageError(f"no combo of the whitelist can be tried: {why}; lift a ban, or name other combos")
        proposed = self._proposed(agent, api)
        if proposed is not None:
            return proposed
        refused: list[Params] = []
        try:
            for _ in range(MAX_REFUSALS):
                params = self._select(among, api)
                reason = BANNED if self._is_banned(self._key_of(params)) else self._hooks.refusal(params)
                if reason is None:
                    return Proposal(params)
                refused.append(params)
        finally:
            for params in refused:
                self._bandit.cancel(params)
        if reason == BANNED:
            raise UsageError("nothing is left to try: every combo is banned; lift a ban (on the QA page) or widen the search space")
        raise UsageError(f"the policies refused {len(refused)} choices in a row, the last: {reason}; widen the space or the policies")

    def _veto(self, params: Params) -> str | None:
        """Why these params can never be tried now, whatever the policies say, or None."""
        key = self._key_of(params)
        return f"{key} is banned" if self._is_banned(key) else self._unfit(params)

    def _select(self, among: list[Params] | None, api: str) -> Params:
        only = {} if among is None else {"among": among}
        try:
            return dict(self._bandit.select_params(**only, **self._limits(api)))
        except NothingFits:
            raise
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
