"""Scenarios and prompt packs: templates with slots, read from JSON and checked before the first prompt is made.

A pack is one JSON object::

    {"title": "Nature", "negative": "blurry, watermark",
     "slots": {"light": ["at dawn", "under a grey sky"]},
     "scenarios": [{"id": "river", "template": "a river {bed}, {light}", "slots": {"bed": ["over pebbles"]}, "weight": 2}]}

A scenario's own slots come before the pack's. ``weight`` (default 1) and ``negative`` (added to the pack's) may be left out.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eva_env_base import UsageError

PACK_FOLDER = Path(__file__).with_name("packs")


@dataclass(frozen=True)
class Prompt:
    """What is asked of the video model, and how it came about. ``slots``: the choice made for each slot."""

    text: str
    negative: str
    scenario_id: str
    slots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """A template with slots. ``id`` is unique among the packs in use: ``pack/name``."""

    id: str
    template: str
    slots: Mapping[str, tuple[str, ...]]
    weight: float = 1.0
    negative: str = ""

    @property
    def combinations(self) -> int:
        """How many different prompts it can make."""
        total = 1
        for name in slot_names(self.template):
            total *= len(self.slots[name])
        return total

    def fill(self, choice: Mapping[str, str]) -> Prompt:
        """The prompt for one choice a slot."""
        text = " ".join(self.template.format_map(dict(choice)).split())
        return Prompt(text, self.negative, self.id, dict(choice))


@dataclass(frozen=True)
class PromptPack:
    """A titled list of scenarios."""

    name: str
    title: str
    scenarios: tuple[Scenario, ...]


def slot_names(template: str) -> list[str]:
    """Slots of a template in the order they appear, each once. Raises ``ValueError`` for a malformed template."""
    names: dict[str, None] = {}
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            raise ValueError(f"{{{name}}} is not a slot; write {{name}} with letters, digits and underscores")
        names[name] = None
    return list(names)


def shipped_packs() -> list[str]:
    """Names of the packs that come with EVA."""
    return sorted(path.stem for path in PACK_FOLDER.glob("*.json"))


def load_pack(source: str | Path) -> PromptPack:
    """A shipped pack by name, or any JSON file by path. Raises :class:`UsageError` naming the file, the scenario and the fault."""
    path = Path(source)
    if path.suffix.lower() != ".json" and str(source) in shipped_packs():
        path = PACK_FOLDER / f"{source}.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no prompt pack {str(source)!r}; shipped are {', '.join(shipped_packs())}, or give a JSON file") from None
    except OSError as error:
        raise UsageError(f"prompt pack {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # broken JSON or not UTF-8
        raise UsageError(f"prompt pack {path} is not JSON in UTF-8: {error}") from error
    return pack_from(data, path.stem, str(path))


def pack_from(data: Any, name: str, where: str) -> PromptPack:
    """Checks a pack's JSON value. ``where`` names the source in messages."""

    def fault(what: str) -> UsageError:
        return UsageError(f"prompt pack {where}: {what}")

    if not isinstance(data, dict) or not isinstance(data.get("scenarios"), list) or not data["scenarios"]:
        raise fault('expected an object with a list "scenarios" that is not empty')
    shared = _slots(data.get("slots", {}), "the pack", fault)
    negative = _text(data.get("negative", ""), "negative", "the pack", fault)
    scenarios: list[Scenario] = []
    for index, item in enumerate(data["scenarios"]):
        label = f"scenario {index + 1}"
        if not isinstance(item, dict):
            raise fault(f"{label} is not an object")
        own_id = _text(item.get("id", ""), "id", label, fault)
        if not own_id:
            raise fault(f"{label} has no id")
        label = f"scenario {own_id!r}"
        if any(other.id == f"{name}/{own_id}" for other in scenarios):
            raise fault(f"{label} stands twice")
        template = _text(item.get("template", ""), "template", label, fault).strip()
        if not template:
            raise fault(f"{label} has no template")
        slots = {**shared, **_slots(item.get("slots", {}), label, fault)}
        try:
            missing = [slot for slot in slot_names(template) if slot not in slots]
        except ValueError as error:
            raise fault(f"{label}: {error}") from error
        if missing:
            raise fault(f"{label} uses slots that nothing fills: {', '.join(missing)}")
        weight = item.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
            raise fault(f"{label}: weight must be a positive number, not {weight!r}")
        own_negative = _text(item.get("negative", ""), "negative", label, fault)
        used = {slot: slots[slot] for slot in slot_names(template)}
        joined = ", ".join(part for part in (negative, own_negative) if part)
        scenarios.append(Scenario(f"{name}/{own_id}", template, used, float(weight), joined))
    return PromptPack(name, _text(data.get("title", name), "title", "the pack", fault), tuple(scenarios))


def _text(value: Any, field_name: str, label: str, fault: Any) -> str:
    if not isinstance(value, str):
        raise fault(f"{label}: {field_name} must be text, not {type(value).__name__}")
    return value


def _slots(value: Any, label: str, fault: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise fault(f"{label}: slots must be an object of lists")
    for name, choices in value.items():
        if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) and choice.strip() for choice in choices):
            raise fault(f"{label}: slot {name!r} must be a list of texts that is not empty")
    return {name: tuple(choices) for name, choices in value.items()}
