"""The command line: exit codes, messages, and whole runs as processes on the simulator."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, PROJECT_DIR, UsageError, WorkflowError
from eva_sim.handle import SimHandle, running_simulator
from eva_state.store import StateStore
from qa.cli import build_parser, check_arguments, main
from tests.agent_fakes import until

SPACE = {
    "sampler": ["euler", "dpmpp_2m"],
    "scheduler": ["simple", "karras"],
    "fps": [16],
    "cfg_scale": [2, 5],
    "steps": [4, 8, 12],
    "size": [[256, 160]],
}
PARAMS = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 2, "steps": 8, "width": 256, "height": 160}


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    space = tmp_path / "space.json"
    space.write_text(json.dumps(SPACE), encoding="utf-8")
    return ["--state-dir", str(tmp_path / "state"), "--video-dir", str(tmp_path / "video"), "--space", str(space), "--seconds", "1"]


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[SimHandle]:
    with running_simulator(tmp_path / "video", speed=200) as running:
        yield running


def start(*arguments: str, door: str = "run_agent_qa.py") -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COMFY", "EVA_", "WAN22"))}
    pipe = subprocess.PIPE
    command = [sys.executable, *door.split(), *arguments]
    return subprocess.Popen(command, cwd=PROJECT_DIR, stdout=pipe, stderr=pipe, text=True, encoding="utf-8", env=environment)


def run(*arguments: str, door: str = "run_agent_qa.py") -> tuple[int, str, str]:
    process = start(*arguments, door=door)
    try:
        out, err = process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def knowledge(tmp_path: Path) -> list[dict[str, Any]]:
    return json.loads((tmp_path / "state" / "knowledge.json").read_text(encoding="utf-8"))["history"]


def test_a_run_makes_clips_and_leaves_everything_in_the_state(tmp_path: Path, sim: SimHandle, folders: list[str]) -> None:
    code, out, err = run("--api", sim.url, "--iterations", "3", "--seed", "1", *folders)
    assert (code, err) == (EXIT_OK, ""), out
    assert "3 scored, 0 failed" in out and "SIMULATOR" in out and "blur" in out
    assert len(knowledge(tmp_path)) == 3
    status = json.loads((tmp_path / "state" / "agent_status.json").read_text(encoding="utf-8"))
    assert (status["state"], status["iteration"], status["iterations"], status["simulator"]) == ("stopped", 3, 3, True)
    logs = tmp_path / "state" / "logs_improved"
    assert {path.name for path in logs.iterdir()} >= {"main.log", "analysis.log", "training.log", "merged_analysis.jsonl"}
    lines = [json.loads(line) for line in (logs / "merged_analysis.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(line["score"] for line in lines) == sorted(entry["score"] for entry in knowledge(tmp_path))
    assert all(line["deep"] is None for line in lines)
    for entry in knowledge(tmp_path):
        kept = [entry["pictures"][name] for name in ("thumbnail", "filmstrip", "scrub_strip", "series")]
        assert entry["analysis_version"] and all((tmp_path / "state" / path).is_file() for path in kept), entry


def test_reference_only_tries_nothing_else(tmp_path: Path, sim: SimHandle, folders: list[str]) -> None:
    reference = tmp_path / "mine.json"
    reference.write_text(json.dumps({"combos": [{"params": PARAMS}, {**PARAMS, "steps": 12}]}), encoding="utf-8")
    code, out, _err = run("--api", sim.url, "--iterations", "4", "--reference-only", "--reference-file", str(reference), *folders)
    assert code == EXIT_OK, out
    assert {entry["params"]["steps"] for entry in knowledge(tmp_path)} <= {8, 12}
    assert {entry["params"]["sampler"] for entry in knowledge(tmp_path)} == {"euler"}


def test_the_first_ctrl_c_ends_in_order_and_the_next_run_picks_up(tmp_path: Path, folders: list[str]) -> None:
    with running_simulator(tmp_path / "video", job_seconds=4) as sim:
        process = start("--api", sim.url, *folders, door="-m qa.cli")
        until(lambda: sim.stats()["queue_remaining"] == 2, "one prompt running and one waiting")
        process.send_signal(signal.SIGINT)
        out, _err = process.communicate(timeout=30)
        assert process.returncode == EXIT_INTERRUPTED and "Ctrl-C" in out
        assert sim.stats()["queue_remaining"] == 1, "the waiting prompt was taken back, the running one goes on"
        code, out, _err = run("--api", sim.url, "--iterations", "2", *folders)
        assert code == EXIT_OK and "picked up" in out
        assert sim.stats()["jobs_done"] == 2 and len(knowledge(tmp_path)) == 2


def test_nothing_is_paid_for_twice_after_a_kill(tmp_path: Path, folders: list[str]) -> None:
    with running_simulator(tmp_path / "video", job_seconds=1) as sim:
        process = start("--api", sim.url, *folders)
        until(lambda: sim.stats()["jobs_done"] >= 1 and sim.stats()["queue_remaining"] == 2, "a clip, and two prompts in the queue")
        process.kill()
        process.communicate()
        code, out, _err = run("--api", sim.url, "--iterations", "4", *folders)
        assert code == EXIT_OK, out
        with StateStore(tmp_path / "state", role="reader") as store:
            assert store.in_flight() == [] and store.failures() == []
            prompts = [entry["prompt_id"] for entry in store.history()]
        assert len(prompts) == len(set(prompts)) == sim.stats()["jobs_done"], "every job of the server is one clip of the state"


def test_status_reads_while_an_agent_runs_and_a_second_agent_is_refused(tmp_path: Path, folders: list[str]) -> None:
    with running_simulator(tmp_path / "video", job_seconds=1) as sim:
        process = start("--api", sim.url, *folders)
        try:
            until(lambda: sim.stats()["jobs_done"] >= 1, "a clip")
            until(lambda: "is running" in run("--status", *folders)[1], "the status says that an agent runs")
            code, out, err = run("--status", *folders)
            assert (code, err) == (EXIT_OK, "") and "Best combos" in out and "in flight" in out and "bet on" in out.lower()
            code, _out, err = run("--api", sim.url, "--iterations", "1", *folders)
            assert code == EXIT_FAILED and err.startswith("error:") and "agent" in err
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        assert process.returncode == EXIT_INTERRUPTED


def test_status_without_a_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--status", "--state-dir", str(tmp_path / "none")]) == EXIT_OK
    assert "nothing was tried" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_the_doctor_passes_a_good_setup_and_names_what_is_wrong(tmp_path: Path, sim: SimHandle, folders: list[str]) -> None:
    code, out, err = run("--doctor", "--api", sim.url, *folders)
    assert (code, err) == (EXIT_OK, "")
    assert "is the output folder of" in out and "SIMULATOR" in out and "Ready to run" in out
    code, out, _err = run("--doctor", "--api", f"{sim.url},http://127.0.0.1:1", *folders)
    assert code == EXIT_FAILED and "FAIL  server" in out and "1 thing to mend" in out
    assert not list((tmp_path / "video").glob("eva-doctor*")), "the probe file is taken away"


def test_the_doctor_names_missing_models_and_a_foreign_output_folder(tmp_path: Path, sim: SimHandle, folders: list[str]) -> None:
    graph = json.loads((PROJECT_DIR / "video_wan2_2_14B_t2v.json").read_text(encoding="utf-8"))
    loader = next(node for node in graph.values() if node["class_type"] == "UNETLoader")
    loader["inputs"]["unet_name"] = "not_there.safetensors"
    workflow = tmp_path / "mine.json"
    workflow.write_text(json.dumps(graph), encoding="utf-8")
    elsewhere = [*folders[:2], "--video-dir", str(tmp_path / "elsewhere"), *folders[4:]]
    code, out, _err = run("--doctor", "--api", sim.url, "--workflow", str(workflow), *elsewhere)
    assert code == EXIT_FAILED and "not_there.safetensors" in out
    assert "is not the output folder" in out and "--video-dir" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--iterations", "-1"], "--iterations -1"),
        (["--seconds", "0"], "--seconds 0"),
        (["--max-failures", "-2"], "--max-failures -2"),
        (["--job-timeout", "-2"], "--job-timeout -2"),
        (["--job-timeout", "nan"], "--job-timeout nan"),
    ],
)
def test_wrong_values_are_named(arguments: list[str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        check_arguments(build_parser().parse_args(arguments))


def test_wrong_files_are_named_before_anything_happens(tmp_path: Path) -> None:
    folders = ["--state-dir", str(tmp_path / "state"), "--video-dir", str(tmp_path / "video"), "--iterations", "1"]
    broken = tmp_path / "broken.json"
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(WorkflowError, match="no such file"):
        main(["--workflow", str(tmp_path / "none.json"), *folders])
    with pytest.raises(WorkflowError, match="is not JSON"):
        main(["--workflow", str(broken), *folders])
    with pytest.raises(UsageError, match=r"--space.*is not JSON"):
        main(["--space", str(broken), *folders])
    with pytest.raises(UsageError, match=r"marked as reference.*there is no reference file reference_params\.json"):
        main(["--reference-only", *folders])
    with pytest.raises(UsageError, match="cannot be read as JSON"):
        main(["--reference-file", str(broken), *folders])
    assert not (tmp_path / "state").exists()


def test_exit_codes_of_wrong_usage(tmp_path: Path) -> None:
    code, _out, err = run("--reference-only", "--state-dir", str(tmp_path / "state"), "--video-dir", str(tmp_path / "video"))
    assert code == EXIT_USAGE and err.startswith("error: no clip of") and "reference file" in err
    assert run("--no-such-flag")[0] == EXIT_USAGE
    code, out, _err = run("--help")
    assert code == EXIT_OK and all(flag in out for flag in ("--api", "--doctor", "--status", "--reference-file", "--train-improved"))


def test_a_run_that_cannot_go_on_says_why_once(tmp_path: Path, sim: SimHandle, folders: list[str]) -> None:
    graph = json.loads((PROJECT_DIR / "video_wan2_2_14B_t2v.json").read_text(encoding="utf-8"))
    next(node for node in graph.values() if node["class_type"] == "VAEDecode")["class_type"] = "NoSuchDecode"
    workflow = tmp_path / "mine.json"
    workflow.write_text(json.dumps(graph), encoding="utf-8")
    code, out, err = run("--api", sim.url, "--workflow", str(workflow), *folders)
    assert code == EXIT_FAILED and err.startswith("error:") and "registry.comfy.org" in err
    assert "NoSuchDecode" not in out and "scored" not in out
    assert "NoSuchDecode" in (tmp_path / "state" / "logs_improved" / "main.log").read_text(encoding="utf-8")


def test_a_run_that_breaks_off_tells_what_it_gave(tmp_path: Path, folders: list[str]) -> None:
    with running_simulator(tmp_path / "video", speed=200, faults=["error"]) as sim:
        code, out, err = run("--api", sim.url, "--max-failures", "1", *folders)
    assert code == EXIT_FAILED and err.count("in a row failed") == 1 and "in a row failed" not in out
    assert "1 failed" in out and "spent" in out


def test_settings_are_printed_and_secrets_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-settings", "--openrouter-key", "sk-secret"]) == EXIT_OK
    out = capsys.readouterr().out
    assert "sk-secret" not in out and "--openrouter-key" in out


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--budget-minutes", "0"], "--budget-minutes"),
        (["--budget-minutes", "soon"], "--budget-minutes"),
        (["--budget-minutes", "nan"], "--budget-minutes"),
        (["--budget-dollars", "-1", "--gpu-price", "2"], "--budget-dollars"),
        (["--budget-dollars", "3"], "--gpu-price"),
        (["--gpu-price", "2"], "--budget-dollars"),
        (["--gpu-price", "2", "--budget-minutes", "3"], "--budget-dollars"),
        (["--budget-dollars", "3", "--gpu-price", "inf"], "--gpu-price"),
    ],
)
def test_a_wrong_budget_is_wrong_usage(flags: list[str], named: str, folders: list[str]) -> None:
    with pytest.raises(UsageError, match=re.escape(named)) as wrong:
        main([*flags, *folders])
    assert wrong.value.exit_code == EXIT_USAGE


def test_a_budget_ends_a_run_on_the_simulator(tmp_path: Path, sim: SimHandle, folders: list[str]) -> None:
    code, out, err = run("--api", sim.url, "--iterations", "60", "--budget-dollars", "0.05", "--gpu-price", "60", "--seed", "1", *folders)
    assert (code, err) == (EXIT_OK, ""), out
    made = knowledge(tmp_path)
    paid = sum(entry["cost_minutes"] for entry in made)
    assert 0 < len(made) <= 60 and paid <= 0.05 * 1.5
    assert "spent " in out and "($0.0" in out and " left" in out


def test_a_dimension_of_ones_own_on_the_simulator(tmp_path: Path, sim: SimHandle, folders: list[str]) -> None:
    flags = ["--dimension", "shift=ModelSamplingSD3.shift:3,5", "--levels", "steps-=12", "--levels", "cfg_scale+=3.5"]
    code, out, err = run("--api", sim.url, "--iterations", "3", "--seed", "1", *flags, *folders)
    assert (code, err) == (EXIT_OK, ""), out
    made = knowledge(tmp_path)
    assert len(made) == 3 and all(entry["params"]["extra"]["shift"] in (3, 5) and entry["params"]["steps"] != 12 for entry in made)
    assert all(f"|shift={entry['params']['extra']['shift']}" in entry["combo_key"] for entry in made)
    with StateStore(tmp_path / "state", role="reader") as store:
        space = store.space()
    assert space is not None and space["extra"]["shift"]["own"] == 8 and space["cfg_scale"] == [2, 5, 3.5]
    code, out, _ = run("--status", *folders)
    assert code == EXIT_OK and "|shift=" in out
    code, out, err = run("--api", sim.url, "--iterations", "1", "--dimension", "shift=ModelSamplingSD3.shift:5,1000", *folders)
    assert code == EXIT_FAILED and "the largest value allowed, and the nearest, is 100" in err
    code, out, _ = run("--api", sim.url, "--doctor", "--dimension", "shift=ModelSamplingSD3.shift:5,1000", *folders)
    assert code == EXIT_FAILED and "the nearest, is 100" in " ".join(out.split())


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--dimension", "shift=ModelSamplingSD3.shif:5,8"], "nearest: shift"),
        (["--dimension", "shift"], "--dimension"),
        (["--dimension", "cfg=KSamplerAdvanced.cfg:5"], "--dimension"),
        (["--levels", "steps=none"], "--levels"),
        (["--levels", "speed=5"], "--levels"),
        (["--levels", "sampler-=euler,dpmpp_2m"], "--levels"),
    ],
)
def test_a_wrong_dimension_or_level_is_wrong_usage(flags: list[str], named: str, folders: list[str]) -> None:
    with pytest.raises(UsageError, match=re.escape(named)) as wrong:
        main([*flags, *folders])
    assert wrong.value.exit_code == EXIT_USAGE


def test_a_prior_is_exported_and_started_from(tmp_path: Path, sim: SimHandle, folders: list[str]) -> None:
    assert run("--api", sim.url, "--iterations", "2", *folders)[0] == EXIT_OK
    prior = tmp_path / "prior.json"
    code, out, err = run("--export-prior", str(prior), *folders)
    assert (code, err) == (EXIT_OK, "") and "2 combos" in out or "1 combos" in out
    other = ["--state-dir", str(tmp_path / "other"), *folders[2:]]
    code, out, err = run("--api", sim.url, "--iterations", "1", "--warm-start", str(prior), *other)
    assert (code, err) == (EXIT_OK, "") and "starts from" in out
    assert "starts from" in run("--api", sim.url, "--iterations", "1", *other)[1]  # kept for later runs
    assert "starts from" not in run("--api", sim.url, "--iterations", "1", "--warm-start", "none", *other)[1]
    code, _, err = run("--warm-start", str(tmp_path / "nowhere"), *other)
    assert code == EXIT_USAGE and "nowhere" in err
