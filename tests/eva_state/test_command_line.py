"""``python -m eva_state``: every command as a person runs it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from eva_env_base import StateError, StateLocked
from eva_state.__main__ import main
from eva_state.documents import KNOWLEDGE, RATINGS
from eva_state.store import StateStore
from tests.eva_state.conftest import KEY, make_entry

PROJECT = Path(__file__).resolve().parents[2]
COMMENT = 'добре, "так"\nі ще; =1+1'


@pytest.fixture
def clips(tmp_path):
    found = tmp_path / "clips"
    found.mkdir()
    (found / "a.mp4").write_bytes(b"x")
    return found


@pytest.fixture
def state(tmp_path, clips):
    """A state with one of everything, closed."""
    folder = tmp_path / "state"
    with StateStore(folder, "agent", video_dir=clips, publish_interval=3600) as agent:
        for number, name in enumerate(("a.mp4", "b.mp4", "c.mp4")):
            agent.submitted({"prompt_id": f"p{number}", "api": "http://x", "prompt": "long " * 50})
            agent.generated(
                f"p{number}", make_entry(name, 0.5, steps=10 + number) | {"seed": 7, "metrics": {"blur": 0.5, f"m{number}": [1]}}, 0.5, 2.5
            )
        agent.submitted({"prompt_id": "waiting", "api": "http://x"})
        agent.failed("px", {"kind": "oom", "params": {}, "combo_key": None, "reason": "no memory", "cost_minutes": 1})
    with StateStore(folder, "server", video_dir=clips, publish_interval=3600) as server:
        server.rate(
            "a.mp4",
            {"overall_quality": 8, "creativity": 5, "comments": COMMENT, "defects": ["blur", "x;y"], "is_reference": True, "own": 1},
        )
        server.rate("gone/ß.mp4", {"overall_quality": 3})
        server.undo(server.ban(KEY, reason="r", by="me").event_id)
        server.ban_clip("c.mp4", KEY.replace("|20|", "|12|"), reason="bad", by="QA")
        server.compare("a.mp4", "b.mp4", "left")
    return folder


@pytest.fixture
def eva(state, clips, capfd):
    """Runs a command on the state: (exit code, standard output, standard error)."""

    def call(*arguments):
        capfd.readouterr()
        code = main([arguments[0], "--state-dir", str(state), "--video-dir", str(clips), *map(str, arguments[1:])])
        out = capfd.readouterr()
        return code, out.out, out.err

    return call


# ---------------------------------------------------------------- export
def test_export_as_csv(eva, tmp_path):
    code, out, err = eva("export", "--csv", "-")
    assert code == 0 and err == "4 clips\n"
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(out, newline=""))}
    assert list(rows) == ["a.mp4", "b.mp4", "c.mp4", "gone/ß.mp4"]
    a = rows["a.mp4"]
    assert (a["exists"], rows["b.mp4"]["exists"]) == ("true", "false")
    assert (a["prompt"], a["seed"], a["sampler"], a["cfg_scale"], a["steps"], a["width"]) == (
        "A lake at dawn",
        "7",
        "euler",
        "3.5",
        "10",
        "832",
    )
    assert (a["combo_key"], a["score"], a["reward"]) == (KEY.replace("|20|", "|10|"), "0.5", repr(7 / 9))
    assert (a["metric_blur"], a["metric_m0"], a["metric_m1"]) == ("0.5", "[1]", "")
    assert (a["overall_quality"], a["creativity"], a["motion_quality"]) == ("8", "5", "")
    assert (a["is_reference"], a["banned"], a["defects"], a["comments"]) == ("true", "false", "blur; x;y", COMMENT)
    assert a["timestamp"] == "1700000000.5" and len(a["generated_at"]) == len(a["rated_at"]) == 19 and a["cost_minutes"] == "2.5"
    assert json.loads(a["other_rating"]) == {"own": 1}
    assert (rows["c.mp4"]["banned"], rows["c.mp4"]["banned_by"]) == ("true", KEY.replace("|20|", "|12|"))
    assert rows["gone/ß.mp4"]["overall_quality"] == "3" and rows["gone/ß.mp4"]["score"] == ""
    code, out_file, _ = eva("export", "--csv", tmp_path / "t.csv")
    assert (code, out_file) == (0, "") and (tmp_path / "t.csv").read_bytes().decode() == out


def test_export_as_jsonl(eva):
    code, out, _ = eva("export", "--jsonl", "-")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [row["name"] for row in rows] == ["a.mp4", "b.mp4", "c.mp4", "gone/ß.mp4"]
    assert rows[0]["rating"]["own"] == 1 and rows[0]["metrics"] == {"blur": 0.5, "m0": [1]} and rows[0]["params"]["steps"] == 10
    assert rows[1]["rating"] is None and rows[1]["reward"] == 0.5 and rows[3]["score"] is None


def test_an_export_that_cannot_be_written_says_so(eva, tmp_path, state):
    with pytest.raises(StateError, match="no folder here"):
        eva("export", "--csv", tmp_path / "no folder here" / "x.csv")
    assert not list(tmp_path.glob(".*.tmp"))


def test_the_action_history(eva):
    code, out, _ = eva("actions")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 6
    assert "server" in lines[0] and "'a.mp4' overall 8" in lines[0]
    assert "me" in lines[2] and KEY in lines[2] and "UNDONE by" in lines[2] and "undo" in lines[3]
    assert "QA" in lines[4] and "'c.mp4'" in lines[4] and "(bad)" in lines[4] and "winner left" in lines[5]
    items = [json.loads(line) for line in eva("actions", "--jsonl")[1].splitlines()]
    assert [item["type"] for item in items] == ["rating", "rating", "ban", "undo", "ban", "compare"]
    assert items[2]["undone"] and items[2]["undone_by"] == items[3]["event_id"] and not items[4]["undone"]


def test_reading_commands_work_while_a_server_runs(eva, state):
    with StateStore(state, "server"):
        assert eva("export", "--jsonl", "-")[0] == eva("actions")[0] == eva("verify")[0] == 0


# ---------------------------------------------------------------- rebuild
def test_rebuild_takes_hand_edits_in(eva, state):
    content = json.loads((state / RATINGS).read_text())
    content["b.mp4"] = {"rating": {"overall_quality": 4}}
    (state / RATINGS).write_text(json.dumps(content))
    (state / KNOWLEDGE).write_bytes(b"{torn")
    code, out, _ = eva("rebuild")
    assert code == 0 and f"set aside: {state / KNOWLEDGE}.broken-" in out
    assert json.loads((state / RATINGS).read_text())["b.mp4"]["rating"]["overall_quality"] == 4
    assert len(json.loads((state / KNOWLEDGE).read_text())["history"]) == 3
    assert eva("verify")[0] == 0


def test_rebuild_without_the_edits(eva, state):
    (state / RATINGS).write_text("{}")
    code, out, _ = eva("rebuild", "--discard-edits")
    assert code == 0 and set(json.loads((state / RATINGS).read_text())) == {"a.mp4", "gone/ß.mp4", "c.mp4"}
    (aside,) = state.glob(f"{RATINGS}.discarded-*")
    assert aside.read_text() == "{}" and str(aside) in out


def test_rebuild_is_refused_while_a_server_publishes(eva, state):
    before = (state / RATINGS).stat().st_mtime_ns
    with StateStore(state, "server"), pytest.raises(StateError, match="stop server and agent"):
        eva("rebuild", "--discard-edits")
    assert (state / RATINGS).stat().st_mtime_ns == before


# ---------------------------------------------------------------- backup
def test_a_backup_unpacked_is_the_same_state(eva, state, tmp_path, clips):
    (state / "reference_params.json").write_text("[]")
    with StateStore(state, "server"):  # while it runs
        code, out, _ = eva("backup", tmp_path / "b.zip")
    assert code == 0 and "sound" in out
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "restored")
    with StateStore(state, "reader") as old, StateStore(tmp_path / "restored", "server", video_dir=clips) as new:
        assert list(old.iter_actions()) == list(new.iter_actions()) and old.ratings() == new.ratings() and old.history() == new.history()
        assert new.rate("a.mp4", {"overall_quality": 5}, id=old.actions(1)[0]["event_id"] + "x")
    assert (tmp_path / "restored" / "reference_params.json").exists()
    with pytest.raises(StateError, match="exists already"):
        eva("backup", tmp_path / "b.zip")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_backup_of_a_damaged_state_is_made_and_says_so(eva, state, tmp_path):
    segment = state / "journal" / "server" / "000001.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b"overall_quality", b"overall_qualitY", 1))
    code, out, _ = eva("backup", tmp_path / "b.zip")
    assert code == 1 and "checksum" in out and (tmp_path / "b.zip").exists()


# ---------------------------------------------------------------- as a process
def run(*arguments, **options):
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "eva_state", *map(str, arguments)],
        cwd=PROJECT,
        capture_output=True,
        encoding="utf-8",
        env=environment,
        **options,
    )


def test_exit_codes(tmp_path, state):
    assert run().returncode == 2
    assert run("export", "--state-dir", state).returncode == 2
    missing = run("verify", "--state-dir", tmp_path / "none")
    assert missing.returncode == 1 and missing.stderr.startswith("error: ") and "--state-dir" in missing.stderr
    assert run("import", tmp_path / "none", "--state-dir", state).returncode == 2
    assert not (tmp_path / "none").exists()
    good = run("verify", "--state-dir", state)
    assert good.returncode == 0 and good.stdout.splitlines()[-1].startswith("sound: ") and good.stderr == ""
    with StateStore(state, "agent"):
        busy = run("compact", "--state-dir", state)
    assert busy.returncode == 1 and "another agent already works on" in busy.stderr


def test_a_reader_that_goes_away_is_no_error(state):
    ended = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m eva_state actions --state-dir {state} | head -c 1; echo ${{PIPESTATUS[0]}}"],
        cwd=PROJECT,
        capture_output=True,
        encoding="utf-8",
    )
    assert ended.stdout.split()[-1][-1] == "0" and ended.stderr == ""


def test_every_command_has_help_and_prints_settings(state):
    for command in ("export --csv -", "actions", "verify", "compact", "rebuild", "import .", "backup x.zip"):
        name, *rest = command.split()
        assert run(name, "--help").returncode == 0
        shown = run(name, *rest, "--state-dir", state, "--print-settings")
        assert shown.returncode == 0 and str(state) in shown.stdout


def test_a_second_tool_is_refused(eva, state, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / RATINGS).write_text("{}")
    with StateStore(state, "tool"), pytest.raises(StateLocked, match="another tool"):
        eva("import", tmp_path / "old")
