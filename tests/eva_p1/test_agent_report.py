"""The bandit's report: made, published now and then, and shown in a terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from eva_p1.agent_report import REPORT_NAME, ReportWriter, bandit_report
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_state.keys import combo_key
from eva_state.store import StateStore
from qa.bandit_view import bandit_view
from qa.status import describe
from tests.agent_fakes import SMALL_SPACE, FakeComfy, make_agent

SPACE = {**SMALL_SPACE, "extra": {"shift": {"input": "ModelSamplingSD3.shift", "values": [3, 5], "own": 8}}}


def _taught() -> MultiDimensionalBandit:
    bandit = MultiDimensionalBandit(space=SPACE, seed=1)
    with bandit.bulk():
        for number, arm in enumerate(bandit.space.arms()):
            bad = (arm["sampler"], arm["scheduler"]) == ("euler", "beta")
            bandit.update(arm, (0.2 if bad else 0.7) + 0.01 * (number % 3), cost_minutes=2.0, video=f"{number}.mp4")
    return bandit


def test_report_says_what_is_best_why_what_next_and_what_to_ban() -> None:
    bandit = _taught()
    under_way = combo_key(bandit.select_params())
    report = bandit_report(bandit, {"minutes": 64.0, "limit": 100.0, "left": 36.0})
    json.dumps(report, allow_nan=False)
    assert len(report["best"]) == 10 and report["best"][0]["combo_key"].count("|") == 6
    assert report["best"][0]["low"] < report["best"][0]["mean"] < report["best"][0]["high"]
    assert 0 <= report["p_close"] <= 1 and report["next"]["why"] and report["advice"] and report["cost"]["minutes"] == 64.0
    assert [item["combo_key"] for item in report["under_way"]] == [under_way] and report["budget"]["left"] == 36.0
    suggested = report["ban_suggestions"][0]
    assert suggested["key"] == "euler|beta|*|*|*|*" and suggested["tries"] == 8 == suggested["arms"]
    assert abs(suggested["mean"] - 0.21) < 0.01 and suggested["best"] <= 0.22 and suggested["upper"] < 0.45
    assert "8 tries" in suggested["reason"]
    assert bandit.bans == {}


def test_the_report_fits_eighty_columns() -> None:
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(bandit_view(bandit_report(_taught())))
    text = out.getvalue()
    for word in (
        "Best combos as the model sees them",
        "Main effects",
        "Strongest interactions",
        "What comes next",
        "Worth a ban?",
        "euler|beta",
    ):
        assert word in text
    assert "0.02 of the true best with probability" in text and max(map(len, text.splitlines())) <= 80


def test_writer_publishes_what_is_new_but_not_too_often(tmp_path: Path) -> None:
    with StateStore(tmp_path / "state", role="agent") as store:
        written: list[dict[str, Any]] = []
        writer = ReportWriter(store, _taught(), tmp_path / "x.json", lambda _path, data: written.append(data), lambda: 5.0)
        assert writer.publish({"minutes": 1.0}) and written[0]["updated_at"] == 5.0 and written[0]["budget"] == {"minutes": 1.0}
        assert not writer.publish()  # nothing changed
        store.ban("euler|beta|*|*|*|*", reason="r", by="t")
        assert not writer.publish() and writer.publish(last=True)  # too early, but for the last one
        assert not writer.publish(last=True)


def test_a_disk_that_takes_nothing_is_said_once(tmp_path: Path, caplog: Any) -> None:
    def full(_path: Path, _data: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    with StateStore(tmp_path / "state", role="agent") as store:
        writer = ReportWriter(store, _taught(), tmp_path / REPORT_NAME, full, lambda: 5.0)
        assert not writer.publish()
        store.ban("euler|beta|*|*|*|*", reason="r", by="t")
        assert not writer.publish(last=True)
    assert len([record for record in caplog.records if "cannot be written" in record.getMessage()]) == 1


def test_an_agent_publishes_and_the_status_shows_the_same(tmp_path: Path) -> None:
    (tmp_path / "video").mkdir()
    with StateStore(tmp_path / "state", role="agent") as store:
        make_agent(store, [FakeComfy(tmp_path / "video")], tmp_path, space=SPACE).search_v4(4)
    report = json.loads((tmp_path / "state" / REPORT_NAME).read_text(encoding="utf-8"))
    assert report["tries"] == 4 and report["budget"]["minutes"] == 2.0 and report["cost"]["minutes"] == 2.0
    text = describe(tmp_path / "state")
    assert report["best"][0]["combo_key"] in text and report["next"]["why"] in " ".join(text.split())
    assert "Paid 2.0 GPU min so far" in text
