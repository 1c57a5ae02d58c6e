"""The only door to the shared state; see ``docs/state.md``."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eva_env_base import StateError
from eva_state import documents, keys
from eva_state.files import Files
from eva_state.guard import Guard
from eva_state.journal import SEGMENT_BYTES, Draft, Follower, Problem, Rewound, Writer
from eva_state.model import UNDOABLE, Event, Model, Observation, entry_data, quality_of
from eva_state.records import Record, plain
from eva_state.views import Publisher

log = logging.getLogger(__name__)
ROLES = ("server", "agent", "tool")  # each has its own journal and may run once at a time
READER = "reader"  # reads, never writes; any number at a time
POLL_SECONDS = 0.2
MAX_CHANGES = 10_000  # kept for changes_since: hours of a person's work, about 2 MB
WINNERS = ("left", "right", "tie", "both_bad")
# How long a mutator waits for its own callback when another thread is delivering: long enough for a healthy
# callback, short enough that one blocked on a lock of the caller's cannot hold it up noticeably.
DELIVERY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Done:
    """An acknowledged action. ``duplicate``: its ``id`` had been recorded before, nothing changed."""

    event_id: str
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One applied event. ``kind`` is the record type, or ``reload`` when everything was read anew."""

    kind: str
    name: str | None
    key: str | None
    event_id: str
    writer: str
    version: int


