#!/usr/bin/env python3
"""The agent's door: generates clips with ComfyUI, scores them, learns. ``--help`` lists every flag; ``python -m qa.cli`` is the same."""

from __future__ import annotations

import sys

from eva_env_base import run_door
from qa.cli import main

if __name__ == "__main__":
    sys.exit(run_door(main))
