"""``/api/jobs`` and ``/api/jobs/{id}``: queue and history in one list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eva_sim.jobs import Job, JobQueue

STATES = ("pending", "in_progress", "completed", "failed")


def _waiting(job: Job, status: str) -> dict[str, Any]:
    return {
        "id": job.prompt_id,
        "status": status,
        "priority": job.number,
        "create_time": job.extra_data.get("create_time"),
        "outputs_count": 0,
    }


def _ended(prompt_id: str, entry: dict[str, Any]) -> dict[str, Any]:
    number, _, _, extra_data, _ = entry["prompt"]
    messages = dict(entry["status"]["messages"])
    end: dict[str, Any] = next(
        (messages[kind] for kind in ("execution_success", "execution_error", "execution_interrupted") if kind in messages), {}
    )
    files = [
        (node, kind, one) for node, ui in entry["outputs"].items() for kind, items in ui.items() if kind != "animated" for one in items
    ]
    job: dict[str, Any] = {
        "id": prompt_id,
        "status": "completed" if entry["status"]["completed"] else "failed",
        "priority": number,
        "create_time": extra_data.get("create_time"),
        "execution_start_time": messages.get("execution_start", {}).get("timestamp"),
        "execution_end_time": end.get("timestamp"),
    }
    if "execution_error" in messages:
        job["execution_error"] = messages["execution_error"]
    job["outputs_count"] = len(files)
    if files:
        node, kind, one = files[-1]
        job["preview_output"] = {**one, "nodeId": node, "mediaType": kind}
    return job


def _all(queue: JobQueue) -> list[dict[str, Any]]:
    running, pending = queue.snapshot()
    jobs = [_waiting(job, "in_progress") for job in running] + [_waiting(job, "pending") for job in pending]
    return jobs + [_ended(prompt_id, entry) for prompt_id, entry in queue.history().items()]


def listing(queue: JobQueue, query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """(HTTP status, body) of the list: filtered by ``status``, newest first, cut by ``offset`` and ``limit``."""
    wanted = [state.strip() for state in query.get("status", "").split(",") if state.strip()] or list(STATES)
    unknown = [state for state in wanted if state not in STATES]
    if unknown:
        return 400, {"error": f"Invalid status value(s): {', '.join(unknown)}. Valid values: {', '.join(STATES)}"}
    limit_text, offset_text = query.get("limit"), query.get("offset", "0")
    if limit_text is not None and not (limit_text.isdigit() and int(limit_text) > 0):
        return 400, {"error": "limit must be a positive integer"}
    if not offset_text.isdigit():
        return 400, {"error": "offset must be a non-negative integer"}
    limit, offset = int(limit_text) if limit_text else None, int(offset_text)
    found = [job for job in _all(queue) if job["status"] in wanted]
    if query.get("sort_by") == "execution_duration":
        found.sort(key=lambda job: (job.get("execution_end_time") or 0) - (job.get("execution_start_time") or 0))
    else:
        found.sort(key=lambda job: job["create_time"] or 0)
    if query.get("sort_order", "desc") != "asc":
        found.reverse()
    page = found[offset : offset + limit] if limit else found[offset:]
    more = offset + len(page) < len(found)
    return 200, {"jobs": page, "pagination": {"offset": offset, "limit": limit, "total": len(found), "has_more": more}}


def detail(queue: JobQueue, prompt_id: str) -> dict[str, Any] | None:
    """One job with its outputs, messages and workflow, or ``None``."""
    entry = queue.history(prompt_id).get(prompt_id)
    if entry is None:
        return next((job for job in _all(queue) if job["id"] == prompt_id), None)
    _, _, prompt, extra_data, _ = entry["prompt"]
    more = {"outputs": entry["outputs"], "execution_status": entry["status"]}
    return {**_ended(prompt_id, entry), **more, "workflow": {"prompt": prompt, "extra_data": extra_data}}
