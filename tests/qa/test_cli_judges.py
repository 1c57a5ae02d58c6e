"""Whole runs of the command line with what it may be asked to add: a vision model, no smaller try after out of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eva_env_base import EXIT_OK, PROJECT_DIR
from eva_sim.handle import running_simulator

KEY = "sk-secret-0123456789"
SPACE = {
    "sampler": ["euler", "dpmpp_2m"], "scheduler": ["simple", "karras"], "fps": [16], "cfg_scale": [2, 5], "steps": [4, 8],
    "size": [[256, 160], [128, 80]],
}  # fmt: skip


class Model:
    """A server with OpenAI's chat API that gives every clip the same scores, or ``status`` without any."""

    def __init__(self, status: int = 200):
        self.asked: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                scores = {name: {"score": 0.9, "reason": "fine"} for name in ("visual_quality", "motion_quality", "prompt_adherence")}
                message = {"role": "assistant", "content": json.dumps(scores)}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
                if status != 200:
                    answer = {"error": {"message": f"no credit left for {self.headers['Authorization']}"}}
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[list[str]]:
    (tmp_path / "space.json").write_text(json.dumps(SPACE), encoding="utf-8")
    yield ["--state-dir", str(tmp_path / "state"), "--video-dir", str(tmp_path / "video"), "--space", str(tmp_path / "space.json"),
           "--seconds", "1", "--iterations", "2", "--log-level", "DEBUG"]  # fmt: skip


def run(*arguments: str, **environment: str) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("COMFY", "EVA_", "WAN22", "OPENROUTER"))}
    done = subprocess.run(
        [sys.executable, "run_agent_qa.py", *arguments],
        cwd=PROJECT_DIR, env={**kept, **environment}, capture_output=True, text=True, encoding="utf-8", timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == EXIT_OK, done.stdout + done.stderr
    return done.stdout + done.stderr


def history(tmp_path: Path) -> list[dict[str, Any]]:
    return json.loads((tmp_path / "state" / "knowledge.json").read_text(encoding="utf-8"))["history"]


@pytest.mark.parametrize("status", [200, 402])
def test_a_vision_model_judges_too_or_says_why_not_and_its_key_is_nowhere(tmp_path: Path, folders: list[str], status: int) -> None:
    pytest.importorskip("openai")
    model = Model(status)
    try:
        with running_simulator(tmp_path / "video", speed=200) as sim:
            said = run("--api", sim.url, *folders, OPENROUTER_API_KEY=KEY, OPENROUTER_BASE_URL=model.url)
    finally:
        model.close()
    assert len(model.asked) == 2
    for entry in history(tmp_path):
        metrics = entry["metrics"]
        if status == 200:
            assert metrics["llm_quality"] == pytest.approx(0.9)
            assert metrics["overall"] == pytest.approx(0.8 * metrics["overall_simple"] + 0.2 * 0.9) == entry["score"]
            assert "llm_anatomy" in entry["analysis_notes"]["absent"] and entry["raw"]["llm"]["reasons"]
        else:
            assert "llm_quality" not in metrics and "overall_simple" not in metrics
            assert "402" in entry["analysis_notes"]["absent"]["llm_visual_quality"]
    kept = [path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert not any(KEY.encode() in content for content in [*kept, said.encode()]), "the key is nowhere"


@pytest.mark.parametrize("switch", [[], ["--no-oom-retry"]])
def test_out_of_memory_and_its_switch(tmp_path: Path, folders: list[str], switch: list[str]) -> None:
    space = {**SPACE, "size": [[256, 160], [128, 80]]}
    (tmp_path / "space.json").write_text(json.dumps(space), encoding="utf-8")
    reference = tmp_path / "reference_params.json"
    params = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 2, "steps": 4, "height": 160, "width": 256}
    reference.write_text(json.dumps([params, {**params, "width": 128, "height": 80}]), encoding="utf-8")
    with running_simulator(tmp_path / "video", speed=200, faults=["oom:job=1"]) as sim:
        run("--api", sim.url, *folders, "--iterations", "4", "--reference-file", str(reference), "--seed", "1", *switch)
    retried = [entry for entry in history(tmp_path) if "retry_of" in entry]
    lines = (tmp_path / "state" / "logs_improved" / "main.log").read_text(encoding="utf-8")
    assert "ran out of memory" in lines and len(history(tmp_path)) == 3
    if switch:
        assert not retried and "in its place" not in lines
    else:
        large = "256x160; " in lines  # the first try was the large one; the small one has nothing below it
        assert len(retried) == large and ("in its place" if large else "nothing smaller") in lines
