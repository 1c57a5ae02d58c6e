"""Dimensions of the user's own: workflow inputs that the bandit may choose beside the six axes.

In a search-space file::

    "extra": {
        "shift":         {"input": "ModelSamplingSD3.shift", "values": [5, 8]},
        "lora_strength": {"input": "LoraLoaderModelOnly.strength_model", "values": [0.6, 0.8, 1.0]},
        "seed_policy":   {"input": "seed", "values": ["fixed", "random"], "seed": 42}
    }

and on the command line ``--dimension shift=ModelSamplingSD3.shift:5,8``. ``input`` names a node, by id, title or class, and
one of its inputs; every node that fits is set. Numbers are ordered levels, anything else are names. The input ``seed`` stands for
the policy of noise seeds: ``random`` is a new one each try, ``fixed`` always ``seed`` (1 without it).

``own`` is the value the workflow itself has. It is found when a server answers, and is what clips made before the dimension
was named, or after it was taken out again, count as.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eva_state.keys import Value, extra_name, extra_text, extra_value

MAX_DIMENSIONS = 4  # the model's cost grows with the product of all levels, and its pairs with the square of the axes
SEED_INPUT, FIXED, RANDOM = "seed", "fixed", "random"
DEFAULT_SEED = 1


def canonical(value: Any, name: str) -> Value:
    """A value in the form it has when it is read from a key. Raises ValueError for one that cannot stand in a key."""
    try:
        return extra_value(extra_text(value, name))
    except ValueError as error:
        raise ValueError(f"search space: {error}") from None


@dataclass(frozen=True)
class Dimension:
    """One input to choose. Raises ValueError naming the dimension and what is wrong."""

    name: str
    input: str
    values: tuple[Value, ...]
    own: Value | None = None
    seed: int = DEFAULT_SEED

    def __post_init__(self) -> None:
        try:
            extra_name(self.name)
        except ValueError as error:
            raise ValueError(f"search space: extra: {error}") from None
        if not isinstance(self.input, str) or not (self.is_seed or all(self.input.strip().rpartition(".")[::2])):
            raise ValueError(f"search space: extra {self.name}: input {self.input!r} is not NODE.INPUT, like ModelSamplingSD3.shift")
        if isinstance(self.values, (str, bytes, Mapping)) or not isinstance(self.values, Iterable):
            raise ValueError(f"search space: extra {self.name}: values must be a list, not {self.values!r}")
        values = tuple(dict.fromkeys(canonical(value, self.name) for value in self.values))
        if not values:
            raise ValueError(f"search space: extra {self.name}: values is an empty list; give it at least one")
        if self.is_seed and not set(values) <= {FIXED, RANDOM}:
            raise ValueError(f"search space: extra {self.name}: a policy of seeds is {FIXED} or {RANDOM}, not {list(values)}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**53:
            raise ValueError(f"search space: extra {self.name}: seed {self.seed!r} is not a whole number of at least 0")
        object.__setattr__(self, "values", values)
        own = RANDOM if self.is_seed else self.own  # without the dimension every try has a seed of its own
        object.__setattr__(self, "own", None if own is None else canonical(own, self.name))

    @property
    def is_seed(self) -> bool:
        return self.input == SEED_INPUT

    @property
    def nominal(self) -> bool:
        """True for names; False for numbers, whose order means something."""
        return any(isinstance(value, (str, bool)) for value in self.values)

    @property
    def default(self) -> Value:
        """The level of clips that say nothing of this dimension: the workflow's own value, the first level while that is unknown."""
        return self.values[0] if self.own is None else self.own

    def level_of(self, extra: Mapping[str, Any]) -> Value:
        """The level in params' ``extra``. Raises ValueError for one that cannot stand in a key."""
        return self.default if extra.get(self.name) is None else canonical(extra[self.name], self.name)

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"input": self.input, "values": list(self.values)}
        if self.own is not None and not self.is_seed:
            out["own"] = self.own
        if self.is_seed and self.seed != DEFAULT_SEED:
            out["seed"] = self.seed
        return out


def read_dimensions(data: Any, where: str = "extra") -> tuple[Dimension, ...]:
    """Dimensions from the file's form, or as they are. Raises ValueError naming what is wrong."""
    if data is None:
        return ()
    if isinstance(data, Mapping):
        found = tuple(_read(name, item, where) for name, item in data.items())
    elif isinstance(data, Sequence) and all(isinstance(item, Dimension) for item in data):
        found = tuple(data)
    else:
        raise ValueError(f"search space: {where} must be an object like {{'shift': {{'input': ..., 'values': [...]}}}}, not {data!r}")
    if len({item.name for item in found}) < len(found):
        raise ValueError(f"search space: {where} names a dimension twice")
    return found


def _read(name: str, item: Any, where: str) -> Dimension:
    if not isinstance(item, Mapping):
        raise ValueError(f"search space: {where} {name} must be an object with input and values, not {item!r}")
    unknown = sorted(set(map(str, item)) - {"input", "values", "own", "seed"})
    if unknown:
        raise ValueError(f"search space: {where} {name}: unknown name {', '.join(unknown)}; known are input, values, own and seed")
    if "values" not in item:
        raise ValueError(f"search space: {where} {name} lacks values")
    node = item.get("input", SEED_INPUT if name == "seed_policy" else None)
    return Dimension(name, node, item["values"], item.get("own"), item.get("seed", DEFAULT_SEED))  # type: ignore[arg-type]


def dimension_of_text(text: str) -> Dimension:
    """``shift=ModelSamplingSD3.shift:5,8`` as a dimension. Raises ValueError naming what is wrong."""
    name, sign, rest = text.partition("=")
    node, colon, values = rest.rpartition(":")
    if not (sign and colon and node.strip() and values.strip()):
        raise ValueError(f"{text!r} is not NAME=NODE.INPUT:VALUE,VALUE, like shift=ModelSamplingSD3.shift:5,8")
    return Dimension(name.strip(), node.strip(), tuple(value.strip() for value in values.split(",")))


def merged(first: Iterable[Dimension], later: Iterable[Dimension]) -> tuple[Dimension, ...]:
    """Both, a later one in place of an earlier one of its name."""
    return tuple({item.name: item for item in (*first, *later)}.values())


def taken_out(now: Sequence[Dimension], before: Iterable[Dimension]) -> tuple[Dimension, ...]:
    """The dimensions of ``before`` that ``now`` no longer has: clips made with them go on counting as what they are."""
    return tuple(item for item in before if item.name not in {other.name for other in now} and item.own is not None)


def with_own(dimensions: Iterable[Dimension], own: Mapping[str, Value]) -> tuple[Dimension, ...]:
    """The dimensions with the values the workflow itself has."""
    return tuple(replace(item, own=own.get(item.name, item.own)) for item in dimensions)
