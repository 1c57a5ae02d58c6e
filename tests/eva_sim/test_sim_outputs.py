"""File names are chosen as ComfyUI chooses them."""

from __future__ import annotations

import time

import pytest

from eva_sim.outputs import OutsideOutput, expand_prefix, next_name, spoil


def test_the_next_name_follows_the_highest(tmp_path):
    for name in ("a_00001_.mp4", "a_00007_.mp4", "ab_00050_.mp4", "a_x_.mp4", "A_00009_.png"):
        (tmp_path / name).touch()
    assert next_name(tmp_path, "a", "_.mp4")[1:] == ("a_00010_.mp4", "")
    (tmp_path / "A_00009_.png").unlink()
    assert next_name(tmp_path, "a", "_.mp4")[1] == "a_00008_.mp4"
    assert next_name(tmp_path, "new", "_.mp4")[1] == "new_00001_.mp4"


def test_folders_in_the_prefix_become_the_subfolder(tmp_path):
    path, name, subfolder = next_name(tmp_path, "video/deep/c", "_.mp4")
    assert (name, subfolder) == ("c_00001_.mp4", "video/deep") and path == tmp_path / "video" / "deep" / name
    assert path.parent.is_dir()


@pytest.mark.parametrize("prefix", ["../out", "a/../../out", "/etc/out"])
def test_outside_is_refused(tmp_path, prefix):
    with pytest.raises(OutsideOutput, match="outside the output folder is not allowed"):
        next_name(tmp_path, prefix, "_.mp4")


def test_odd_names_work(tmp_path):
    for prefix in ("with space", 'quote\'s "x"', "\u043a\u043b\u0456\u043f", "dots.in.name", "[brackets]*"):
        assert next_name(tmp_path, prefix, "_.mp4")[1] == f"{prefix}_00001_.mp4"


def test_the_server_expands_its_own_marks():
    assert expand_prefix("%width%x%height%/%year%", 320, 192) == f"320x192/{time.localtime().tm_year}"
    assert expand_prefix("%Node.width%", 1, 1) == "%Node.width%"  # that one is the frontend's


def test_spoiling(tmp_path):
    path = tmp_path / "a"
    for mode, length in (("truncated", 40), ("zero", 0), ("garbage", 100)):
        path.write_bytes(bytes(range(100)))
        spoil(path, mode)
        assert path.stat().st_size == length
