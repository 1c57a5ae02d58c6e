"""The doctor's single checks; whole reports are tested with the command line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eva_env_base import PROJECT_DIR
from eva_p2 import cli_patch
from eva_p2.cli_patch import FAIL, OK, WARN, Finding, describe_devices, folder_findings, python_findings, state_findings, workflow_findings
from eva_state.live import write_live


@pytest.mark.parametrize(("free", "level"), [(50, OK), (3, WARN), (0.5, FAIL)])
def test_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, level: str) -> None:
    usage = type("Usage", (), {"free": int(free * 1024**3)})
    monkeypatch.setattr(cli_patch.shutil, "disk_usage", lambda _folder: usage)
    (finding,) = folder_findings("clips", tmp_path, "--video-dir")
    assert finding.level == level and f"{free:.1f} GB" in finding.text
    assert bool(finding.mend) is (level != OK)


def test_a_folder_that_cannot_be_written_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (finding,) = folder_findings("clips", tmp_path / "file" / "sub", "--video-dir")
    assert finding.level == FAIL and "--video-dir" in finding.mend


def test_a_folder_that_takes_no_probe_is_a_finding(tmp_path: Path) -> None:
    """Not a traceback, also where taking the probe away again fails for the same reason."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    settings: Any = SimpleNamespace(video_dir=tmp_path / "file")
    finding = cli_patch._output_folder(SimpleNamespace(shown_url="http://x"), settings)  # type: ignore[arg-type]
    assert finding.level == FAIL and "--video-dir" in finding.mend


def test_long_findings_go_on_below_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding(FAIL, "workflow", "a word " * 30, "mend it " * 20)]
    monkeypatch.setattr(cli_patch, "examine", lambda *_args: iter(found))
    lines: list[str] = []
    nothing: Any = None
    assert cli_patch.run_doctor(nothing, nothing, nothing, out=lines.append, width=80) == 1
    shown = "\n".join(lines).splitlines()
    assert max(map(len, shown)) <= 80 and sum(line.startswith(" " * 18) for line in shown) >= 5
    lines.clear()
    cli_patch.run_doctor(nothing, nothing, nothing, out=lines.append, width=0)
    assert len(lines) == 3, "a file gets each finding in one line"


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_patch, "has_module", lambda name: name != "av")
    assert any(finding.level == FAIL and "lacks av" in finding.text for finding in python_findings())
    monkeypatch.setattr(cli_patch, "has_module", lambda name: name != "torch")
    findings = list(python_findings())
    assert all(finding.level == OK for finding in findings) and any("torch" in finding.text for finding in findings)


def test_a_running_agent_is_seen(tmp_path: Path) -> None:
    import time

    write_live(tmp_path / "agent_status.json", {"pid": 4711, "state": "running", "updated_at": time.time()})
    assert any(finding.level == WARN and "4711" in finding.text for finding in state_findings(tmp_path))
    write_live(tmp_path / "agent_status.json", {"pid": 4711, "state": "running", "updated_at": time.time() - 60})
    assert all(finding.level == OK for finding in state_findings(tmp_path))


def test_the_shipped_workflow_passes_and_a_half_one_does_not(tmp_path: Path) -> None:
    (finding,) = workflow_findings(PROJECT_DIR / "video_wan2_2_14B_t2v.json")
    assert finding.level == OK and "sampler" in finding.text
    graph = json.loads((PROJECT_DIR / "video_wan2_2_14B_t2v.json").read_text(encoding="utf-8"))
    half = tmp_path / "half.json"
    half.write_text(json.dumps({key: node for key, node in graph.items() if node["class_type"] != "SaveVideo"}), encoding="utf-8")
    (finding,) = workflow_findings(half)
    assert finding.level == FAIL and "save" in finding.text and finding.mend


def test_devices_are_described() -> None:
    device = {"name": "cuda:0 NVIDIA L40S", "type": "cuda", "vram_total": 44.5 * 1024**3, "vram_free": 40 * 1024**3}
    assert describe_devices([device]) == "cuda:0 NVIDIA L40S, 44.5 GB, 40.0 GB free"
    assert describe_devices([{"type": "cpu"}]) == "cpu"
    assert describe_devices([]) == "no device named"


@pytest.mark.parametrize(("drawn", "level"), [(True, OK), (False, FAIL)])
def test_a_state_with_clips_of_the_other_kind_must_be_mended(tmp_path: Path, drawn: bool, level: str) -> None:
    from eva_env_base import resolve_settings
    from eva_p1.comfy_client import ComfyClient
    from eva_p1.search_space import default_space
    from eva_sim.handle import running_simulator
    from eva_state.store import StateStore
    from qa.cli import build_parser

    params = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 2, "steps": 8, "width": 640, "height": 480}
    with StateStore(tmp_path / "state", role="agent") as store:
        store.submitted({"prompt_id": "1", "params": params, "combo_key": "euler|simple|16|2|8|640x480"})
        entry = {"video": "a.mp4", "timestamp": 1.0, "params": params, "metrics": {}, "score": 0.5}
        store.generated("1", {**entry, **({"simulator": True} if drawn else {})}, 0.5, 0.1)
    folders = ["--state-dir", str(tmp_path / "state"), "--video-dir", str(tmp_path / "clips")]
    (tmp_path / "clips").mkdir()
    with running_simulator(tmp_path / "clips", port=0) as sim, ComfyClient(sim.url) as client:
        settings = resolve_settings(build_parser().parse_args(folders))
        findings = list(cli_patch.server_findings(client, settings, PROJECT_DIR / "video_wan2_2_14B_t2v.json", default_space()))
    found = [finding for finding in findings if finding.topic == "state"]
    assert [finding.level for finding in found] == ([] if level == OK else [FAIL])
    assert all("--state-dir" in finding.mend and "a real ComfyUI" in finding.text for finding in found)