class StateStore:
    """Opened with ``with`` (or :meth:`start` / :meth:`close`). Safe to use from many threads."""

    def __init__(
        self,
        state_dir: Path | str,
        role: str,
        *,
        video_dir: Path | str | None = None,
        clock: Callable[[], float] = time.time,
        publish_interval: float = 1.0,
        poll_interval: float = POLL_SECONDS,
        segment_bytes: int = SEGMENT_BYTES,
        files: Files | None = None,
    ):
        if role not in (*ROLES, READER):
            raise ValueError(f"role {role!r} is none of {', '.join((*ROLES, READER))}")
        self.state_dir = Path(state_dir)
        self.role = role
        self.video_dir = None if video_dir is None else Path(video_dir)
        self.problems: list[Problem] = []
        self._clock = clock
        self._publish_interval = publish_interval
        self._poll_interval = poll_interval
        self._segment_bytes = segment_bytes
        self._files = files or Files()
        self._journal_dir = self.state_dir / "journal"
        self._lock = threading.RLock()
        self._settled = threading.Condition(self._lock)
        self._in_progress: set[str] = set()
        self._model = Model()
        self._followers: dict[str, Follower] = {}
        self._writer: Writer | None = None
        self._guard: Guard | None = None
        self._publisher: Publisher | None = None
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._version = 0
        self._changes: deque[Change] = deque(maxlen=MAX_CHANGES)
        self._callbacks: list[Callable[[Change], None]] = []
        self._undelivered: deque[Change] = deque()
        self._delivered = threading.Condition()
        self._delivering: int | None = None  # ident of the thread that calls the callbacks now
        self._delivered_version = 0

    # ------------------------------------------------------------ life
    def __enter__(self) -> StateStore:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> StateStore:
        """Takes the role, replays the journals, takes in legacy files and hand edits, starts the follower.

        Raises StateLocked when the role is taken, StateError when the folder cannot be used.
        """
        if self.role != READER:
            try:
                self.state_dir.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StateError(f"{self.state_dir}: cannot be made ({error.strerror}); name another with --state-dir") from error
            self._guard = Guard(self._journal_dir / "locks", self.role, clock=self._clock)
            self._guard.acquire()
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def _open(self) -> None:
        self._stop.clear()
        self._replay()
        if self.role != READER:
            self._writer = Writer(
                self._journal_dir / self.role,
                self.role,
                self._followers[self.role],
                files=self._files,
                clock=self._clock,
                lamport=lambda: self._model.lc,
                on_commit=self._committed,
                segment_bytes=self._segment_bytes,
            )
            self.problems += self._writer.problems
            self._publisher = Publisher(self, self._files, self._publish_interval)
            self._publisher.start()
        thread = threading.Thread(target=self._follow, name=f"eva-state-follow-{self.role}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Stops the threads, brings the views up to date, releases the role. May be called twice."""
        self._stop.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._threads.clear()
        publisher, self._publisher = self._publisher, None
        writer, self._writer = self._writer, None
        guard, self._guard = self._guard, None
        try:
            if writer is not None:
                writer.close()
            if publisher is not None:
                publisher.close()
        finally:
            if guard is not None:
                guard.release()

    # ------------------------------------------------------------ reading journals
    def _replay(self) -> None:
        """Reads every journal into a new model. Called with the lock held, or before threads run."""
        model = Model()
        self._followers = {}
        for follower in self._all_followers():
            for batch in follower.poll():
                model.apply_all(batch)
            self._collect(follower)
        self._model = model
        self._version = max(self._version + 1, len(model.events)) if self._version else len(model.events)

    def _all_followers(self) -> Iterable[Follower]:
        names = set() if self.role == READER else {self.role}
        if self._journal_dir.is_dir():
            names |= {path.name for path in self._journal_dir.iterdir() if path.name in ROLES}
        for name in sorted(names):
            if name not in self._followers:
                self._followers[name] = Follower(self._journal_dir / name)
        return list(self._followers.values())

    def _collect(self, follower: Follower) -> None:
        self.problems += follower.problems
        follower.problems.clear()

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_interval):
            try:
                self.poll()
            except OSError as error:
                log.error("%s: the other journals cannot be read now: %s", self._journal_dir, error)

    def poll(self) -> None:
        """Takes in what other processes have appended since the last poll (the follower thread calls this)."""
        try:
            for follower in self._all_followers():
                if follower.folder.name == self.role:
                    continue
                for batch in follower.poll():
                    with self._lock:
                        self._apply(batch)
                    self._deliver()
                self._collect(follower)
        except Rewound as error:
            log.warning("%s; reading every journal anew", error)
            if self._writer is not None:
                with self._writer.paused():
                    self._reload()
            else:
                self._reload()
            self._deliver()

    def _reload(self) -> None:
        with self._lock:
            self._replay()
            self._changes.clear()
            self._undelivered.append(Change("reload", None, None, "", self.role, self._version))
            if self._publisher is not None:
                self._publisher.model_replaced()

    def _committed(self, batch: list[Record]) -> None:
        with self._lock:
            self._apply(batch)

    def _apply(self, batch: list[Record]) -> None:
        for record in batch:
            effect = self._model.apply(record)
            if effect is not None:
                self._version += 1
                change = Change(effect.kind, effect.name, effect.key, record.id, record.w, self._version)
                self._changes.append(change)
                self._undelivered.append(change)

    # ------------------------------------------------------------ callbacks
    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Calls ``callback(change)`` after each applied event, in order, outside every lock of the store.

        Returns a function that ends it. An error in a callback is logged. A callback may use the store.
        """
        self._callbacks.append(callback)

        def end() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return end

    def _deliver(self, upto: int | None = None) -> None:
        """Delivers what is due. One thread at a time does, the others leave theirs to it and wait a moment."""
        me = threading.get_ident()
        with self._delivered:
            if self._delivering == me:
                return  # a callback changed the state: the loop below it goes on with that
            if self._delivering is not None:
                if upto is not None:
                    self._delivered.wait_for(lambda: self._delivered_version >= upto, DELIVERY_SECONDS)
                return
            self._delivering = me
        while True:
            with self._delivered:
                if not self._undelivered:
                    self._delivering = None
                    self._delivered.notify_all()
                    return
                change = self._undelivered.popleft()
            for callback in list(self._callbacks):
                try:
                    callback(change)
                except Exception:
                    log.exception("a subscriber failed on %s", change)
            self._delivered_version = change.version

    @property
    def version(self) -> int:
        """Grows with every event applied in this process."""
        return self._version

    def changes_since(self, version: int) -> list[Change] | None:
        """Changes after ``version``; None when they are no longer kept (read everything anew then)."""
        with self._lock:
            if version > self._version:
                return None
            if version == self._version:
                return []
            missed = self._version - version
            if missed > len(self._changes):
                return None
            found = list(self._changes)[-missed:]
            return found if found[0].version == version + 1 else None

    # ------------------------------------------------------------ writing
    def _record(self, kind: str, data: dict[str, Any], id: str | None) -> Done:
        """Appends one event and waits until it is on disk, unless ``id`` has been recorded already."""
        if id is None:
            id = os.urandom(8).hex()
        elif not isinstance(id, str) or not 1 <= len(id) <= 200:
            raise ValueError(f"id: {id!r} is not a text of 1 to 200 characters")
        else:
            plain(id, "id")
        writer = self._writer
        if writer is None:
            raise StateError(f"the state {self.state_dir} is not open for writing")
        with self._settled:
            while id in self._in_progress:
                self._settled.wait()
            known = self._model.events.get(id)
            if known is not None:
                if known.type != kind:
                    raise ValueError(f"id {id!r} already names a {known.type}; use a new id for a {kind}")
                return Done(id, duplicate=True)
            self._in_progress.add(id)
        try:
            writer.append([Draft(kind, data, id)])
        finally:
            with self._settled:
                self._in_progress.discard(id)
                self._settled.notify_all()
        self._deliver(self._version)
        return Done(id)

    def record_many(self, drafts: list[Draft]) -> int:
        """Appends many events with few fsyncs (imports). Those whose id is known are left out. Returns how many were written."""
        if self._writer is None:
            raise StateError(f"the state {self.state_dir} is not open for writing")
        with self._lock:
            new = [draft for draft in drafts if draft.id not in self._model.events]
        for start in range(0, len(new), 5000):
            self._writer.append(new[start : start + 5000])
        self._deliver(self._version)
        return len(new)

    def rate(self, name: str, rating: dict[str, Any], id: str | None = None) -> Done:
        """Records a person's rating of a clip; it replaces the clip's whole earlier rating.

        ``rating`` must hold ``overall_quality``, a number from 1 to 10. Raises ValueError for a malformed one,
        StateFull when the disk is full (nothing recorded).
        """
        return self._record("rating", {"name": clip_name(name), "rating": checked_rating(rating), "rated_at": self._now()}, id)

    def unrate(self, name: str, id: str | None = None) -> Done:
        """Takes a clip's rating away (an event like any other: undo brings it back)."""
        return self._record("rating", {"name": clip_name(name), "rating": None, "rated_at": self._now()}, id)

    def ban(self, key: str, reason: str = "", by: str = "", name: str | None = None, id: str | None = None) -> Done:
        """Bans a combo key or pattern. ``name`` only notes the clip it was seen in (see :meth:`ban_clip`)."""
        data = {"key": keys.normalise_pattern(key), "reason": text(reason, "reason"), "by": text(by, "by")}
        if name is not None:
            data["name"] = clip_name(name)
        return self._record("ban", data, id)

    def ban_clip(self, name: str, key: str, reason: str = "", by: str = "", id: str | None = None) -> Done:
        """Bans the key of a clip and marks that clip ``banned`` with quality 2, as one event: one undo reverts both."""
        name = clip_name(name)
        with self._lock:
            known = self._model.ratings.get(name)
        rating = {**(known.data["rating"] if known else {}), "overall_quality": 2, "is_reference": False, "banned": True}
        data = {"key": keys.normalise_pattern(key), "reason": text(reason, "reason"), "by": text(by, "by")}
        return self._record("ban", {**data, "name": name, "rating": rating, "rated_at": self._now()}, id)

    def unban(self, key: str, reason: str = "", by: str = "", id: str | None = None) -> Done:
        """Lifts the ban of exactly this key or pattern."""
        return self._record("unban", {"key": keys.normalise_pattern(key), "reason": text(reason, "reason"), "by": text(by, "by")}, id)

    def compare(self, left: str, right: str, winner: str, id: str | None = None) -> Done:
        """Records which of two clips a person liked better."""
        if winner not in WINNERS:
            raise ValueError(f"winner: {winner!r} is none of {', '.join(WINNERS)}")
        left, right = clip_name(left, "left"), clip_name(right, "right")
        if left == right:
            raise ValueError(f"right: a clip cannot be compared with itself ({left!r})")
        return self._record("compare", {"left": left, "right": right, "winner": winner}, id)

    def undo(self, event_id: str, id: str | None = None) -> Done:
        """Reverts a rating, ban, unban or comparison: what held before it holds again.

        Undoing it once more changes nothing. Raises KeyError for an unknown event, ValueError for one of another kind.
        """
        with self._lock:
            target = self._model.events.get(event_id)
            if target is None:
                raise KeyError(event_id)
            if target.type not in UNDOABLE:
                raise ValueError(f"event {event_id!r} is a {target.type}; only {', '.join(sorted(UNDOABLE))} can be undone")
            before = self._model.undo_event(event_id)
        if before is not None:
            return Done(before.id, duplicate=True)
        return self._record("undo", {"target": event_id}, id)

    def submitted(self, data: Mapping[str, Any]) -> Done:
        """Records a prompt handed to a ComfyUI server (``prompt_id`` and what a later process needs to pick it up)."""
        found = plain(dict(data), "submitted")
        prompt_id = text(found.get("prompt_id"), "prompt_id", empty=False)
        return self._record("submitted", found, f"submitted:{prompt_id}"[:200])

    def generated(self, prompt_id: str | None, entry: Mapping[str, Any], reward: float | None, cost_minutes: float | None = None) -> Done:
        """Records a finished clip: its history entry (``video`` is its name), reward in [0,1] and GPU minutes."""
        found = plain(dict(entry), "entry")
        clip_name(found.get("video"), "entry.video")
        reward, cost_minutes = plain(reward, "reward"), plain(cost_minutes, "cost_minutes")
        if reward is not None and not 0 <= reward <= 1:
            raise ValueError(f"reward: {reward!r} is not in [0,1]")
        data = {"prompt_id": prompt_id, "entry": found, "reward": reward, "cost_minutes": cost_minutes}
        return self._record("generated", data, None if prompt_id is None else f"generated:{prompt_id}"[:200])

    def failed(self, prompt_id: str | None, data: Mapping[str, Any]) -> Done:
        """Records a generation that came to nothing: ``{params, combo_key, kind, reason, cost_minutes}``."""
        found = plain(dict(data), "failed") | {"prompt_id": prompt_id}
        return self._record("failed", found, None if prompt_id is None else f"failed:{prompt_id}"[:200])

    def set_space(self, space: Mapping[str, Any]) -> Done:
        """Records the search space in use; nothing is written when it has not changed."""
        found = plain(dict(space), "space")
        with self._lock:
            known = self._model.space
            if known is not None and known.data["space"] == found:
                return Done(known.id, duplicate=True)
        return self._record("space", {"space": found}, None)

    def _now(self) -> str:
        return documents.local_time(self._clock())

    # ------------------------------------------------------------ reading
    def rating(self, name: str) -> dict[str, Any] | None:
        """The clip's item of manual_ratings.json: ``{"rating", "timestamp", "rated_at"}``."""
        with self._lock:
            event = self._model.ratings.get(name)
        return None if event is None else documents.rating_item(event)

    def entry(self, name: str) -> dict[str, Any] | None:
        """The clip's history entry, ``manual_rating`` included where a person rated it."""
        with self._lock:
            event, rating = self._model.entries.get(name), self._model.ratings.get(name)
        return None if event is None else documents.history_item(event, rating)

    def ratings(self) -> dict[str, dict[str, Any]]:
        """Every rated clip's item, by name."""
        with self._lock:
            found = dict(self._model.ratings)
        return {name: documents.rating_item(event) for name, event in found.items()}

    def history(self) -> list[dict[str, Any]]:
        """The history entries as generated (ratings are in :meth:`ratings`). Treat them as read-only."""
        with self._lock:
            found = list(self._model.entries.values())
        return [entry_data(event) or {} for event in found]

    def bans(self) -> dict[str, dict[str, Any]]:
        """Banned keys and patterns: ``{key: {"reason", "by", "ts", "event_id", "name"?}}``."""
        with self._lock:
            found = dict(self._model.banned)
        out = {}
        for key, event in found.items():
            out[key] = {"reason": event.data.get("reason", ""), "by": event.data.get("by", ""), "ts": event.ts, "event_id": event.id}
            if event.data.get("name") is not None:
                out[key]["name"] = event.data["name"]
        return out

    def banned_by(self, key: str) -> str | None:
        """The ban (a key or pattern) that covers ``key``, or None."""
        with self._lock:
            found = list(self._model.banned)
        return next((pattern for pattern in found if keys.matches(pattern, key)), None)

    def in_flight(self) -> list[dict[str, Any]]:
        """Submitted prompts that neither finished nor failed, oldest first."""
        with self._lock:
            return list(self._model.submitted.values())

    def observations(self) -> list[Observation]:
        """One per clip with complete params and a reward."""
        with self._lock:
            return list(self._model.observations())

    def failures(self) -> list[dict[str, Any]]:
        """Data of every failed generation, with its ``ts``."""
        with self._lock:
            found = list(self._model.failed.values())
        return [{**event.data, "ts": event.ts} for event in found]

    def compares(self) -> list[dict[str, Any]]:
        """Comparisons that were not undone: ``{left, right, winner, ts, event_id}``."""
        with self._lock:
            found = list(self._model.compares.values())
        return [{**event.data, "ts": event.ts, "event_id": event.id} for event in found]

    def combo_stats(self) -> dict[str, dict[str, Any]]:
        """``{key: {"N", "S", "scores"}}``; a person's rating stands in for the automatic reward of the same clip."""
        with self._lock:
            return self._model.combo_stats(documents.base_stats(self._model))

    def space(self) -> dict[str, Any] | None:
        """The search space in use, if an agent recorded one."""
        with self._lock:
            return None if self._model.space is None else self._model.space.data["space"]

    def stats(self) -> dict[str, Any]:
        """Counts of what there is; ``avg_rating`` in 1..10 and ``best_score`` in [0,1], or None."""
        with self._lock:
            model = self._model
            best = documents.knowledge_head(model)
            return {
                "total_generated": len(model.entries),
                "total_rated": len(model.ratings),
                "avg_rating": model.rating_sum / len(model.ratings) if model.ratings else None,
                "best_score": best["best_score"],
                "best_params": best["best_params"],
                "bandit_iterations": documents.base_pulls(model) + sum(map(len, model.combos.values())),
                "combos_tried": len(model.combos),
                "banned": len(model.banned),
                "comparisons": len(model.compares),
                "failed": len(model.failed),
                "in_flight": len(model.submitted),
                "version": self._version,
            }

    def actions(self, limit: int = 100, offset: int = 0) -> list[dict[str, Any]]:
        """Ratings, bans, unbans, comparisons and undos, newest first, undone ones included."""
        with self._lock:
            end = len(self._model.actions) - offset
            found = self._model.actions[max(0, end - limit) : max(0, end)]
        return [action_item(event) for event in reversed(found)]

    def flush(self) -> None:
        """Publishes the views now, if this process is the one that publishes."""
        if self._publisher is not None:
            self._publisher.flush()


