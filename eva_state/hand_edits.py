"""What others wrote into the views becomes events; so does everything in the files of a folder EVA sees for the first time.

For every item three versions are compared: the file's, the *base* (what EVA had published, that is, the journal up
to the records the file was made from; nothing at all the first time), and what holds now. Only an item in which the
file differs from both was changed by somebody, and becomes an event. So nothing is taken in twice, however often the
taking in is interrupted.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eva_state import documents, legacy
from eva_state.documents import APPLIED_KEY, BANDIT, BANS, KNOWLEDGE, QUEUE, QUEUE_LISTS, RATINGS
from eva_state.files import Files
from eva_state.journal import Draft, Follower
from eva_state.model import Model
from eva_state.records import dump, plain

if TYPE_CHECKING:
    from eva_state.store import StateStore

log = logging.getLogger(__name__)
NOT_YET, BROKEN = object(), object()  # instead of a content: still being written; set aside
BY = "hand edit"
BEST_KEYS = ("best_score", "best_params", "best_combo")
DERIVED = {BANDIT: {"combo_stats", "t", "banned_combos", "arms", "N", "S"}, KNOWLEDGE: {"history", *BEST_KEYS}, QUEUE: set(QUEUE_LISTS)}
# The history before the statistics: what it accounts for is not counted twice.
ORDER = (RATINGS, KNOWLEDGE, QUEUE, BANDIT, BANS)


@dataclass(frozen=True)
class Edited:
    """A view somebody wrote. ``base``: newest record of each writer in the version it was made from; None: none of ours."""

    view: str
    content: Any
    base: dict[str, int] | None


def take_in(store: StateStore, edited: list[Edited], files: Files) -> int:
    """Records the differences. Returns how many events that took. Raises StateFull when the disk does."""
    total = 0
    for item in sorted(edited, key=lambda item: ORDER.index(item.view)):
        base_applied = item.base
        if isinstance(item.content, dict) and isinstance(mark := item.content.get(APPLIED_KEY), dict):
            base_applied = mark.get("applied", base_applied)
        content = item.content
        if base_applied is None:
            content = legacy.shaped(item.view, content)
        if base_applied is None or not isinstance(content, list if item.view == BANS else dict):
            _keep_original(store, item.view, files)
        with store._lock:
            now = documents.document(store._model, item.view)
            same = base_applied == store._model.applied
        empty: Any = [] if item.view == BANS else {}
        base = empty if base_applied is None else now if same else documents.document(_model_at(store, base_applied), item.view)
        try:
            found = Differ(store, base, now, first=base_applied is None).drafts(item.view, content)
        except RecursionError:
            _keep_original(store, item.view, files)
            store.report(store.state_dir / item.view, "is nested too deeply: nothing taken in, a copy lies in journal/legacy")
            continue
        count = store.record_many(found)
        if count:
            log.info("%s: %d %s taken in", item.view, count, "items" if base_applied is None else "changes made by hand")
        total += count
    return total


def _keep_original(store: StateStore, view: str, files: Files) -> None:
    """A copy of a file as it was before EVA first wrote it."""
    folder = store.state_dir / "journal" / "legacy"
    folder.mkdir(parents=True, exist_ok=True)
    source = store.state_dir / view
    target = folder / f"{view}.{source.stat().st_mtime_ns}"
    if not target.exists():
        temporary = target.with_name(target.name + ".tmp")
        shutil.copyfile(source, temporary)
        files.replace(temporary, target)


def _model_at(store: StateStore, applied: dict[str, int]) -> Model:
    """The replica as it was when the given records were its newest."""
    model = Model()
    for writer, newest in applied.items():
        folder: Path = store.state_dir / "journal" / writer
        for batch in Follower(folder, quiet=True).poll():
            model.apply_all(item for item in batch if item[0].seq <= newest)
    return model


class Differ:
    """Finds the drafts for one view. ``base`` and ``now`` are whole documents."""

    def __init__(self, store: StateStore, base: Any, now: Any, *, first: bool):
        self.store, self.base, self.now, self.first = store, base, now, first
        self.video_dir = store.video_dir

    def drafts(self, view: str, content: Any) -> list[Draft]:
        """The events that make what holds now what ``content`` says. Raises RecursionError for content nested too deeply."""
        try:
            return self._drafts(view, content)
        except ValueError as error:  # text that is not valid Unicode
            log.warning("%s: %s; the character is replaced", view, error)
            return self._drafts(view, legacy.clean(content))

    def _drafts(self, view: str, content: Any) -> list[Draft]:
        if view == BANS:
            return list(self.bans(content))
        if not isinstance(content, dict):
            self.store.report(
                self.store.state_dir / view,
                f"holds a {type(content).__name__} instead of an object: nothing taken in, a copy lies in journal/legacy",
            )
            return []
        finder: Callable[[dict[str, Any]], Iterator[Draft]] = {
            RATINGS: self.ratings,
            KNOWLEDGE: self.knowledge,
            QUEUE: self.queue,
            BANDIT: self.bandit,
        }[view]
        return [*finder(content), *(self.extras(view, content) if view != RATINGS else ())]

    # ------------------------------------------------------------ each view
    def ratings(self, content: dict[str, Any]) -> Iterator[Draft]:
        found: dict[str, Any] = {}
        others: dict[str, list[Any]] = {}  # a clip may stand there under several paths: the newest rating holds, none is lost
        for written, value in content.items():
            name = legacy.clip_name(written, self.video_dir, windows=self.first) or written
            if name in found:
                older, value = sorted((found[name], value), key=legacy.rated_when)
                others.setdefault(name, []).append(older)
            found[name] = value
        for name in _in_order(found, self.base):
            value, base, now = found.get(name), self.base.get(name), self.now.get(name)
            if value in (base, now):
                continue
            if value is None:
                if now == base:  # else it was rated again meanwhile, and that stands
                    yield _draft("rating", {"name": name, "rating": None, "rated_at": self._now(), "by": BY})
                continue
            for older in sorted(others.get(name, ()), key=legacy.rated_when):
                data = legacy.rating_data(name, older)
                yield _import(RATINGS, f"extra/{name} ({_hash(older)})", older) if data is None else _draft("rating", {"by": BY, **data})
            data = legacy.rating_data(name, value)
            if data is None:
                log.warning("%s: %r holds no rating that can be read; kept as it is", RATINGS, name)
                yield _import(RATINGS, f"extra/{name}", value)
            elif now is None or documents_item(data) != now:
                yield _draft("rating", {"by": BY, **data})

    def knowledge(self, content: dict[str, Any]) -> Iterator[Draft]:
        found, odd = legacy.history(content.get("history"), self.video_dir, windows=self.first)
        base = legacy.history(self.base.get("history"), self.video_dir)[0]
        now = legacy.history(self.now.get("history"), self.video_dir)[0]
        rated = self.store.rating
        for name in _in_order(found, base):
            entry, rating, at = _split(found.get(name))
            old, old_rating, _ = _split(base.get(name))
            current, _, _ = _split(now.get(name))
            if entry not in (old, current):
                yield _import(KNOWLEDGE, f"history/{name}", entry)
            if rating is None or rating == old_rating or entry is None:
                continue
            known = rated(name)
            data = legacy.rating_data(name, {"rating": rating} | ({"rated_at": at} if isinstance(at, str) else {}))
            # manual_ratings.json is where ratings live: a copy here counts only where it is news.
            if data is not None and (known is None or (not self.first and known["rating"] != data["rating"])):
                yield _draft("rating", {"by": BY, **data})
        best = {key: content.get(key) for key in BEST_KEYS}
        if legacy.is_number(best["best_score"]) and all(best != {key: doc.get(key) for key in BEST_KEYS} for doc in (self.base, self.now)):
            yield _import(KNOWLEDGE, "best", best)
        if odd:
            yield from self._unreadable(KNOWLEDGE, "history_unreadable", odd)

    def queue(self, content: dict[str, Any]) -> Iterator[Draft]:
        odd: list[Any] = []
        base, now = (self._queue_items(document, []) for document in (self.base, self.now))
        found = self._queue_items(content, odd)
        if odd:
            yield from self._unreadable(QUEUE, "queue_unreadable", odd)
        for name in _in_order(found, base):
            item, old, current = found.get(name), base.get(name), now.get(name)
            if item in (old, current):
                continue
            with self.store._lock:
                before = documents.queue_override(self.store._model, name) or {}
            if item is None:
                yield _import(QUEUE, f"item/{name}", {**before, "list": "removed"})
                continue
            shown = current or {}
            changed = {key: value for key, value in item.items() if key != "video_id" and (key not in shown or shown[key] != value)}
            if changed:
                yield _import(QUEUE, f"item/{name}", {**before, **changed})

    def _unreadable(self, view: str, key: str, odd: list[Any]) -> Iterator[Draft]:
        known = self.now.get(key) if isinstance(self.now.get(key), list) else []
        odd = [item for item in plain(odd) if item not in known]
        if odd:
            log.warning("%s: %d items cannot be read, the first is %r; kept under %s", view, len(odd), odd[0], key)
            yield _import(view, f"extra/{key}", [*known, *odd])

    def _queue_items(self, document: dict[str, Any], odd: list[Any]) -> dict[str, dict[str, Any]]:
        out = {}
        for which in QUEUE_LISTS:
            items = document.get(which)
            if not isinstance(items, (list, type(None))):
                odd.append(items)
            for item in items if isinstance(items, list) else []:
                if isinstance(item, str):
                    item = {"video_id": item}
                keys = ("video_id", "original_path", *legacy.NAME_KEYS)
                written = next((item[key] for key in keys if item.get(key)), None) if isinstance(item, dict) else None
                name = legacy.clip_name(written, self.video_dir, windows=self.first)
                if name is None:
                    odd.append(item)
                else:
                    out[name] = {**item, "video_id": name, "list": which}
        return out

    def bandit(self, content: dict[str, Any]) -> Iterator[Draft]:
        found, base, now = (legacy.combo_stats(document) for document in (content, self.base, self.now))
        with self.store._lock:
            model = self.store._model
            imported = documents.base_stats(model)
            pulls = model.pulls
        for key in _in_order(found, base):
            value, current = found.get(key), now.get(key)
            if value in (base.get(key), current):
                continue
            # The file's figures less what the clips of the history account for.
            stat, old = current or {"N": 0, "S": 0.0, "scores": []}, imported.get(key) or {"N": 0, "S": 0.0, "scores": []}
            count, total = (value["N"], value["S"]) if value else (0, 0.0)
            rest = {"N": count - (stat["N"] - old["N"]), "S": total - (stat["S"] - old["S"])}
            others = {name: item for name, item in (value or {}).items() if name not in legacy.STAT_KEYS}
            if self.first and rest["N"] <= 0:
                if not others:
                    continue  # the history knows more than the old statistics did
                rest["N"] = 0
            if self.first:
                rest["S"] = min(max(rest["S"], 0.0), float(rest["N"]))
            scores = list(value["scores"]) if value else []
            for score in stat["scores"]:
                if score in scores:
                    scores.remove(score)
            yield _import(BANDIT, f"base/{key}", {**others, **rest, "scores": scores if len(scores) <= max(rest["N"], 0) else []})
        steps: Any = content.get("t")
        if legacy.is_number(steps) and steps not in (self.base.get("t"), self.now.get("t")):
            yield _import(BANDIT, "t", max(0, steps - pulls) if self.first else steps - pulls)
        wanted, had, has = (legacy.banned(document) for document in (content, self.base, self.now))
        for key in sorted(wanted.keys() - had.keys() - has.keys()):
            reason = wanted[key] or ("stood in bandit_state.json" if self.first else BY)
            yield _draft("ban", {"key": key, "reason": reason, "by": BY})
        if bans := [item for item in legacy.unreadable_bans(content) if item not in legacy.unreadable_bans(self.now)]:
            yield from self._unreadable(BANDIT, "banned_unreadable", bans)
        combos, known = legacy.unreadable_combos(content), self.now.get("combos_unreadable")
        if combos and plain(combos) != known:
            log.warning("%s: %d combos cannot be read; kept under combos_unreadable: %s", BANDIT, len(combos), ", ".join(combos))
            yield _import(BANDIT, "extra/combos_unreadable", {**(known if isinstance(known, dict) else {}), **combos})
        for key in sorted((had.keys() & has.keys()) - wanted.keys()):
            yield _draft("unban", {"key": key, "reason": BY, "by": BY})

    def bans(self, content: Any) -> Iterator[Draft]:
        base, now = ([dump(plain(item)) for item in documents_list] for documents_list in (self.base, self.now))
        for item in legacy.ban_records(content):
            text = dump(plain(item))
            if text not in base and text not in now:
                yield _import(BANS, f"record/{_hash(item)}", item)

    def extras(self, view: str, content: dict[str, Any]) -> Iterator[Draft]:
        known = DERIVED[view] | {APPLIED_KEY}
        for key in _in_order(content, self.base):
            if key in known:
                continue
            value = content.get(key)
            if value not in (self.base.get(key), self.now.get(key)):
                yield _import(view, f"extra/{key}", value)

    def _now(self) -> str:
        return documents.local_time(time.time())


def documents_item(data: dict[str, Any]) -> dict[str, Any]:
    """The item of manual_ratings.json that rating data of a file make."""
    return {**data.get("extra", {}), **{key: data[key] for key in ("rating", "timestamp", "rated_at") if key in data}}


def _in_order(*found: dict[str, Any]) -> list[str]:
    """The keys of all, in the order of the files."""
    return list(dict.fromkeys(key for document in found for key in document))


def _split(item: dict[str, Any] | None) -> tuple[dict[str, Any] | None, Any, Any]:
    """An entry, its rating and when it was rated."""
    if item is None:
        return None, None, None
    rating = legacy.rating(item.get("manual_rating"))
    if rating is None and item.get("manual_rating") is not None:
        return item, None, None  # it tells no number: it stays where it is, as an unknown key would
    entry = {key: value for key, value in item.items() if key not in ("manual_rating", "manual_rated_at")}
    return entry, rating, item.get("manual_rated_at")


def _hash(value: Any) -> str:
    return hashlib.sha256(dump(plain(value))).hexdigest()[:16]


def _draft(kind: str, data: dict[str, Any]) -> Draft:
    return Draft(kind, plain(data, kind), os.urandom(8).hex())


def _import(view: str, key: str, value: Any) -> Draft:
    return _draft("import", {"view": view, "key": key, "value": value})
