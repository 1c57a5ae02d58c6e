from __future__ import annotations

import logging
import os

import pytest

from eva_state.live import age_of, read_live, write_live


def test_a_live_file_is_replaced_whole(tmp_path):
    path = tmp_path / "agent_status.json"
    assert read_live(path) is None and age_of(path, 0.0) is None
    write_live(path, {"iteration": 1, "prompt": "озеро"})
    write_live(path, {"iteration": 2})
    assert read_live(path) == {"iteration": 2}
    os.utime(path, (1000, 1000))
    assert age_of(path, 1012.5) == 12.5
    assert [item.name for item in tmp_path.iterdir()] == ["agent_status.json"]


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"])
def test_an_unreadable_live_file_is_reported_and_absent(tmp_path, caplog, content):
    path = tmp_path / "agent_status.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert read_live(path) is None
    assert "agent_status.json" in caplog.text


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    with pytest.raises(OSError):
        write_live(tmp_path / "none" / "x.json", {})
    with pytest.raises(ValueError):
        write_live(tmp_path / "x.json", {"x": float("nan")})
