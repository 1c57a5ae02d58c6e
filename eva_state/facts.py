"""What charts and metric filters need of every clip, in a compact table that follows the store.

Reading 100,000 entries takes seconds, so nothing is read before somebody asks, whoever asks first does it in a thread of its
own, and afterwards only what changed is read again.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from eva_state import documents
from eva_state.clip_rows import facets_of, number_or_none
from eva_state.keys import extra_value
from eva_state.registers import entry_in

if TYPE_CHECKING:
    from eva_state.model import Model
    from eva_state.store import Change, StateStore

BREATH = 400  # clips read between two pauses, so that requests are answered meanwhile
PAUSE_SECONDS = 0.0005
FIELDS = ("sampler", "scheduler", "fps", "cfg", "steps", "size")


class Fact(NamedTuple):
    """One clip. ``score`` and metrics are in [0,1], ``rating`` in 1..10; what is not known is None (NaN among the metrics)."""

    name: str
    made: float | None  # unix seconds
    score: float | None
    rating: float | None
    rated_at: float | None  # unix seconds
    cost: float | None  # GPU minutes
    settings: tuple[Any, ...]  # by FIELDS; size as "WIDTHxHEIGHT"
    metrics: array[float]  # by FactTable.metric_names
    own: tuple[tuple[str, Any], ...] = ()  # dimensions of the user's own, by name


class FactTable:
    """Thread-safe. ``pause`` is called between stretches of a long read."""

    def __init__(self, store: StateStore, *, pause: Callable[[], None] = lambda: time.sleep(PAUSE_SECONDS)):
        self._store = store
        self._pause = pause
        self._lock = threading.Lock()
        self._facts: dict[str, Fact] = {}
        self._settings: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # one tuple for all clips of a combo
        self._loaded = False
        self._pending: deque[Change] = deque()
        self._unsubscribe: Callable[[], None] | None = None
        self.metric_names: list[str] = []  # only ever grows

    def close(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()

    @property
    def loaded(self) -> bool:
        return self._loaded

    def facts(self) -> list[Fact]:
        """Every clip with an entry or a rating, in the order they became known. The first call reads them all."""
        with self._lock:
            if self._unsubscribe is None:
                self._unsubscribe = self._store.subscribe(self._pending.append)
            changed: set[str] = set()
            while self._pending:
                change = self._pending.popleft()
                if change.kind in ("reload", "import"):
                    self._loaded = False
                elif change.name:
                    changed.add(change.name)
            if not self._loaded:
                self._facts = {fact.name: fact for fact in self._read_all()}
                self._loaded = True
            else:
                for name in changed:
                    self._read(name)
            return list(self._facts.values())

    def _read_all(self) -> Iterator[Fact]:
        model: Model = self._store._model
        with self._store._lock:
            found = [(clip.name, clip.entry, clip.rating) for clip in model.clips.values()]
        for number, (name, entry, rating) in enumerate(found):
            if number % BREATH == 0:
                self._pause()
            if entry is not None or rating is not None:
                yield self._fact(name, entry, rating)

    def _read(self, name: str) -> None:
        with self._store._lock:
            clip = self._store._model.clips.get(name)
            entry, rating = (None, None) if clip is None else (clip.entry, clip.rating)
        if entry is None and rating is None:
            self._facts.pop(name, None)
        else:
            self._facts[name] = self._fact(name, entry, rating)

    def _fact(self, name: str, entry_record: Any, rating_record: Any) -> Fact:
        data = {} if entry_record is None else entry_record.data
        entry: Mapping[str, Any] = (entry_in(data) or {}) if data else {}
        item = {} if rating_record is None else documents.rating_item(rating_record)
        rating = item.get("rating")
        mark = number_or_none(rating.get("overall_quality")) if isinstance(rating, Mapping) else None
        known = dict(facets_of(entry.get("params")))
        size = known.get("size")
        settings = (*(known.get(field) for field in FIELDS[:-1]), None if size is None else f"{size[0]}x{size[1]}")
        return Fact(
            name,
            number_or_none(entry.get("timestamp")),
            number_or_none(entry.get("score")),
            mark,
            number_or_none(item.get("timestamp")),
            number_or_none(data.get("cost_minutes")),
            self._shared(settings),
            self._metrics_of(entry.get("metrics")),
            self._shared(tuple(sorted((kind[1:], extra_value(value)) for kind, value in known.items() if kind.startswith("=")))),
        )

    def _shared(self, found: tuple[Any, ...]) -> tuple[Any, ...]:
        return self._settings.setdefault(found, found)

    def _metrics_of(self, metrics: Any) -> array[float]:
        if not isinstance(metrics, Mapping):
            return array("f")
        values = array("f", [math.nan]) * len(self.metric_names)
        for name, value in metrics.items():
            number = number_or_none(value)
            if number is None or not isinstance(name, str):
                continue
            if name not in self.metric_names:
                self.metric_names.append(name)
                values.append(math.nan)
            values[self.metric_names.index(name)] = number
        return values

    def metric(self, fact: Fact, name: str) -> float | None:
        """The clip's value of a metric, or None."""
        try:
            place = self.metric_names.index(name)
        except ValueError:
            return None
        value = fact.metrics[place] if place < len(fact.metrics) else math.nan
        return None if math.isnan(value) else value

    def names_where(self, metric: str, low: float | None, high: float | None) -> frozenset[str]:
        """The clips whose value of ``metric`` lies in [low, high]; the tolerance is what single precision loses."""
        found = []
        for fact in self.facts():
            value = self.metric(fact, metric)
            if value is not None and (low is None or value >= low - 1e-6) and (high is None or value <= high + 1e-6):
                found.append(fact.name)
        return frozenset(found)
