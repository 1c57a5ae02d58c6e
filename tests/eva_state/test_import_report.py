"""``import DIR``: says what it takes and what it cannot read, line by line; a dry run writes nothing; twice changes nothing."""

from __future__ import annotations

import json
import math

import pytest

from eva_env_base import StateError
from eva_state.__main__ import main
from eva_state.documents import BANDIT, BANS, KNOWLEDGE, QUEUE, RATINGS
from eva_state.import_report import dry_run, import_folder
from eva_state.store import StateStore
from tests.eva_state.conftest import KEY, make_entry, make_params

OTHER = "uni_pc|beta|24|5|30|832x480"


@pytest.fixture
def old(tmp_path):
    """Mixed forms, as years of use leave them."""
    folder = tmp_path / "old"
    folder.mkdir()

    def write(name, content):
        (folder / name).write_text(json.dumps(content, indent=4), encoding="utf-8-sig")

    write(
        RATINGS,
        {
            "/workspace/ComfyUI/output/a.mp4": {"rating": {"overall_quality": 8}, "timestamp": 5.0},
            "b.mp4": {"rating": {"overall": 6}},
            "gone.mp4": {"user_feedback": {"overall_rating": 3}},
            "high.mp4": {"rating": {"quality": 85}},
            "unreadable.mp4": {"rating": {"comments": "no number"}},
        },
    )
    write(
        KNOWLEDGE,
        {
            "history": [
                make_entry("/workspace/ComfyUI/output/a.mp4"),
                {key: value for key, value in make_entry("x").items() if key != "video"} | {"video_path": "b.mp4", "score": math.nan},
                {"score": 0.125},
                "text",
            ],
            "best_score": 0.9,
            "best_params": make_params(),
            "best_combo": ["euler", "simple"],
            "extra": 1,
        },
    )
    write(
        BANDIT, {"combo_stats": {KEY: {"total_reward": 3.5, "count": 7}, OTHER: {"N": "?"}}, "t": 12, "banned_combos": ["lcm|simple", []]}
    )
    write(QUEUE, {"pending": [{"video_id": "b.mp4", "mine": 1}, 7]})
    write(BANS, [{"combo": "lcm|simple", "why": "noise"}])
    write("reference_params.json", [make_params()])
    return folder


@pytest.fixture
def clips(tmp_path):
    found = tmp_path / "clips"
    found.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (found / name).write_bytes(b"x")
    return found


def text_of(reports):
    return "\n".join(line for report in reports for line in report.lines())


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_tells_everything_and_writes_nothing(old, tmp_path, clips):
    before = everything(tmp_path)
    text = text_of(dry_run(old, tmp_path / "state", clips))
    assert everything(tmp_path) == before and not (tmp_path / "state").exists()
    for line in (
        "manual_ratings.json: 4 ratings",
        "  1 named by a path: '/workspace/ComfyUI/output/a.mp4' is 'a.mp4'",
        "  3 rated in an older form: 'b.mp4': overall 6; 'gone.mp4': overall 3; 'high.mp4': overall 85",
        "  1 with an overall quality outside 1 to 10 (taken as they are): 'high.mp4': 85",
        "  2 ratings of clips that are no longer there (kept): 'gone.mp4'; 'high.mp4'",
        "  1 could not be read: 'unreadable.mp4': {'rating': {'comments': 'no number'}}",
        "knowledge.json: 3 history entries, 1 best clip, 1 unknown keys, kept as they are",
        "  1 entries named by 'video_path': 'b.mp4'",
        "  1 entries that name no clip (kept): {'score': 0.125}",
        "  1 could not be read: 'text'",
        "bandit_state.json: 1 combos with statistics, 1 count of tries, 1 bans",
        "review_queue.json: 1 queue items",
        "  1 could not be read: 7",
        "ban_history.json: 1 ban history items",
        "reference_params.json: 1 reference params",
    ):
        assert line in text.splitlines(), f"{line}\n-- not in --\n{text}"
    assert f"  2 could not be read: []; ('{OTHER}', {{'N': '?'}})" in text


