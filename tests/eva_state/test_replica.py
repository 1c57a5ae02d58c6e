"""Properties: two replicas agree whatever the order of reading, and a store agrees with its journal after any history."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eva_state import documents, hand_edits, records
from eva_state.documents import VIEWS
from eva_state.loading import Loader
from eva_state.model import Model
from eva_state.published import note_of, read_note, stamp_of
from eva_state.records import Record
from eva_state.store import StateStore
from tests.eva_state.account import Account, ban, ban_clip, compare, fail, finish, rate, submit, told, undo
from tests.eva_state.conftest import KEY, make_entry
from tests.eva_state.test_adoption import forsake
from tests.eva_state.test_views import assert_views_say_what_the_journal_says, comparable

NAMES = st.sampled_from(["a.mp4", "b.mp4", "в.mp4"])
PROMPTS = st.sampled_from([f"p{number}" for number in range(20)])
KEYS = st.sampled_from([KEY, "euler|*|*|*|*|*"])
QUALITY = st.integers(1, 10)
MARK = QUALITY | st.sampled_from([None, 0.25, 10**30, "good", [1], True])


def entries(name):
    """Entries as they may be, and as they should not be but might."""
    odd = [
        {},
        {"params": None},
        {"params": [1]},
        {"params": "x", "score": "y"},
        {"timestamp": "then", "score": True},
        {"timestamp": 5, "score": 7},
    ]
    whole = st.builds(lambda q, cfg: make_entry(name, q / 10, cfg_scale=cfg), QUALITY, st.sampled_from([7, 7.0, "7", None]))
    return whole | st.sampled_from([{"video": name, **item} for item in odd])


KINDS = ["rating", "ban", "ban_clip", "unban", "undo", "generated", "import", "failed", "submitted", "space"]
KINDS += ["rating", "undo", "rating", "undo", "generated"]  # these meet each other the most


@st.composite
def journals(draw):
    """Records of two writers with the clocks a real run could give them."""
    ids: list[str] = []
    clocks = {"agent": 0, "server": 0}
    seqs = {"agent": 0, "server": 0}
    out = []
    for number in range(draw(st.integers(1, 14))):
        writer = draw(st.sampled_from(["agent", "server"]))
        if draw(st.booleans()):  # it had read the other's journal
            clocks[writer] = max(clocks.values())
        clocks[writer] += 1
        seqs[writer] += 1
        name = draw(NAMES)
        kind = draw(st.sampled_from(KINDS))
        data = {
            "rating": {"name": name, "rating": draw(st.none() | st.builds(lambda q: {"overall_quality": q}, MARK)), "rated_at": "x"},
            "ban": {"key": draw(KEYS), "reason": "", "by": ""},
            "ban_clip": {"key": draw(KEYS), "name": name, "rating": {"overall_quality": 2, "banned": True}, "rated_at": "x"},
            "unban": {"key": draw(KEYS)},
            "undo": {"target": draw(st.sampled_from([*ids, "unknown"]))},
            "generated": {"prompt_id": draw(st.sampled_from("pq")), "entry": draw(entries(name)), "reward": draw(MARK)},
            "import": {"view": "knowledge.json", "key": f"history/{name}", "value": draw(st.none() | st.just(make_entry(name, 0.9)))},
            "failed": {"prompt_id": draw(st.sampled_from("pq")), "kind": "oom"},
            "submitted": {"prompt_id": draw(st.sampled_from("pq"))},
            "space": {"space": {"n": number}},
        }[kind]
        id = f"submitted:{data['prompt_id']}" if kind == "submitted" else f"e{number}"
        ids.append(id)
        out.append((seqs[writer], id, clocks[writer], 1000.0 + number, writer, kind.removesuffix("_clip"), records.dump(data)))
    return out


def across(kind, data):
    """The agent's record and the server's undo of it."""
    return [(1, "e0", 1, 1.0, "agent", kind, records.dump(data)), (1, "e1", 2, 2.0, "server", "undo", records.dump({"target": "e0"}))]


RATED = {"name": "a.mp4", "rating": {"overall_quality": 3}, "rated_at": "x"}


def replica(found):
    model = Model()
    for fields in found:
        model.apply(Record(*fields))
    return model


def facts(model):
    out = {view: documents.document(model, view) for view in VIEWS}
    out["knowledge.json"]["history"].sort(key=lambda item: item["video"])
    for name in documents.QUEUE_LISTS:
        out["review_queue.json"][name].sort(key=lambda item: item["video_id"])
    out["bandit_state.json"]["banned_combos"].sort()
    out |= {"failed": sorted(model.failed), "flight": sorted(model.submitted), "space": model.space and model.space.id}
    out |= {"human": round(model.human_sum, 9), "counts": (model.generated, model.rated, model.human_count, model.pulls)}
    out["actions"] = [(record.id, record.undone) for record in model.actions]
    return json.loads(json.dumps(out))


@given(journals(), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_the_order_of_reading_two_journals_does_not_matter(found, rng):
    one = facts(replica(found))
    by_writer = {writer: [item for item in found if item[4] == writer] for writer in ("agent", "server")}
    assert facts(replica(by_writer["agent"] + by_writer["server"])) == one
    assert facts(replica(by_writer["server"] + by_writer["agent"])) == one
    mixed = []
    rest = {writer: list(items) for writer, items in by_writer.items()}
    while any(rest.values()):
        mixed.append(rest[rng.choice([writer for writer in rest if rest[writer]])].pop(0))
    assert facts(replica(mixed)) == one
    assert facts(replica(mixed + mixed)) == one  # applied twice, the same


@given(journals(), st.none() | st.fixed_dictionaries({"agent": st.integers(0, 9), "server": st.integers(0, 9)}), st.booleans())
@settings(max_examples=300, deadline=None)
@example(across("rating", RATED), None, False)
@example(across("ban", RATED | {"key": KEY}), None, False)
@example(across("compare", {"left": "a.mp4", "right": "b.mp4", "winner": "left"}), None, False)
@example(across("rating", RATED), {"agent": 1, "server": 0}, True)
def test_replaying_lines_gives_what_applying_records_gives(found, base, agent_first):
    loader = Loader(base)
    for writer in ("agent", "server") if agent_first else ("server", "agent"):
        lines = [records.encode(Record(*fields))[:-1] for fields in found if fields[4] == writer]
        items = records.decode_many(lines)
        assert [(item[0].id, item[0].raw) for item in items] == [(fields[1], fields[6]) for fields in found if fields[4] == writer]
        loader.take(items)
    model, whole = loader.finish(), replica(found)
    assert facts(model) == facts(whole)
    if base is None:
        assert not model.dirty
        return
    # What the records after `base` changed is told.
    before = replica([fields for fields in found if fields[0] <= base[fields[4]]])
    for name in {*whole.clips, *before.clips}:
        old, new = before.clips.get(name), whole.clips.get(name)
        for what in ("rating", "entry"):
            was, now = (None if clip is None else getattr(clip, what) for clip in (old, new))
            assert (was and was.id) == (now and now.id) or (what, name) in model.dirty
    stats = [documents.document(item, documents.BANDIT)["combo_stats"] for item in (before, whole)]
    for key in {*stats[0], *stats[1]}:
        assert stats[0].get(key) == stats[1].get(key) or ("combo", key) in model.dirty
    if documents.ban_records(before) != documents.ban_records(whole) or before.banned.keys() != whole.banned.keys():
        assert any(what == "ban" for what, _ in model.dirty)


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of actions, restarts, crashes and hand edits: replaying the journal gives what the views hold and the records since."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.count = 0
        self.account = Account()  # independent of the store
        self.open()

    def open(self):
        self.store = StateStore(self.folder, "agent", poll_interval=3600).start()
        self.store._publisher._stop.set()  # published where a rule says so
        self.store._publisher._thread.join()

    def id(self):
        self.count += 1
        return f"e{self.count}"

    def do(self, step):
        step[0](self.store)
        step[1](self.account)

    @rule(name=NAMES, quality=QUALITY)
    def rate(self, name, quality):
        self.do(rate(self.id(), name, quality))

    @rule(key=KEYS, lift=st.booleans())
    def ban(self, key, lift):
        self.do(ban(self.id(), key, not lift))

    @rule(name=NAMES)
    def ban_clip(self, name):
        self.do(ban_clip(self.id(), name, KEY))

    @rule()
    def compare(self):
        self.do(compare(self.id()))

    @rule(number=st.integers(1, 12))
    def undo(self, number):
        target = f"e{max(1, self.count + 1 - number)}"
        if target in self.store._model.events:
            self.do(undo(target))

    @rule(name=NAMES, score=QUALITY, prompt=PROMPTS)
    def generate(self, name, score, prompt):
        if f"generated:{prompt}" not in self.store._model.events:
            self.do(finish(prompt, name, score / 10))

    @rule(prompt=PROMPTS)
    def fail(self, prompt):
        if f"failed:{prompt}" not in self.store._model.events:
            self.do(fail(prompt))

    @rule(prompt=PROMPTS)
    def submit(self, prompt):
        if self.store._model.known(f"submitted:{prompt}") is None:
            self.do(submit(prompt))

    @rule()
    def flush(self):
        assert self.store.flush()
        assert_views_say_what_the_journal_says(self.store)

    @rule(crash=st.booleans())
    def restart(self, crash):
        if crash:
            forsake(self.store)
        else:
            self.store.close()
        self.open()

    @rule(name=NAMES, quality=st.none() | QUALITY, crash=st.booleans())
    def edit_ratings_by_hand(self, name, quality, crash):
        self.store.flush()
        path = self.folder / "manual_ratings.json"
        found = json.loads(path.read_text(encoding="utf-8"))
        if quality is None:
            found.pop(name, None)
        else:
            found[name] = {"rating": {"overall_quality": quality}}
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
        if crash:
            self.restart(True)  # the edit is found at the start
        self.store.flush()
        held = self.account.facts()["ratings"].get(name)
        if quality is not None or held is not None:
            self.account.ratings.setdefault(name, []).append((self.id(), quality))

    @rule(key=KEYS)
    def edit_bans_by_hand(self, key):
        self.store.flush()
        path = self.folder / "bandit_state.json"
        found = json.loads(path.read_text(encoding="utf-8"))
        banned = key in found["banned_combos"]
        found["banned_combos"] = [item for item in found["banned_combos"] if item != key] + ([] if banned else [key])
        path.write_text(json.dumps(found), encoding="utf-8")
        self.store.flush()
        self.account.bans.setdefault(key, []).append((self.id(), not banned))

    @invariant()
    def replaying_gives_the_views_and_the_tail(self):
        store = self.store
        assert told(store) == self.account.facts()
        with StateStore(self.folder, "reader", poll_interval=3600) as reader:
            assert facts(reader._model) == facts(store._model)
        for view, versions in read_note(note_of(self.folder)).views.items():
            path = self.folder / view
            version = next(item for item in versions if tuple(item["stamp"]) == stamp_of(path.stat()))
            content, then = json.loads(path.read_bytes()), hand_edits._model_at(store, version["applied"])
            assert comparable(view, content) == comparable(view, documents.document(then, view))

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)


StoreMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
test_any_history = StoreMachine.TestCase
