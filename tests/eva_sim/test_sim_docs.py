"""docs/simulator.md names every flag, fault, fault setting, route and figure there is."""

from __future__ import annotations

import re
from pathlib import Path

from aiohttp import web

from eva_sim.__main__ import parser
from eva_sim.faults import KINDS
from eva_sim.routes import add_routes
from eva_sim.server import SimServer
from eva_sim.surface import DEFECT_NAMES

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")


def test_flags_and_defects():
    flags = {option for action in parser()._actions for option in action.option_strings if option.startswith("--")} - {"--help"}
    assert {flag for flag in flags if f"`{flag}`" not in TEXT} == set()
    assert {name for name in DEFECT_NAMES if f"| `{name}` |" not in TEXT} == set()


def test_faults_and_their_settings():
    for kind, options in KINDS.items():
        row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{kind}` | ") and "`surface" not in line)
        assert {key for key in options if f"`{key}`" not in row} == set(), kind


def test_routes(tmp_path):
    server = SimServer(tmp_path)
    app = web.Application()
    add_routes(app, server)
    paths = {re.sub(r"\{\w+\}", "{}", resource.canonical.removeprefix("/api")) for resource in app.router.resources()} - {"/"}
    documented = re.sub(r"\{\w+\}", "{}", TEXT)
    assert {path for path in paths if path not in documented} == set()
    server.remove_scratch()
    for figure in server.queue.stats():
        assert figure == "simulator" or f"`{figure}`" in TEXT