def action_item(event: Event) -> dict[str, Any]:
    """``{event_id, type, ts, time, writer, undone, ...data}``."""
    head = {"event_id": event.id, "type": event.type, "ts": event.ts, "time": documents.local_time(event.ts), "writer": event.w}
    return {**event.data, **head, "undone": event.undone}


def clip_name(value: Any, what: str = "name") -> str:
    """A clip name fit to be recorded. Raises ValueError."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what}: {value!r} is not a clip's name")
    return plain(value, what)


def text(value: Any, what: str, empty: bool = True) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise ValueError(f"{what}: {value!r} is not {'a text' if empty else 'a text of at least one character'}")
    return plain(value, what)


def checked_rating(rating: Any) -> dict[str, Any]:
    """A copy of a rating fit to be recorded. Raises ValueError naming the field."""
    if not isinstance(rating, dict):
        raise ValueError(f"rating: {rating!r} is not an object")
    found = plain(rating, "rating")
    quality = found.get("overall_quality")
    if isinstance(quality, bool) or not isinstance(quality, (int, float)) or not (math.isfinite(quality) and 1 <= quality <= 10):
        raise ValueError(f"overall_quality: {quality!r} is not a number from 1 to 10")
    return found


__all__ = ["Change", "Done", "Observation", "StateStore", "quality_of"]
