"""The vision model is asked properly, and nothing it or its server does breaks a run, invents a score or leaks the key."""

from __future__ import annotations

import base64
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from eva_env_base import ClipError
from eva_p1.openrouter_analyzer import SCORES, OpenRouterAnalyzer, read_answer, spread_frames
from tests import media

pytest.importorskip("openai")

KEY = "sk-test-0123456789"
GOOD = {name: {"score": 0.5, "reason": f"about {name}"} for name in SCORES}


class FakeServer:
    """Answers chat completions with what it is told: (status, body) or a delay until the client has gone."""

    def __init__(self):
        self.status, self.content, self.body, self.hold = 200, json.dumps(GOOD), None, None
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, self.headers["Authorization"], data))
                if outer.hold is not None:
                    outer.hold.wait(20)
                body = outer.body
                if body is None:
                    message = {"role": "assistant", "content": outer.content}
                    choice = {"index": 0, "finish_reason": "stop", "message": message}
                    body = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
                data = body.encode()
                try:
                    self.send_response(outer.status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    outer.requests.append(("client gone", "", {}))

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self):
        if self.hold is not None:
            self.hold.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server():
    one = FakeServer()
    yield one
    one.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return media.encode(tmp_path_factory.mktemp("clips") / "clip.mp4", media.panned("china", 20))


@pytest.fixture
def ask(server, clip, caplog):
    import openai

    caplog.set_level(logging.DEBUG)

    def run(prompt="", url=None, timeout=10.0):
        with openai.OpenAI(api_key=KEY, base_url=url or server.url, timeout=timeout, max_retries=0) as client:
            opinion = OpenRouterAnalyzer(KEY, url or server.url, frames=4, side=128, timeout_s=timeout, client=client).analyze(clip, prompt)
        assert KEY not in caplog.text and KEY not in repr(opinion), "the key stays hidden"
        assert set(opinion.metrics) | set(opinion.absent) == {f"llm_{name}" for name in SCORES}
        assert not set(opinion.metrics) & set(opinion.absent)
        return opinion

    return run


def test_question_and_answer(ask, server):
    opinion = ask('a temple "at dawn"')
    assert opinion.metrics == {f"llm_{name}": 0.5 for name in SCORES} and opinion.absent == {}
    assert opinion.reasons["llm_anatomy"] == "about anatomy"
    path, authorization, data = server.requests[0]
    assert path == "/v1/chat/completions" and authorization == f"Bearer {KEY}"
    parts = data["messages"][1]["content"]
    assert 'a temple \\"at dawn\\"' in parts[0]["text"] and len(parts) == 5
    for part in parts[1:]:
        picture = base64.b64decode(part["image_url"]["url"].split(",", 1)[1])
        assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape == (85, 128, 3)


def test_some_scores_missing_or_wrong(ask, server):
    server.content = json.dumps({**GOOD, "anatomy": {"score": None}, "motion_quality": {"score": 7}, "visual_quality": {"score": "0.5"}})
    opinion = ask()
    assert opinion.metrics == {"llm_prompt_adherence": 0.5}
    assert opinion.absent["llm_anatomy"] == "the model gave no score" and "'7'" in opinion.absent["llm_motion_quality"]


@pytest.mark.parametrize(
    "content", ["", "I cannot judge this.", "[1, 2]", "{}", '{"visual_quality": NaN}', None, '{"visual_quality": true}']
)
def test_bad_answers_are_absent(ask, server, content):
    server.content = content
    opinion = ask()
    assert opinion.metrics == {} and "cannot be used" in opinion.absent["llm_anatomy"]


def test_an_answer_that_repeats_the_key(ask, server):
    server.content = json.dumps({**GOOD, "anatomy": {"score": 0.1, "reason": f"your key is {KEY}"}})
    assert ask().reasons["llm_anatomy"] == "your key is (hidden)"


@pytest.mark.parametrize("status", [401, 402, 429, 500])
def test_errors_are_absent_with_the_status(ask, server, status):
    server.status, server.body = status, json.dumps({"error": {"message": f"no: {KEY}"}})
    opinion = ask()
    assert opinion.metrics == {} and f"answered {status}" in opinion.absent["llm_anatomy"]


@pytest.mark.parametrize("body", ["{}", '{"choices": []}', "not json", '{"choices": null}'])
def test_broken_envelopes(ask, server, body):
    server.body = body
    assert ask().metrics == {}


def test_it_makes_and_closes_its_own_client(server, clip):
    opinion = OpenRouterAnalyzer(KEY, server.url).analyze(clip)
    assert len(opinion.metrics) == 4 and server.requests[0][1] == f"Bearer {KEY}"


def test_timeout(ask, server):
    server.hold = threading.Event()
    assert "no answer within 0.3 s" in ask(timeout=0.3).absent["llm_anatomy"]


def test_nobody_listens(ask, server):
    assert "cannot be reached" in ask(url="http://127.0.0.1:9/v1").absent["llm_anatomy"]


def test_fenced_json_is_read():
    metrics, reasons, _ = read_answer("Here:\n```json\n" + json.dumps(GOOD) + "\n```")
    assert len(metrics) == len(reasons) == 4


def test_bare_numbers_are_read():
    metrics, reasons, absent = read_answer('{"visual_quality": 0.25, "motion_quality": 1}')
    assert metrics == {"llm_visual_quality": 0.25, "llm_motion_quality": 1.0} and reasons == {} and len(absent) == 2


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 33, 70])
def test_frames_are_spread(tmp_path, frames):
    pictures = [np.full((64, 64, 3), 40 + 3 * index, np.uint8) for index in range(frames)]
    found = spread_frames(media.encode(tmp_path / "clip.mkv", pictures, codec="ffv1", pixel_format="yuv444p"), 4, 512)
    levels = [(float(picture.mean()) - 40) / 3 for picture in found]
    assert len(found) == min(4, frames)
    assert levels[0] == pytest.approx(0, abs=0.7) and levels[-1] == pytest.approx(frames - 1, abs=0.7)
    assert all(one < two for one, two in zip(levels, levels[1:]))


def test_clip_errors_are_raised(tmp_path):
    analyzer = OpenRouterAnalyzer(KEY)
    (tmp_path / "text.mp4").write_text("no video", encoding="utf-8")
    for name in ("none.mp4", "text.mp4"):
        with pytest.raises(ClipError, match=name):
            analyzer.analyze(tmp_path / name)
    with pytest.raises(ValueError, match="key"):
        OpenRouterAnalyzer("")
    assert KEY not in repr(analyzer)
