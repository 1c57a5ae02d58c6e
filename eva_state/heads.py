"""The parts of journal lines that the replica needs, read without building the rest.

At start every line of every journal is read. Building all of it as Python objects takes four times as long as reading
only these fields, so lines are decoded into the structures below (by msgspec, which skips what they do not name). A
line that does not fit them exactly is decoded in the general way instead: nothing depends on this module but time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Generic, Literal, TypeVar, Union

import msgspec
from msgspec import UNSET

Writers = Literal["server", "agent", "tool"]  # one string object each, not one a record


class Params(msgspec.Struct, gc=False):
    """Of an entry's params: what makes the combo key."""

    sampler: Any = None
    scheduler: Any = None
    fps: Any = None
    cfg_scale: Any = UNSET
    cfg: Any = None
    steps: Any = None
    width: Any = None
    height: Any = None
    extra: Any = None

    @property
    def values(self) -> tuple[Any, ...]:
        cfg = self.cfg if self.cfg_scale is UNSET else self.cfg_scale
        return self.sampler, self.scheduler, self.fps, cfg, self.steps, self.width, self.height


NULL = msgspec.Raw(b"null")


class Entry(msgspec.Struct, gc=False):
    video: str
    timestamp: Any = None
    score: Any = None
    prompt: Any = None
    params: msgspec.Raw = NULL  # as text: most clips share theirs with others (see ByParams)


class Mark(msgspec.Struct, gc=False):
    overall_quality: Any = None
    is_reference: Any = None
    banned: Any = None
    defects: Any = None
    tags: Any = None


class GeneratedData(msgspec.Struct, gc=False):
    entry: Entry
    prompt_id: str | None = None
    reward: Any = None
    cost_minutes: Any = None


class RatingData(msgspec.Struct, gc=False):
    name: str
    rating: Mark | None
    timestamp: Any = UNSET


class Data(msgspec.Struct, gc=False):
    """Any object, nothing of it read."""


class Head(msgspec.Struct, gc=False, tag_field="type"):
    """A line's fields but its checksum and, in general, its data."""

    seq: int
    id: str
    lc: int
    ts: float
    w: Writers
    kind: ClassVar[str]


class Generated(Head, gc=False, tag="generated"):
    data: GeneratedData
    kind = "generated"


class Rating(Head, gc=False, tag="rating"):
    data: RatingData
    kind = "rating"


class Submitted(Head, gc=False, tag="submitted"):
    data: Data
    kind = "submitted"


# The others are rare: their data are read in the general way.
_RARE = ("ban", "unban", "compare", "undo", "failed", "space", "import", "request", "answer", "repeat", "lost")
_OTHERS = [
    msgspec.defstruct(kind.capitalize(), [("data", Data)], bases=(Head,), namespace={"kind": kind}, tag=kind, gc=False) for kind in _RARE
]


_PARAMS = msgspec.json.Decoder(Params).decode
_TEXTS_KEPT = 20_000  # a search space has fewer distinct params; where each clip has its own, keeping them would not help
T = TypeVar("T")


def params_in(raw: msgspec.Raw) -> Params:
    """Raises ``msgspec.DecodeError`` for what are no params."""
    return _PARAMS(bytes(raw))


class ByParams(Generic[T]):
    """``of(params)``, remembered by the params' text, for a fraction of the time of parsing them."""

    def __init__(self, of: Callable[[Params], T], nothing: T):
        self._of = of
        self._nothing = nothing  # for what are no params
        self._known: dict[bytes, T] = {}

    def __call__(self, raw: msgspec.Raw) -> T:
        text = bytes(raw)
        try:
            return self._known[text]
        except KeyError:
            pass
        try:
            found = self._of(_PARAMS(text))
        except msgspec.DecodeError:
            found = self._nothing
        if len(self._known) < _TEXTS_KEPT:
            self._known[text] = found
        return found


_DECODE: Callable[[bytes], list[Head]] = msgspec.json.Decoder(list[Union[(Generated, Rating, Submitted, *_OTHERS)]]).decode  # type: ignore[valid-type]


def read_heads(lines: list[bytes]) -> list[Head] | None:
    """The heads of lines whose checksums are right; None when one of them is of another form."""
    try:
        heads = _DECODE(b"[%s]" % b",".join(lines))
    except (msgspec.DecodeError, RecursionError):
        return None
    return heads if len(heads) == len(lines) else None  # a line that held more than one value