def test_what_a_dry_run_says_is_what_is_taken(old, tmp_path, clips):
    said = text_of(dry_run(old, tmp_path / "state", clips))
    with StateStore(tmp_path / "state", "tool", video_dir=clips, publish_interval=3600) as store:
        done = text_of(import_folder(old, store, keep_in=tmp_path / "state" / "journal" / "legacy"))
        assert done == said
        assert {name: item["rating"]["overall_quality"] for name, item in store.ratings().items()} == {
            **{"a.mp4": 8, "b.mp4": 6, "gone.mp4": 3, "high.mp4": 85}
        }
        assert store.combo_stats()[KEY]["N"] == 7 and list(store.bans()) == ["lcm|simple|*|*|*|*"]
        assert store.stats()["best_score"] == 0.9 and len(store.history()) == 3
    kept = {path.name.rsplit(".", 1)[0] for path in (tmp_path / "state" / "journal" / "legacy").iterdir()}
    assert kept == {RATINGS, KNOWLEDGE, BANDIT, QUEUE, BANS}
    assert (tmp_path / "state" / "reference_params.json").read_bytes() == (old / "reference_params.json").read_bytes()
    assert json.loads((tmp_path / "state" / KNOWLEDGE).read_text())["extra"] == 1


def test_twice_changes_nothing(old, tmp_path, clips):
    with StateStore(tmp_path / "state", "tool", video_dir=clips, publish_interval=3600) as store:
        import_folder(old, store)
        applied, facts = dict(store._model.applied), (store.combo_stats(), store.ratings(), store.stats())
        text = text_of(import_folder(old, store))
        assert store._model.applied == applied and (store.combo_stats(), store.ratings(), store.stats()) == facts
    assert "manual_ratings.json: nothing new" in text and "4 ratings known here already: what is here stands" in text


def test_what_is_here_stands(old, tmp_path, clips):
    with StateStore(tmp_path / "state", "tool", video_dir=clips, publish_interval=3600) as store:
        store.rate("a.mp4", {"overall_quality": 1})
        store.generated("p", make_entry("a.mp4", 0.125), 0.125)
        import_folder(old, store)
        assert store.rating("a.mp4")["rating"] == {"overall_quality": 1} and store.entry("a.mp4")["score"] == 0.125
        assert store.rating("b.mp4")["rating"]["overall_quality"] == 6


def test_names_that_stand_twice_are_told(tmp_path, clips):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / RATINGS).write_text('{"a.mp4": {"overall": 3}, "a.mp4": {"overall": 4}}')
    assert "1 names that stand twice in one object (the last one counts, as in every JSON reader): a.mp4" in text_of(
        dry_run(tmp_path / "old", tmp_path / "state", clips)
    )


@pytest.mark.parametrize("text", ["", "{", "7", '"x"'])
def test_a_broken_file_stops_nothing_and_is_told(old, tmp_path, clips, text):
    (old / KNOWLEDGE).write_text(text)
    (old / "reference_params.json").write_text(text)
    found = {report.name: report for report in dry_run(old, tmp_path / "state", clips)}
    assert found[KNOWLEDGE].unreadable and found["reference_params.json"].unreadable and not found[KNOWLEDGE].taken
    assert found[RATINGS].taken["ratings"] == 4


def test_the_folder_itself(old, tmp_path, clips):
    """A dry run of the state's own folder before its first start, then the start."""
    said = dry_run(old, old, clips)
    with StateStore(old, "server", video_dir=clips) as store:
        assert store.stats()["total_rated"] == {report.name: report for report in said}[RATINGS].taken["ratings"]


def test_a_folder_without_any(tmp_path):
    with pytest.raises(StateError, match="holds none of"):
        dry_run(tmp_path, tmp_path / "state", None)


def test_the_command(old, tmp_path, clips, capfd):
    arguments = ["import", str(old), "--state-dir", str(tmp_path / "state"), "--video-dir", str(clips)]
    assert main([*arguments, "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert "4 ratings" in out and out.endswith("nothing was written (dry run)\n") and not (tmp_path / "state").exists()
    assert main(arguments) == 0
    assert f"taken into {tmp_path / 'state'}" in capfd.readouterr().out
    assert "gone.mp4" in json.loads((tmp_path / "state" / RATINGS).read_text())
