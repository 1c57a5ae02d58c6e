"""The doctor's single checks; whole reports are tested with the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eva_env_base import PROJECT_DIR
from eva_p2 import cli_patch
from eva_p2.cli_patch import FAIL, OK, WARN, describe_devices, folder_findings, python_findings, state_findings, workflow_findings
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
