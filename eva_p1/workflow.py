"""Workflows: reading a file, finding its roles, writing parameters, checking and converting it.

``python -m eva_p1.workflow check FILE`` and ``convert FILE`` are the command line; the work is done by the siblings
``workflow_roles``, ``workflow_apply``, ``workflow_check`` and ``workflow_convert``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eva_env_base import EXIT_FAILED, EXIT_OK, UsageError, WorkflowError, run_door
from eva_p1.workflow_apply import apply_params, estimate_length
from eva_p1.workflow_check import Problem, check_workflow
from eva_p1.workflow_convert import convert_workflow, is_ui_format
from eva_p1.workflow_graph import Field, Graph
from eva_p1.workflow_roles import Latent, Roles, Sampler, describe_roles, find_roles

__all__ = [
    "Field", "Graph", "Latent", "Problem", "Roles", "Sampler", "apply_params", "check_workflow", "convert_workflow", "describe_roles",
    "estimate_length", "find_roles", "is_ui_format", "load_workflow", "read_json",
]  # fmt: skip


def read_json(path: Path, what: str = "a workflow saved by ComfyUI (Workflow menu: Export or Export (API))") -> Any:
    """The JSON in a file: ``what``. Raises :class:`WorkflowError` naming the file and what to do."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise WorkflowError(f"{path}: no such file; give {what}") from None
    except IsADirectoryError:
        raise WorkflowError(f"{path} is a folder; give a workflow file") from None
    except UnicodeDecodeError as error:
        raise WorkflowError(
            f"{path} is not a text file ({error.reason} at byte {error.start}); give the .json file, not a picture or video"
        ) from None
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise WorkflowError(f"{path} is not JSON: {error}; export the workflow again from ComfyUI") from None
    except RecursionError:
        raise WorkflowError(f"{path} is nested too deeply to be a workflow") from None


def load_workflow(path: Path | str, object_info: Mapping[str, Any] | None = None) -> Graph:
    """The API-format graph in a file.

    Accepted: API format, a saved ``POST /prompt`` body, and, where ``object_info`` is given, UI format, which is converted.
    Raises :class:`WorkflowError` for anything else, saying what it is and how to get the right file.
    """
    path = Path(path)
    data = read_json(path)
    if isinstance(data, dict) and isinstance(data.get("prompt"), dict) and "class_type" not in data["prompt"]:
        data = data["prompt"]
    if not isinstance(data, dict) or not data:
        raise WorkflowError(
            f"{path} is not a workflow: an object with nodes is expected, this is {'empty' if not data else type(data).__name__}"
        )
    if is_ui_format(data):
        if object_info is None:
            raise WorkflowError(
                f"{path} is in ComfyUI's UI format and needs the server's node list to be converted: start ComfyUI and name it with --api, "
                f"or export the workflow with Workflow > Export (API), or run: python -m eva_p1.workflow convert {path} --api URL"
            )
        return convert_workflow(data, object_info, name=str(path))
    bad = [str(key) for key, node in data.items() if not isinstance(node, dict) or not isinstance(node.get("class_type"), str)]
    if bad:
        shown = ", ".join(bad[:3]) + (", ..." if len(bad) > 3 else "")
        raise WorkflowError(f"{path} is not a workflow ComfyUI can run: {shown} has no class_type; export it with Workflow > Export (API)")
    for key, node in data.items():
        if not isinstance(node.get("inputs"), dict):
            raise WorkflowError(
                f"{path}: node {key} ({node['class_type']}) has no inputs; export the workflow again with Workflow > Export (API)"
            )
    return data


# ---------------------------------------------------------------- command line
def _object_info(arguments: argparse.Namespace) -> dict[str, Any] | None:
    if arguments.object_info:
        data = read_json(Path(arguments.object_info), "a saved answer of GET /object_info")
        if not isinstance(data, dict):
            raise WorkflowError(
                f"{arguments.object_info} is not what a server answers to /object_info: an object of node classes is expected"
            )
        return data
    if arguments.api:
        from eva_p1.comfy_client import ComfyClient

        if not arguments.api.startswith(("http://", "https://")):
            raise UsageError(f"--api: {arguments.api!r} is not an address; write it like http://127.0.0.1:8188")
        client = ComfyClient(arguments.api)
        try:
            return client.object_info()
        finally:
            client.close()
    return None


def _check(arguments: argparse.Namespace) -> int:
    info = _object_info(arguments)
    graph = load_workflow(arguments.file, info)
    print(describe_roles(graph, find_roles(graph, info)))
    problems = check_workflow(graph, info)
    errors = [problem for problem in problems if problem.severity == "error"]
    for problem in errors:
        print(f"problem          {problem.message}")
    if info is None:
        print("not checked      node classes and values: give --api URL or --object-info FILE for that")
    print("result           " + (f"{len(errors)} problem(s)" if errors else "this workflow can be driven"))
    return EXIT_FAILED if errors else EXIT_OK


def _convert(arguments: argparse.Namespace) -> int:
    info = _object_info(arguments)
    if info is None:
        raise UsageError("convert needs the server's node list: give --api URL or --object-info FILE")
    data = read_json(Path(arguments.file))
    if not isinstance(data, dict):
        raise WorkflowError(f"{arguments.file} is not a workflow: an object is expected, this is {type(data).__name__}")
    graph = convert_workflow(data, info, name=arguments.file) if is_ui_format(data) else load_workflow(arguments.file, info)
    sys.stdout.write(json.dumps(graph, ensure_ascii=False, indent=2) + "\n")
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """``check`` or ``convert``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m eva_p1.workflow", description="Check a ComfyUI workflow, or convert it to API format.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="check|convert")
    for name, action, text in (
        ("check", _check, "validate a workflow and print the roles found in it"),
        ("convert", _convert, "print a UI-format workflow in API format"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("file", metavar="FILE", help="workflow file, API format or UI format")
        source = command.add_mutually_exclusive_group()
        source.add_argument("--api", metavar="URL", help="ComfyUI server to ask for its node classes")
        source.add_argument("--object-info", metavar="FILE", help="a saved answer of GET /object_info")
        command.set_defaults(action=action)
    arguments = parser.parse_args(argv)
    return int(arguments.action(arguments))


if __name__ == "__main__":
    sys.exit(run_door(main))
