"""What would be installed, and what must be left alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eva_env_base import EvaError, UsageError
from qa import installer
from qa.installer import Change, Target, describe_plan, missing, read_requirements


def target(opencv: str | None = None, **found: str) -> Target:
    return Target("python", {name.replace("_", "-"): version for name, version in found.items()}, opencv)


def test_the_requirements_file_names_what_it_must_and_core_leaves_the_heavy_ones_out() -> None:
    names = " ".join(read_requirements(installer.REQUIREMENTS))
    for name in ("numpy", "opencv", "scikit-learn", "scipy", "requests", "openai", "torch", "mediapipe"):
        assert name in names
    core = " ".join(read_requirements(installer.REQUIREMENTS, core_only=True))
    assert "numpy" in core and "torch" not in core and "mediapipe" not in core


def test_only_one_opencv_is_named() -> None:
    """Two distributions share the folder cv2 and break each other."""
    assert sum(line.startswith("opencv") for line in read_requirements(installer.REQUIREMENTS)) == 1


def test_what_is_there_in_the_right_version_is_not_asked_for() -> None:
    lines = ["numpy>=1.24", "scipy>=1.10", "av>=12"]
    assert missing(lines, target(numpy="2.2.0", scipy="1.9.0")) == ["scipy>=1.10", "av>=12"]


def test_any_opencv_that_imports_is_kept() -> None:
    assert missing(["opencv-contrib-python>=4.8"], target(opencv="4.10.0", opencv_python="4.10.0.84")) == []


def test_without_opencv_the_one_without_window_code_is_taken() -> None:
    assert missing(["opencv-contrib-python>=4.8"], target()) == ["opencv-contrib-python-headless>=4.8"]


def test_an_opencv_that_does_not_import_is_named_with_the_mend() -> None:
    with pytest.raises(EvaError, match="uninstall -y opencv-python"):
        missing(["opencv-contrib-python>=4.8"], target(opencv_python="4.10.0.84"))


def test_lines_for_other_pythons_are_skipped() -> None:
    assert missing(['mediapipe==0.10.21; python_version < "3.0"'], target()) == []


def test_mediapipe_is_installed_without_its_pins() -> None:
    usual, bare = installer._split(["numpy>=1.24", 'mediapipe==0.10.21; python_version < "3.13"'])
    assert usual == ["numpy>=1.24"] and bare[0].startswith("mediapipe")


def test_a_downgrade_is_shown_as_a_warning_with_the_way_out() -> None:
    changes = [Change("protobuf", "7.1.0", "6.33.6"), Change("av", None, "14.0"), Change("rich", "12.0", "13.1")]
    assert [change.kind for change in changes] == ["downgrade", "new", "upgrade"]
    text = describe_plan(changes, target())
    assert "WARNING: protobuf would be DOWNGRADED" in text and "--venv" in text and "7.1.0 -> 6.33.6" in text


def test_nothing_to_do_says_so() -> None:
    assert "Nothing to install" in describe_plan([], target())


def test_probe_sees_this_python() -> None:
    seen = installer.probe(sys.executable)
    assert "pytest" in seen.found


def test_probe_of_something_that_is_no_python_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EvaError, match="cannot run"):
        installer.probe(str(tmp_path / "nothing"))


def test_a_missing_requirements_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EvaError, match="is the clone complete"):
        read_requirements(tmp_path / "none.txt")


def test_a_venv_is_not_made_over_something_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(UsageError, match="something else"):
        installer.make_venv(tmp_path)
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "keep"


def test_a_named_chromium_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVA_CHROMIUM", str(tmp_path / "chromium"))
    with pytest.raises(UsageError, match="EVA_CHROMIUM"):
        installer.find_chromium()
