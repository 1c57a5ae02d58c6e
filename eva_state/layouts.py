"""How each view is laid out as bytes and sections, and which of them a change of the model touches."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from eva_state import adoption, documents, texts
from eva_state.adoption import Marked
from eva_state.blocks import Block, Layout, Section
from eva_state.documents import BANDIT, BANS, KNOWLEDGE, QUEUE, QUEUE_LISTS, RATINGS
from eva_state.model import Model
from eva_state.records import dump

_CLIPS_AT_ONCE = 500  # looked at without letting go of the store


class ViewSet:
    """The sections of every view. ``model()`` gives the replica; ``lock`` is held only while records are looked up."""

    def __init__(self, model: Callable[[], Model], lock: AbstractContextManager[Any]):
        self._model = model
        self._lock = lock
        self.layouts = {view: Layout() for view in documents.VIEWS}
        self.ratings = Section(self._encode_ratings)
        self.history = Section(self._encode_history)
        self.queue = {name: Section(self._encode_queue) for name in QUEUE_LISTS}
        self.combos = Section(self._encode_combos)
        self._combo_sums: dict[str, tuple[float, float]] = {}
        self._combo_texts: dict[str, bytes] = {}  # of combos that did not change since: a block of them is some thousand scores
        self._sections = {RATINGS: [self.ratings], KNOWLEDGE: [self.history], BANDIT: [self.combos], QUEUE: [*self.queue.values()]}
        self.due: set[str] = set()  # views whose file does not say what the model says

    # ------------------------------------------------------------ what changed
    def rebuild(self, published: Mapping[str, int | None]) -> None:
        """Everything anew, but for what ``published`` views hold already: view -> an open file, or None where that is not at hand.

        They must contain every record up to the model's ``base``: what changed since stands in its ``dirty``.
        """
        with self._lock:
            model = self._model()
            if not published:
                model.dirty.clear()
            names = list(model.clips)
            combos = [*model.combos, *(key for key in documents.base_stats(model) if key not in model.combos)]
        wanted = self._wanted(names)
        self._combo_sums.clear()
        self._combo_texts.clear()
        for key in sorted(combos):
            self._touch_combo(key)
        wanted[id(self.combos)] = list(self.combos.where)
        adopted = {view: self._adopt(view, fd) for view, fd in published.items() if fd is not None and view in self._sections}
        with self._lock:
            changed = {key for what, key in self._model().dirty if what in ("rating", "entry", "combo")}
        for view, sections in self._sections.items():
            known = adopted.get(view)
            if known is not None and all((item.where.keys() ^ set(wanted[id(item)])) <= changed for item in sections):
                self.layouts[view].adopt(known)
                continue
            if view in adopted:
                adopted[view] = None
            self.layouts[view].forget()
            for item in sections:
                item.fill(wanted[id(item)])
        # A file that does not hold the keys it should is not what it was taken for.
        self.due = {view for view in documents.VIEWS if view not in published or (view in adopted and adopted[view] is None)}

    def _wanted(self, names: list[str]) -> dict[int, list[str]]:
        """The keys of each section (by ``id``), a few clips at a time: the store is not held up."""
        out: dict[int, list[str]] = {id(section): [] for sections in self._sections.values() for section in sections}
        rated, made = out[id(self.ratings)], out[id(self.history)]
        queued = {name: out[id(section)] for name, section in self.queue.items()}
        for start in range(0, len(names), _CLIPS_AT_ONCE):
            with self._lock:
                model = self._model()
                overrides = model.imports.get((QUEUE, "item"), {})
                for name in names[start : start + _CLIPS_AT_ONCE]:
                    clip = model.clips.get(name)
                    if clip is None:
                        continue
                    if clip.rating is not None:
                        rated.append(name)
                    if clip.entry is not None:
                        made.append(name)
                    override = documents.queue_override(model, name) if name in overrides else None
                    where = documents.queue_list(clip, override)
                    if where is not None:
                        queued[where].append(name)
            time.sleep(0)
        return out

    def _adopt(self, view: str, fd: int) -> list[Block] | None:
        if view == RATINGS:
            with self._lock:
                extra = frozenset(documents.imported(self._model(), RATINGS, "extra"))
            return adoption.adopt(fd, [Marked(b"{\n", self.ratings, adoption.NAMED, extra)])
        if view == KNOWLEDGE:
            return adoption.adopt(fd, [Marked(b'"history": [\n', self.history, adoption.ENTRY)])
        if view == BANDIT:
            return adoption.adopt(fd, [Marked(b'"combo_stats": {\n', self.combos, adoption.NAMED)])
        queued = ((b'"%s": [\n' % name.encode(), section) for name, section in self.queue.items())
        return adoption.adopt(fd, [Marked(marker, section, adoption.QUEUED) for marker, section in queued])

    def take_changes(self) -> dict[str, int]:
        """Notes what the model changed since the last call. Returns the newest record applied of each writer."""
        with self._lock:
            model = self._model()
            dirty, model.dirty = model.dirty, {}
            applied = dict(model.applied)
        for what, key in dirty:
            if what in ("rating", "entry"):
                self._touch_clip(key)
                self.due |= {KNOWLEDGE, QUEUE}
                if what == "rating":
                    self.due.add(RATINGS)
            elif what == "combo":
                self._touch_combo(key)
                self.due.add(BANDIT)
            elif what == "ban":
                self.due |= {BANDIT, BANS}
            elif what == "head":
                self.due.add(key)
        return applied

    def _touch_clip(self, name: str) -> None:
        with self._lock:
            model = self._model()
            clip = model.clips.get(name)
            rated = clip is not None and clip.rating is not None
            made = clip is not None and clip.entry is not None
            wanted = None if clip is None else documents.queue_list(clip, documents.queue_override(model, name))
        (self.ratings.touch if rated else self.ratings.drop)(name)
        (self.history.touch if made else self.history.drop)(name)
        for which, section in self.queue.items():
            (section.touch if which == wanted else section.drop)(name)

    def _touch_combo(self, key: str) -> None:
        self._combo_texts.pop(key, None)
        with self._lock:
            model = self._model()
            base = model.imports.get((BANDIT, "base"), {}).get(key)
            stat = model.combo_stat(key, None if base is None else base.data["value"])
        if stat is None:
            self._combo_sums.pop(key, None)
            self.combos.drop(key)
        else:
            self._combo_sums[key] = (stat["N"], stat["S"])
            self.combos.touch(key)

    # ------------------------------------------------------------ what the files say
    def parts(self, view: str, applied: dict[str, int]) -> list[bytes | Section]:
        """The view's file in a row. ``applied``: what it will at least contain."""
        mark = {documents.APPLIED_KEY: {"applied": applied}}
        with self._lock:
            model = self._model()
            if view == RATINGS:
                lines = _members(documents.imported(model, RATINGS, "extra"))
            elif view == BANDIT:
                lines = _members(mark | documents.bandit_head(model, self._combo_sums))
            elif view == KNOWLEDGE:
                lines = _members(mark | documents.knowledge_head(model))
            elif view == QUEUE:
                lines = _members(mark | documents.imported(model, QUEUE, "extra"))
            else:
                bans = documents.ban_records(model)
        if view == BANS:
            return [b"[\n%s\n]\n" % b",\n".join(map(dump, bans)) if bans else b"[]\n"]
        head = b",\n".join(lines)
        if view == RATINGS:
            return [b"{\n" + head + (b",\n" if head and self.ratings.where else b""), self.ratings, b"\n}\n"]
        if view == BANDIT:
            return [b"{\n" + head + b',\n"combo_stats": {\n', self.combos, b"\n}\n}\n"]
        if view == KNOWLEDGE:
            return [b"{\n" + head + b',\n"history": [\n', self.history, b"\n]\n}\n"]
        out: list[bytes | Section] = [b"{\n" + head]
        for name in QUEUE_LISTS:
            out += [b',\n"%s": [\n' % name.encode(), self.queue[name], b"\n]"]
        return [*out, b"\n}\n"]

    def _encode_ratings(self, names: list[str]) -> list[bytes]:
        with self._lock:
            clips = self._model().clips
            found = [(name, clip.rating) for name in names if (clip := clips.get(name)) is not None]
        return [b"%s: %s" % (dump(name), texts.rating_item(record)) for name, record in found if record is not None]

    def _encode_history(self, names: list[str]) -> list[bytes]:
        with self._lock:
            clips = self._model().clips
            found = [(clip.entry, clip.rating) for name in names if (clip := clips.get(name)) is not None]
        return [texts.history_item(entry, rating) for entry, rating in found if entry is not None]

    def _encode_queue(self, names: list[str]) -> list[bytes]:
        with self._lock:
            model = self._model()
            items = model.imports.get((QUEUE, "item"), {})
            found = [(name, clip.entry, items.get(name)) for name in names if (clip := model.clips.get(name)) is not None]
        return [texts.queue_item(name, entry, item.data["value"] if item else None) for name, entry, item in found]

    def _encode_combos(self, found: list[str]) -> list[bytes]:
        out = []
        for key in found:
            text = self._combo_texts.get(key)
            if text is None:
                with self._lock:
                    model = self._model()
                    base = model.imports.get((BANDIT, "base"), {}).get(key)
                    stat = model.combo_stat(key, None if base is None else base.data["value"])
                if stat is None:
                    continue
                text = self._combo_texts[key] = b"%s: %s" % (dump(key), dump(stat))
            out.append(text)
        return out


def _members(found: dict[str, Any]) -> list[bytes]:
    return [b"%s: %s" % (json.dumps(key, ensure_ascii=False).encode(), dump(value)) for key, value in found.items()]
