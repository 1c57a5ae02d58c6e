"""Prompts from packs: varied, repeatable for a seed, and each past the content policy."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from . import content_policy
from .scenario import Prompt, PromptPack, Scenario, load_pack, shipped_packs, slot_names

#: Prompts refused in a row before the pack itself is to blame.
MAX_REFUSED = 50
#: Latest prompts that are not made again while a scenario has others to offer.
REMEMBERED = 200


class PromptGenerator:
    """Draws prompts. Not for several threads at once.

    Scenarios come by weight, without one following itself; slots are drawn evenly; a recent prompt is not repeated while
    there are others. The same packs and seed give the same prompts in the same order.
    """

    def __init__(self, pack: str | Path | PromptPack | Sequence[str | Path] = "all", rng_seed: int | None = None):
        """``pack``: a shipped pack's name, ``"all"`` of them, a JSON file, or several of these.

        Raises :class:`eva_env_base.UsageError` for a pack that is missing or malformed.
        """
        if isinstance(pack, PromptPack):
            self.packs: tuple[PromptPack, ...] = (pack,)
        elif pack == "all":
            self.packs = tuple(load_pack(name) for name in shipped_packs())
        elif isinstance(pack, (str, Path)):
            self.packs = (load_pack(pack),)
        else:
            self.packs = tuple(load_pack(item) for item in pack)
        self.scenarios: tuple[Scenario, ...] = tuple(scenario for one in self.packs for scenario in one.scenarios)
        self._rng = random.Random(rng_seed)
        self._last: Scenario | None = None
        self._recent: dict[str, None] = {}

    def next(self) -> Prompt:
        """The next prompt. Raises :class:`content_policy.ContentRefused` when the packs offer nothing else than refused ones."""
        for _ in range(MAX_REFUSED):
            prompt = self._draw()
            if not content_policy.refused(prompt.text):
                return prompt
        raise content_policy.ContentRefused(f"{MAX_REFUSED} prompts in a row were refused by the content policy; mend the prompt pack")

    def _draw(self) -> Prompt:
        choices = [scenario for scenario in self.scenarios if scenario is not self._last] or list(self.scenarios)
        scenario = self._rng.choices(choices, [one.weight for one in choices])[0]
        self._last = scenario
        prompt = self._fill(scenario)
        for _ in range(20):
            if prompt.text not in self._recent or scenario.combinations == 1:
                break
            prompt = self._fill(scenario)
        self._recent.pop(prompt.text, None)
        self._recent[prompt.text] = None
        if len(self._recent) > REMEMBERED:
            del self._recent[next(iter(self._recent))]
        return prompt

    def _fill(self, scenario: Scenario) -> Prompt:
        return scenario.fill({name: self._rng.choice(scenario.slots[name]) for name in slot_names(scenario.template)})
