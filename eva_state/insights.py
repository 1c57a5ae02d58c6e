"""What all clips together say: progress, effects of settings, which metric agrees with the person, consistency, cost.

:class:`Insights` answers at once with what it worked out last and works in a thread of its own when the state has changed.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from eva_state.clip_rows import day_of, number_or_none
from eva_state.facts import FIELDS, Fact, FactTable
from eva_state.statistics_of import Correlation, shrunken_means, spearman

if TYPE_CHECKING:
    from eva_state.store import StateStore

log = logging.getLogger(__name__)

AGAIN_SECONDS = 2.0  # at most so often worked out anew
REST = 10.0  # and so many times what it took: no more than a tenth of a processor, however many clips there are
POINTS = 500  # of a line of progress
LINES = 300  # of the parallel coordinates
DOTS = 250  # of a metric against the ratings
RATED_READ = 5000  # the newest ratings that correlations look at
ACTIONS_READ = 20_000  # the newest actions searched for repeated ratings
VALUES = 14  # of a setting, the most frequent
RATED_ENOUGH = 8  # ratings from which effects on the rating are worth showing
TRUST_FROM = 12  # ratings from which a metric may be called trustworthy
REPEAT_SECONDS = 600.0  # a second mark of a clip counts as a repeat, not as a correction, after so long
IDLE_SECONDS = 90.0  # a longer gap between two ratings was a break
BREATH = 2000  # clips between two pauses


class Insights:
    """Thread-safe. ``clock`` gives monotonic seconds."""

    def __init__(self, store: StateStore, facts: FactTable, *, clock: Callable[[], float] = time.monotonic):
        self._store, self._facts, self._clock = store, facts, clock
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._answer: dict[str, Any] | None = None
        self._again_at = -math.inf
        self._failed: str | None = None

    def current(self, wait: float = 0.2) -> tuple[dict[str, Any] | None, bool]:
        """``(the last answer or None, whether a newer one is being worked out)``; waits at most ``wait`` seconds for that.

        Raises RuntimeError where working it out failed; the log has the reason.
        """
        with self._lock:
            version = self._store.version
            fresh = self._answer is not None and self._answer["version"] == version
            running = self._thread is not None and self._thread.is_alive()
            if not fresh and not running and self._clock() >= self._again_at:
                self._done.clear()
                self._failed = None
                self._thread = threading.Thread(target=self._work, name="eva-insights", daemon=True)
                self._thread.start()
                running = True
        if running and not fresh:
            self._done.wait(wait)
        with self._lock:
            if self._failed is not None:
                raise RuntimeError(self._failed)
            stale = self._answer is None or self._answer["version"] != self._store.version
            return self._answer, stale

    def _work(self) -> None:
        answer, failed, began = None, None, self._clock()
        try:
            version = self._store.version
            answer = {"version": version, **work_out(self._store, self._facts)}
        except Exception as error:  # the thread's last resort: whoever asks is told, the log has the rest
            log.exception("working out the insights failed")
            failed = f"the insights could not be worked out: {type(error).__name__}: {error}"
        with self._lock:
            if answer is not None:
                self._answer = answer
            self._failed = failed
            now = self._clock()
            self._again_at = now + max(AGAIN_SECONDS, REST * (now - began))
        self._done.set()


def work_out(store: StateStore, table: FactTable) -> dict[str, Any]:
    """Everything the page shows. Scores in [0,1], ratings 1..10, minutes of GPU."""
    began = time.perf_counter()
    facts = table.facts()
    rated = [fact for fact in facts if fact.rating is not None]
    rated.sort(key=lambda fact: fact.rated_at or 0.0)
    outcomes = {"score": _effects(facts, lambda fact: fact.score)}
    if len(rated) >= RATED_ENOUGH:
        outcomes["rating"] = _effects(rated, lambda fact: fact.rating)
    newest = rated[-RATED_READ:]
    return {
        "clips": len(facts),
        "rated": len(rated),
        "progress": _progress(facts),
        "effects": outcomes,
        "parallel": _parallel(facts),
        **_metrics(newest, table),
        "consistency": consistency(store.actions(limit=ACTIONS_READ)),
        "cost": _cost(facts, rated, store),
        "seconds": round(time.perf_counter() - began, 3),
    }


def _breathe(facts: Iterable[Fact]) -> Iterable[Fact]:
    for number, fact in enumerate(facts):
        if number % BREATH == 0:
            time.sleep(0.0005)
        yield fact


def _r(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)


def _progress(facts: list[Fact]) -> dict[str, list[Any]]:
    """One row a clip, thinned out to ``POINTS`` evenly and every improvement: pulls, minutes, score, best so far, rating, best."""
    step = max(1, math.ceil(len(facts) / POINTS))
    keep = {"pull": [], "minutes": [], "score": [], "best": [], "rating": [], "best_rating": [], "name": []}  # type: dict[str, list[Any]]
    minutes = 0.0
    best: float | None = None
    best_rating: float | None = None
    for number, fact in enumerate(_breathe(facts), start=1):
        minutes += fact.cost or 0.0
        better = False
        if fact.score is not None and (best is None or fact.score > best):
            best, better = fact.score, True
        if fact.rating is not None and (best_rating is None or fact.rating > best_rating):
            best_rating, better = fact.rating, True
        if better or number % step == 0 or number == len(facts):
            row = (number, _r(minutes, 2), _r(fact.score), _r(best), fact.rating, best_rating, fact.name)
            for column, value in zip(keep.values(), row):
                column.append(value)
    return keep


def _effects(facts: list[Fact], value_of: Callable[[Fact], float | None]) -> dict[str, Any]:
    """Shrunken means by value of each setting, and by sampler and scheduler together."""
    fields: dict[str, dict[Any, list[float]]] = {field: {} for field in FIELDS}
    pairs: dict[Any, list[float]] = {}
    total, count = 0.0, 0
    for fact in _breathe(facts):
        value = value_of(fact)
        if value is None:
            continue
        total, count = total + value, count + 1
        for field, setting in zip(FIELDS, fact.settings):
            if setting is not None:
                _add(fields[field], setting, value)
        for field, setting in fact.own:
            _add(fields.setdefault(field, {}), setting, value)
        if fact.settings[0] is not None and fact.settings[1] is not None:
            _add(pairs, fact.settings[:2], value)
    effects: dict[str, Any] = {}
    for field, sums in fields.items():
        kept = sorted(sums, key=lambda setting: -sums[setting][0])[:VALUES]
        means = shrunken_means(sums)
        numeric = all(isinstance(setting, (int, float)) for setting in kept)
        kept = sorted(kept) if numeric else sorted(kept, key=lambda setting, means=means: -means[setting].mean)  # type: ignore[misc]
        effects[field] = [{"value": setting, **{name: _r(number) for name, number in means[setting]._asdict().items()}} for setting in kept]
    by_pair = shrunken_means(pairs)
    cells = [{"sampler": key[0], "scheduler": key[1], "n": mean.n, "mean": _r(mean.mean)} for key, mean in by_pair.items()]  # type: ignore[index]
    return {"mean": _r(total / count) if count else None, "n": count, "fields": effects, "pairs": cells}


def _add(sums: dict[Any, list[float]], key: Any, value: float) -> None:
    held = sums.setdefault(key, [0, 0.0, 0.0])
    held[0] += 1
    held[1] += value
    held[2] += value * value


def _parallel(facts: list[Fact]) -> list[list[Any]]:
    """Of the best clips and an even sample of the others: settings by FIELDS, then score, rating, name, dimensions of the user's own."""
    usable = [fact for fact in facts if fact.score is not None or fact.rating is not None]
    worth = lambda fact: fact.rating / 10 if fact.rating is not None else fact.score or 0.0  # noqa: E731
    chosen = sorted(usable, key=worth, reverse=True)[: LINES // 3]
    rest = usable[:: max(1, math.ceil(len(usable) / (LINES - LINES // 3)))]
    rows = {fact.name: fact for fact in [*rest, *chosen]}
    return [[*fact.settings, _r(fact.score), fact.rating, fact.name, dict(fact.own)] for fact in rows.values()]


def _metrics(rated: list[Fact], table: FactTable) -> dict[str, Any]:
    """Each metric's rank correlation with the rating, best first, and which one to trust."""
    names = ["score", *sorted(name for name in table.metric_names if name != "overall")]  # overall is the score
    columns: list[tuple[str, list[Fact], list[float]]] = []
    for name in names:
        pairs = [(fact, fact.score if name == "score" else table.metric(fact, name)) for fact in rated]
        known = [(fact, value) for fact, value in pairs if value is not None]
        if known:
            columns.append((name, [fact for fact, _ in known], [value for _, value in known]))
    out, found = [], []
    for name, facts, values in columns:
        time.sleep(0)
        ratings = [fact.rating or 0.0 for fact in facts]
        result = spearman(values, ratings)
        strict = spearman(values, ratings, len(columns))
        step = max(1, math.ceil(len(facts) / DOTS))
        dots = [[_r(value), fact.rating, fact.name] for fact, value in list(zip(facts, values))[::step]]
        numbers = {key: _r(value) for key, value in result._asdict().items()} if result else {"rho": None, "n": len(facts)}
        out.append({"name": name, **numbers, "points": dots})
        if strict is not None:
            found.append((name, strict))
    out.sort(key=lambda item: -(item["rho"] if isinstance(item["rho"], float) else -2.0))
    return {"metrics": out, "trust": verdict(found, len(rated))}


def verdict(found: list[tuple[str, Correlation]], rated: int) -> dict[str, Any]:
    """Which metric to trust: ``kind`` few (too few ratings), none (no metric shows agreement), weak or trust.

    A metric counts when its interval, widened for looking at all metrics at once, lies above zero; weak below a correlation of 0.4.
    """
    if rated < TRUST_FROM or not found:
        return {"kind": "few", "n": rated, "need": max(0, TRUST_FROM - rated)}
    name, best = max(found, key=lambda item: (item[1].low, item[1].rho))
    told = {"metric": name, **{key: _r(value) for key, value in best._asdict().items()}}
    if best.low <= 0:
        return {"kind": "none", **told}
    against = [other for other, result in found if result.high < 0]
    return {"kind": "trust" if best.rho >= 0.4 else "weak", **told, "against": against}


def consistency(actions: list[dict[str, Any]]) -> dict[str, Any]:
    """How well a person agrees with themselves, from clips rated again. ``actions`` newest first, as the store gives them.

    Hidden repeats are events of their own. A second rating of a clip counts as one where it came at least ``REPEAT_SECONDS`` later;
    sooner, it corrects the first.
    """
    marks: dict[str, list[tuple[float, float]]] = {}
    pairs: list[tuple[float, float]] = []
    for action in reversed(actions):
        rating, kind = action.get("rating"), action.get("type")
        if kind not in ("rating", "repeat") or action.get("undone") or not isinstance(rating, dict):
            continue
        mark, name = number_or_none(rating.get("overall_quality")), action.get("name")
        if mark is None or not isinstance(name, str):
            continue
        if kind == "repeat":  # a hidden repeat, which leaves the clip's rating as it was
            first = number_or_none(action.get("first"))
            if first is not None:
                pairs.append((first, mark))
            continue
        earlier = marks.setdefault(name, [])
        if earlier and action["ts"] - earlier[-1][0] >= REPEAT_SECONDS:
            pairs.append((earlier[-1][1], mark))
            earlier.append((action["ts"], mark))
        elif earlier:
            earlier[-1] = (earlier[-1][0], mark)
        else:
            earlier.append((action["ts"], mark))
    if not pairs:
        return {"n": 0, "pairs": []}
    apart = [abs(first - second) for first, second in pairs]
    agreement = spearman([first for first, _ in pairs], [second for _, second in pairs])
    return {
        "n": len(pairs),
        "same": _r(sum(gap == 0 for gap in apart) / len(pairs)),
        "within_one": _r(sum(gap <= 1 for gap in apart) / len(pairs)),
        "mean_gap": _r(sum(apart) / len(pairs)),
        "sd": _r(math.sqrt(sum(gap * gap for gap in apart) / (2 * len(pairs)))),  # of one mark: Dahlberg (1940)
        "rho": _r(agreement.rho) if agreement else None,
        "pairs": [list(pair) for pair in pairs[-500:]],
    }


def _cost(facts: list[Fact], rated: list[Fact], store: StateStore) -> dict[str, Any]:
    """GPU minutes so far: of clips and of failures, by day and by setting; and a person's minutes, breaks left out."""
    known = [fact for fact in facts if fact.cost is not None]
    failures = store.failures()
    failed = sum(number_or_none(failure.get("cost_minutes")) or 0.0 for failure in failures)
    days: dict[str, list[float]] = {}
    for fact in _breathe(known):
        if fact.made is not None:
            day = days.setdefault(day_of(fact.made), [0.0, 0])
            day[0] += fact.cost or 0.0
            day[1] += 1
    times = [fact.rated_at for fact in rated if fact.rated_at is not None]
    working = sum(gap for gap in (after - before for before, after in zip(times, times[1:])) if gap < IDLE_SECONDS)
    minutes = sum(fact.cost or 0.0 for fact in known)
    good = sum(1 for fact in facts if (fact.rating >= 7 if fact.rating is not None else (fact.score or 0.0) >= 0.7))
    return {
        "gpu_minutes": _r(minutes, 2),
        "failed_minutes": _r(failed, 2),
        "failed": len(failures),
        "clips": len(known),
        "good": good,
        "minutes_per_good": _r((minutes + failed) / good, 2) if good else None,
        "review_minutes": _r(working / 60, 2),
        "days": [[day, _r(spent, 2), int(count)] for day, (spent, count) in sorted(days.items())[-60:]],
    }
