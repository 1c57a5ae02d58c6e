"""The only door to the shared state; see ``docs/state.md``."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from eva_env_base import StateError
from eva_state import checks, documents, keys
from eva_state.agent_requests import StoreRequests
from eva_state.checks import WINNERS, Done
from eva_state.feed import Change, Feed
from eva_state.files import Files
from eva_state.guard import Guard
from eva_state.journal import SEGMENT_BYTES, Draft, Follower, Problem, Rewound, Writer
from eva_state.loading import Loader, Seen
from eva_state.model import UNDOABLE, Model
from eva_state.published import published_records
from eva_state.reads import StoreReads
from eva_state.records import Item, plain
from eva_state.registers import Observation
from eva_state.views import Publisher

log = logging.getLogger(__name__)
ROLES = ("server", "agent", "tool")  # each has its own journal and may run once at a time
READER = "reader"  # reads, never writes; any number at a time
POLL_SECONDS = 0.2
REPLAY_ATTEMPTS = 5  # a disk that withdraws records does so once, at the instant it fails


class StateStore(StoreReads, StoreRequests):
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
        takeover: bool = False,
        seen: Seen | None = None,
    ):
        if role not in (*ROLES, READER):
            raise ValueError(f"role {role!r} is none of {', '.join((*ROLES, READER))}")
        self.state_dir = Path(state_dir)
        self.role = role
        self.video_dir = None if video_dir is None else Path(video_dir)
        self.takeover = takeover  # on a network volume: dispossess a holder on another machine (see ``owner``)
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
        self._accepting = False
        self._model = Model()
        self._followers: dict[str, Follower] = {}
        self._poll_lock = threading.Lock()
        self._writer: Writer | None = None
        self._guard: Guard | None = None
        self._publisher: Publisher | None = None
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._feed = Feed()
        self.seen = seen  # told of what the first replay reads: a clip index's notes, which spare it to read all again

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
            self._guard = Guard(self._journal_dir / "locks", self.role, clock=self._clock, takeover=self.takeover)
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
            self._publisher = Publisher(self, self._files, self._publish_interval, self._clock)
            self._publisher.start()
            self._accepting = True
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
        with self._settled:
            self._accepting = False
            while self._in_progress:  # actions under way are in the views that are published last
                self._settled.wait()
        publisher, self._publisher = self._publisher, None
        try:
            if publisher is not None:
                publisher.close()
        finally:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()
            guard, self._guard = self._guard, None
            if guard is not None:
                guard.release()

    # ------------------------------------------------------------ reading journals
    def _replay(self) -> None:
        """Reads every journal into a new model. Called with the lock held, or before threads run."""
        # The collector would walk the growing replica again and again, and find nothing: a quarter of the time.
        published = published_records(self.state_dir)
        collecting = gc.isenabled()
        gc.disable()
        try:
            for _ in range(REPLAY_ATTEMPTS):
                loader, followers = Loader(published, self.seen), self._all_followers({})
                try:
                    for follower in followers.values():
                        for batch in follower.poll():
                            loader.take(batch)
                except Rewound as error:
                    log.warning("%s while it was read; once more", error)
                    continue
                break
            else:
                raise StateError(f"{self._journal_dir}: records vanish while they are read; is the disk failing?")
        finally:
            if collecting:
                gc.enable()
        for follower in followers.values():
            self._collect(follower)
        self._model, self._followers = loader.finish(), followers

    def _all_followers(self, known: dict[str, Follower]) -> dict[str, Follower]:
        """``known`` and a follower for every journal it lacks."""
        names = set() if self.role == READER else {self.role}
        if self._journal_dir.is_dir():
            names |= {path.name for path in self._journal_dir.iterdir() if path.name in ROLES}
        return {name: known.get(name) or Follower(self._journal_dir / name) for name in sorted(names)}

    def _collect(self, follower: Follower) -> None:
        self.problems += follower.problems
        follower.problems.clear()

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_interval):
            try:
                self.poll()
            except (OSError, StateError) as error:
                log.error("%s: the other journals cannot be read now: %s", self._journal_dir, error)

    def poll(self) -> None:
        """Takes in what other processes have appended since the last poll (the follower thread calls this)."""
        with self._poll_lock:
            try:
                self._followers = self._all_followers(self._followers)
                for follower in self._followers.values():
                    if follower.folder.name == self.role:
                        continue
                    for batch in follower.poll():
                        with self._lock:
                            self._apply(batch)
                    self._collect(follower)
            except Rewound as error:
                log.warning("%s; reading every journal anew", error)
                with nullcontext() if self._writer is None else self._writer.paused():
                    self._reload()
        self._feed.deliver()

    def _reload(self) -> None:
        with self._lock:
            self._replay()
            self._feed.reload(self.role)
            if self._publisher is not None:
                self._publisher.model_replaced()

    def _committed(self, batch: list[Item]) -> None:
        with self._lock:
            self._apply(batch)

    def _apply(self, batch: list[Item]) -> None:
        for record, data in batch:
            effect = self._model.apply(record, data)
            if effect is not None:
                self._feed.add(effect.kind, effect.name, effect.key, record.id, record.w)

    # ------------------------------------------------------------ changes
    @property
    def version(self) -> int:
        """Grows with every event applied in this process."""
        return self._feed.version

    def changes_since(self, version: int) -> list[Change] | None:
        """Changes after ``version``; None when they are no longer kept (read everything anew then)."""
        with self._lock:
            return self._feed.since(version)

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Calls ``callback(change)`` after each applied event, in order, outside every lock of the store.

        Returns a function that ends it. An error in a callback is logged. A callback may use the store. A change of
        this very process is normally delivered before the method that made it returns.
        """
        return self._feed.subscribe(callback)

    # ------------------------------------------------------------ writing
    def _record(self, kind: str, data: dict[str, Any], id: str | None) -> Done:
        """Appends one event and waits until it is on disk, unless ``id`` has been recorded already."""
        id = os.urandom(8).hex() if id is None else checks.event_id(id)
        with self._settled:
            while id in self._in_progress:
                self._settled.wait()
            writer = self._open_writer(self._accepting)
            known = self._model.known(id)
            if known is not None:
                if known != kind:
                    raise ValueError(f"id {id!r} already names a {known}; use a new id for a {kind}")
                return Done(id, duplicate=True)
            self._in_progress.add(id)
        try:
            writer.append([Draft(kind, data, id)])
        finally:
            with self._settled:
                self._in_progress.discard(id)
                self._settled.notify_all()
        self._feed.deliver()
        return Done(id)

    def record_many(self, drafts: list[Draft]) -> int:
        """Appends many events with few fsyncs (imports); those whose id is known are left out. Returns how many were written.

        Subscribers are told by the next :meth:`deliver`.
        """
        writer = self._open_writer(True)
        with self._lock:
            new = [draft for draft in drafts if self._model.known(draft.id) is None]
        for start in range(0, len(new), 5000):
            writer.append(new[start : start + 5000])
        return len(new)

    def _open_writer(self, accepting: bool) -> Writer:
        writer, guard = self._writer, self._guard
        if writer is None or guard is None or not accepting:
            raise StateError(f"the state {self.state_dir} is not open for writing")
        guard.check()  # raises StateLocked when another machine took the role over
        return writer

    def deliver(self) -> None:
        """Calls the subscribers with what is due."""
        self._feed.deliver()

    def rate(self, name: str, rating: dict[str, Any], id: str | None = None) -> Done:
        """Records a person's rating of a clip; it replaces the clip's whole earlier rating.

        ``rating`` must hold ``overall_quality``, a number from 1 to 10. Raises ValueError for a malformed one,
        StateFull when the disk is full (nothing recorded).
        """
        return self._record("rating", {"name": checks.clip_name(name), "rating": checks.rating(rating), "rated_at": self._now()}, id)

    def unrate(self, name: str, id: str | None = None) -> Done:
        """Takes a clip's rating away (an event like any other: undo brings it back)."""
        return self._record("rating", {"name": checks.clip_name(name), "rating": None, "rated_at": self._now()}, id)

    def ban(self, key: str, reason: str = "", by: str = "", name: str | None = None, id: str | None = None) -> Done:
        """Bans a combo key or pattern. ``name`` only notes the clip it was seen in (see :meth:`ban_clip`)."""
        data = {"key": keys.normalise_pattern(key), "reason": checks.text(reason, "reason"), "by": checks.text(by, "by")}
        if name is not None:
            data["name"] = checks.clip_name(name)
        return self._record("ban", data, id)

    def ban_clip(self, name: str, key: str, reason: str = "", by: str = "", id: str | None = None) -> Done:
        """Bans the key of a clip and marks that clip ``banned`` with quality 2, as one event: one undo reverts both."""
        name = checks.clip_name(name)
        with self._lock:
            clip = self._model.clips.get(name)
            known = None if clip is None else clip.rating
        rating = {**(known.data["rating"] if known else {}), "overall_quality": 2, "is_reference": False, "banned": True}
        data = {"key": keys.normalise_pattern(key), "reason": checks.text(reason, "reason"), "by": checks.text(by, "by")}
        return self._record("ban", {**data, "name": name, "rating": rating, "rated_at": self._now()}, id)

    def unban(self, key: str, reason: str = "", by: str = "", id: str | None = None) -> Done:
        """Lifts the ban of exactly this key or pattern."""
        data = {"key": keys.normalise_pattern(key), "reason": checks.text(reason, "reason"), "by": checks.text(by, "by")}
        return self._record("unban", data, id)

    def compare(self, left: str, right: str, winner: str, id: str | None = None) -> Done:
        """Records which of two clips a person liked better."""
        if winner not in WINNERS:
            raise ValueError(f"winner: {winner!r} is none of {', '.join(WINNERS)}")
        left, right = checks.clip_name(left, "left"), checks.clip_name(right, "right")
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
            before = self._model.undo_of(event_id)
        if before is not None:
            return Done(before.id, duplicate=True)
        return self._record("undo", {"target": event_id}, id)

    def submitted(self, data: Mapping[str, Any]) -> Done:
        """Records a prompt handed to a ComfyUI server (``prompt_id`` and what a later process needs to pick it up)."""
        found = plain(dict(data), "submitted")
        prompt_id = checks.text(found.get("prompt_id"), "prompt_id", empty=False)
        return self._record("submitted", found, f"submitted:{prompt_id}")

    def generated(self, prompt_id: str | None, entry: Mapping[str, Any], reward: float | None, cost_minutes: float | None = None) -> Done:
        """Records a finished clip: its history entry (``video`` is its name), reward in [0,1] and GPU minutes."""
        found = plain(dict(entry), "entry")
        checks.clip_name(found.get("video"), "entry.video")
        reward, cost_minutes = checks.unit(reward, "reward"), plain(cost_minutes, "cost_minutes")
        data = {"prompt_id": prompt_id, "entry": found, "reward": reward, "cost_minutes": cost_minutes}
        return self._record("generated", data, None if prompt_id is None else f"generated:{prompt_id}")

    def failed(self, prompt_id: str | None, data: Mapping[str, Any]) -> Done:
        """Records a generation that came to nothing: ``{params, combo_key, kind, reason, cost_minutes}``."""
        found = plain(dict(data), "failed") | {"prompt_id": prompt_id}
        return self._record("failed", found, None if prompt_id is None else f"failed:{prompt_id}")

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

    def flush(self) -> bool:
        """Takes in hand edits and publishes the views now. False when another process publishes, or the disk refuses."""
        return self._publisher is not None and self._publisher.flush()

    def report(self, path: Path, message: str, kept: Path | None = None) -> None:
        """Notes a problem found in the state folder: logged, and listed in ``problems``."""
        problem = Problem(path, 0, message, kept)
        self.problems.append(problem)
        log.warning("%s", problem)


__all__ = ["Change", "Done", "Observation", "StateStore"]
