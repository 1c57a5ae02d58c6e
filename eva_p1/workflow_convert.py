"""UI format to API format (being written)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eva_env_base import WorkflowError
from eva_p1.workflow_graph import Graph


def is_ui_format(data: Mapping[str, Any]) -> bool:
    """True for a workflow as the frontend saves it: a list of nodes with positions and widget values."""
    return isinstance(data.get("nodes"), list)


def convert_workflow(data: Mapping[str, Any], object_info: Mapping[str, Any], name: str = "the workflow") -> Graph:
    """Converts a UI-format workflow as the frontend would."""
    raise WorkflowError(f"{name} is in ComfyUI's UI format, which cannot be converted yet: export it with Workflow > Export (API)")
