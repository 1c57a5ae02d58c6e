"""Settings, errors, logging and exit codes."""

from __future__ import annotations

import argparse
import errno
import io
import logging
from pathlib import Path

import pytest

from eva_env_base import (
    SETTINGS,
    LogFile,
    PromptRejected,
    StateLocked,
    UsageError,
    add_setting_flags,
    capabilities,
    has_module,
    resolve_settings,
    run_door,
    setup_logging,
)


def test_flag_wins_over_environment_and_environment_over_default(tmp_path: Path) -> None:
    env = {"SERVER_PORT": "9000", "WAN22_SYSTEM_DIR": str(tmp_path)}
    assert resolve_settings({"port": "9001"}, env).port == 9001
    assert resolve_settings({}, env).port == 9000
    assert resolve_settings({}, {}).port == 8189
    settings = resolve_settings({}, env)
    assert settings.origin["port"] == "SERVER_PORT"
    assert settings.origin["root"] == "WAN22_SYSTEM_DIR"
    assert settings.state_dir == tmp_path / "auto_state"
    assert settings.models_dir == tmp_path / "models"


def test_server_port_comes_before_port() -> None:
    assert resolve_settings({}, {"SERVER_PORT": "1", "PORT": "2"}).port == 1
    assert resolve_settings({}, {"PORT": "2"}).port == 2


def test_an_empty_variable_counts_as_unset() -> None:
    assert resolve_settings({}, {"SERVER_PORT": "", "COMFYUI_API": ""}).port == 8189


def test_api_list_is_split_trimmed_and_kept_in_order_without_repeats() -> None:
    settings = resolve_settings({"api": "http://a:1/, https://b/comfy ,http://a:1"}, {})
    assert settings.api == ("http://a:1", "https://b/comfy")


@pytest.mark.parametrize("api", ["127.0.0.1:8188", "ftp://x", "http://", ", ,"])
def test_a_wrong_api_is_named_with_its_origin(api: str) -> None:
    with pytest.raises(UsageError, match="COMFYUI_API"):
        resolve_settings({}, {"COMFYUI_API": api})


@pytest.mark.parametrize("port", ["x", "-1", "65536", "8189.5", "٣"])
def test_a_wrong_port_is_named_with_its_origin(port: str) -> None:
    with pytest.raises(UsageError, match="--port"):
        resolve_settings({"port": port}, {})


def test_host_is_public_on_a_pod_and_loopback_elsewhere() -> None:
    assert resolve_settings({}, {"RUNPOD_POD_ID": "abc"}).host == "0.0.0.0"
    assert resolve_settings({}, {}).on_loopback
    assert not resolve_settings({"host": "0.0.0.0"}, {}).on_loopback


def test_unknown_language_lists_those_that_ship() -> None:
    with pytest.raises(UsageError, match="en, uk"):
        resolve_settings({}, {"EVA_LANG": "xx"})


def test_describe_names_every_setting_and_hides_secrets() -> None:
    text = resolve_settings({"token": "sesame-open"}, {"OPENROUTER_API_KEY": "sk-secret"}).describe()
    for spec in SETTINGS:
        assert spec.name in text
    assert "sesame" not in text and "sk-secret" not in text


def test_flags_are_added_with_their_variable_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_setting_flags(parser, "root", "port")
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "WAN22_SYSTEM_DIR" in shown and "SERVER_PORT or PORT" in shown
    assert parser.parse_args(["--port", "5"]).port == "5"


@pytest.mark.parametrize(
    ("raised", "code"),
    [(None, 0), (UsageError("bad flag"), 2), (StateLocked("held"), 1), (PromptRejected("no"), 1), (KeyboardInterrupt(), 130)],
)
def test_run_door_gives_the_exit_code_and_one_line(raised: BaseException | None, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        if raised is not None:
            raise raised
        return 0

    assert run_door(main) == code
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert len(shown.splitlines()) == (0 if raised is None else 1)


def test_a_log_file_that_cannot_be_opened_is_reported_and_survived(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("", encoding="utf-8")
    before, level = list(logging.getLogger().handlers), logging.getLogger().level
    try:
        logging.getLogger().handlers = []
        setup_logging("INFO", in_the_way / "main.log")
        logging.getLogger("x").info("still here")
        shown = capsys.readouterr().err
        assert str(in_the_way) in shown and "still here" in shown
    finally:
        logging.getLogger().handlers = before
        logging.getLogger().setLevel(level)


def test_a_log_file_on_a_full_disk_is_reported_once_and_survived(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a line nor the closing of the log may end the work, or bury its one clear message under tracebacks."""

    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    handler = LogFile(tmp_path / "main.log")
    assert handler.stream is not None
    handler.stream.close()
    handler.stream = Full()  # type: ignore[assignment]
    for _ in range(3):
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "a line", (), None))
    handler.close()
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 1 and "main.log cannot be written: No space left on device" in shown


def test_capabilities_look_without_importing() -> None:
    assert has_module("json") and not has_module("no_such_module_here") and not has_module("no_such.module")
    assert set(capabilities()) == {"video", "opencv", "torch", "mediapipe", "openai", "sklearn"}


def test_budget_comes_from_flag_or_environment() -> None:
    from_environment = resolve_settings({}, {"EVA_BUDGET_DOLLARS": "3", "EVA_GPU_PRICE": "1.5"})
    assert (from_environment.budget_dollars, from_environment.gpu_price, from_environment.budget_minutes) == (3.0, 1.5, None)
    assert resolve_settings({"budget_minutes": "20"}, {"EVA_BUDGET_MINUTES": "5"}).budget_minutes == 20.0
    assert resolve_settings({}, {"EVA_GPU_PRICE": "1.5"}).gpu_price == 1.5  # a standing price limits nothing, and shows dollars
