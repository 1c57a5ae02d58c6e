"""Documentation is tested: a setting, option, route, state file, state key or event type that is not described fails here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eva_env_base import SETTINGS
from eva_state.model import Model
from eva_state.store import StateStore

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS = {
    "setup": ["setup_qa_no_venv.py"],
    "server": ["simple_web_server.py"],
    "agent": ["run_agent_qa.py"],
    "agent module": ["-m", "qa.cli"],
    "simulator": ["-m", "eva_sim"],
    "fast metrics": ["-m", "eva_p1.video_analyzer"],
    "deep analysis": ["-m", "eva_p3.video_processor"],
    "workflow": ["-m", "eva_p1.workflow"],
    "workflow check": ["-m", "eva_p1.workflow", "check"],
    "workflow convert": ["-m", "eva_p1.workflow", "convert"],
    "state": ["-m", "eva_state"],
    "state export": ["-m", "eva_state", "export"],
    "state actions": ["-m", "eva_state", "actions"],
    "state verify": ["-m", "eva_state", "verify"],
    "state compact": ["-m", "eva_state", "compact"],
    "state rebuild": ["-m", "eva_state", "rebuild"],
    "state import": ["-m", "eva_state", "import"],
    "state backup": ["-m", "eva_state", "backup"],
}


def documents() -> str:
    return README + "".join(path.read_text(encoding="utf-8") for path in sorted((PROJECT / "docs").glob("*.md")))


def described(word: str, text: str) -> bool:
    """True when ``word`` stands in ``text`` as code: in back quotes or a code block."""
    code = re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL)
    return any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", piece) for piece in code)


@pytest.mark.parametrize("spec", SETTINGS, ids=lambda spec: spec.name)
def test_every_setting_is_in_the_readme(spec) -> None:  # type: ignore[no-untyped-def]
    for word in (*spec.env, *([spec.flag] if spec.flag else [])):
        assert described(word, README), f"{word} is not in README.md"


def test_every_variable_the_code_reads_is_in_the_readme() -> None:
    read = set()
    for path in [*PROJECT.glob("*.py"), *(p for p in PROJECT.glob("*/**/*.py") if p.parts[len(PROJECT.parts)] != "venv")]:
        if ".venv" in path.parts:
            continue
        read |= set(re.findall(r"environ(?:\.get\(|\[)\s*[\"'](EVA_\w+)", path.read_text(encoding="utf-8")))
    assert read, "found no variable at all: the search is broken"
    missing = sorted(name for name in read if not described(name, README))
    assert not missing, f"not in README.md: {missing}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_its_options_are_described(name: str) -> None:
    environment = {**os.environ, "COLUMNS": "200"}
    ended = subprocess.run(
        [sys.executable, *COMMANDS[name], "--help"], cwd=PROJECT, capture_output=True, text=True, encoding="utf-8", env=environment
    )
    assert ended.returncode == 0, ended.stderr
    flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", ended.stdout))
    assert "--help" in flags
    text = documents()
    missing = sorted(flag for flag in flags if not described(flag, text))
    assert not missing, f"options of {name} that no document describes: {missing}"


def test_every_route_is_in_the_http_document() -> None:
    from eva_web.routes import ROUTES

    text = (PROJECT / "docs" / "http_api.md").read_text(encoding="utf-8")
    missing = [route.path for route in ROUTES if not re.search(rf"{re.escape(route.path)}(?![\w-])", text)]
    assert ROUTES and not missing, f"not in docs/http_api.md: {missing}"


def test_every_event_type_is_in_the_state_document() -> None:
    text = (PROJECT / "docs" / "state.md").read_text(encoding="utf-8")
    kinds = [name.removeprefix("_on_") for name in dir(Model) if name.startswith("_on_")]
    assert kinds and not [kind for kind in kinds if not described(kind, text)]


def _keys(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            yield key
            yield from _keys(inner, depth - 1)
    elif isinstance(value, list) and value:
        yield from _keys(value[0], depth)


def test_every_file_and_key_of_the_state_is_in_the_state_document(tmp_path: Path) -> None:
    """Makes a state with one of everything and looks each file name and key up in docs/state.md."""
    params = {"sampler": "euler", "scheduler": "simple", "fps": 16, "cfg_scale": 3.5, "steps": 20, "width": 320, "height": 192}
    key = "euler|simple|16|3.5|20|320x192"
    entry = {
        **{"video": "a.mp4", "timestamp": 1.0, "prompt": "p", "negative_prompt": "n", "params": params, "combo": ["euler", "simple"]},
        **{"metrics": {"overall": 0.5}, "score": 0.5},
    }
    names = {"a.mp4", "b.mp4", key}
    with StateStore(tmp_path, role="server", video_dir=tmp_path) as store:
        store.generated("p1", entry, 0.5, 1.0)
        store.generated("p2", {**entry, "video": "b.mp4"}, 0.4, 1.0)
        store.rate("a.mp4", {"overall_quality": 8, "comments": "good", "is_reference": True, "defects": ["flicker"]})
        store.ban(key, reason="looks broken", by="test")
        store.compare("a.mp4", "b.mp4", "left")
        store.flush()
    text = (PROJECT / "docs" / "state.md").read_text(encoding="utf-8")
    files = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert {"manual_ratings.json", "bandit_state.json", "knowledge.json", "review_queue.json", "ban_history.json"} <= set(files)
    missing = [name for name in files if not described(name, text)]
    for name in files:
        known = {
            word for word in _keys(json.loads((tmp_path / name).read_text(encoding="utf-8")), 3) if word not in names and word not in params
        }
        missing += [f"{name}: {word}" for word in sorted(known) if not described(word, text)]
    assert not missing, f"not in docs/state.md: {missing}"


def test_links_between_documents_lead_somewhere() -> None:
    for path in [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *(PROJECT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_ci_runs_the_readme_test_command() -> None:
    script = (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
    assert "python setup_qa_no_venv.py --test" in script and "python setup_qa_no_venv.py --test" in README
