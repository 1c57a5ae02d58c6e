"""From a finished prompt to a clip on disk and a history entry.

Which clip a prompt made is read from that prompt's own history (``Finished.videos``), never guessed from file times.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from eva_env_base import ClipError, ComfyUnavailable, EvaError, PromptFailed, PromptRejected, StateError
from eva_p1.agent_types import Analysis, Job
from eva_p1.decode import ClipInfo, read_frames

log = logging.getLogger(__name__)

# No playable video is smaller: an mp4's boxes alone take some hundred bytes. A smaller local file is a leftover or a stub.
MIN_CLIP_BYTES = 200
# Encoders and headers may disagree by a frame or two; more missing means that the file was cut off, and half a clip is not scored.
MAX_MISSING_SHARE = 0.1
# What a history entry keeps of the pictures; which frames the filmstrip's cells show stands in the series' file.
PICTURE_FIELDS = ("thumbnail", "filmstrip", "scrub_strip", "series", "columns", "cell_width", "cell_height")


def clip_name(output: Any) -> str:
    """Name of an output file below the video folder, with ``/``.

    ``output`` has ``filename``, ``subfolder`` and ``type``. A file of the server's temp folder is kept at the top.
    Raises :class:`ClipError` for a name that leads out of the folder: the server is not trusted with our disk.
    """
    folder = "" if getattr(output, "type", "output") == "temp" else str(output.subfolder or "")
    path = PurePosixPath(folder.replace("\\", "/")) / str(output.filename).replace("\\", "/")
    if path.is_absolute() or ".." in path.parts or not path.name or ":" in path.parts[0] or "\0" in str(path):
        raise ClipError(f"the server named its clip {str(path)!r}, which leads out of the output folder")
    return str(path)


def name_of_clip(finished: Any) -> str | None:
    """Name of the clip a prompt made; None where it has none that can be used (:func:`take_clip` says why)."""
    try:
        return clip_name(finished.videos[0]) if finished.videos else None
    except ClipError:
        return None


def take_clip(client: Any, finished: Any, video_dir: Path) -> tuple[str, Path]:
    """(name, path) of the clip a prompt made: the local file where the folder is the server's own, else a copy through /view.

    Raises :class:`PromptFailed` (``no_output``) where the prompt saved no video, :class:`ClipError` for an unusable file,
    ``ComfyError`` where it cannot be fetched, and :class:`StateError` where there is no place for it: it is paid for, and waits there.
    """
    if not finished.videos:
        raise PromptFailed("the prompt finished without saving a video; does its workflow end in SaveVideo?", kind="no_output")
    output = finished.videos[0]
    name = clip_name(output)
    path = video_dir.joinpath(*PurePosixPath(name).parts)
    if getattr(output, "type", "output") != "temp" and _usable(path):
        return name, path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        client.fetch(output, path)
    except OSError as error:
        raise StateError(
            f"the clip {name} cannot be written to {video_dir} ({error.strerror or error}); it stays on its server: make room, "
            "or name another folder with --video-dir, and run again"
        ) from error
    if not _usable(path):
        raise ClipError(f"{name}: fetched from {getattr(client, 'url', 'the server')}, but the file is empty")
    return name, path


def take_clip_patiently(
    client: Any, finished: Any, video_dir: Path, stopping: threading.Event, backoff: tuple[float, float]
) -> tuple[str, Path]:
    """:func:`take_clip`, waiting for a server that is away: the clip is paid for. ``ComfyUnavailable`` only when the run stops."""
    delay, longest = backoff
    while True:
        try:
            return take_clip(client, finished, video_dir)
        except ComfyUnavailable as error:
            log.warning("a clip cannot be fetched yet: %s", error)
            if stopping.wait(delay):
                raise
            delay = min(longest, delay * 2)


def _usable(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size >= MIN_CLIP_BYTES
    except OSError as error:
        log.warning("cannot look at %s: %s", path, error)
        return False


def is_whole(path: Path, time_limit_s: float = 120.0) -> ClipInfo:
    """Reads a clip to its end. Raises :class:`ClipError` where it is not one, or was cut off (its server died while it wrote)."""
    info = ClipInfo()
    for _frame in read_frames(path, info, time_limit_s):
        pass
    if info.interrupted or info.damaged or info.header_frames > info.frames:
        raise ClipError(f"{path.name} is cut short: {info.interrupted or f'{info.frames} of {info.header_frames} frames can be read'}")
    return info


def build_entry(job: Job, video: str, analysis: Analysis, *, run_seconds: float, at: float, simulator: bool = False) -> dict[str, Any]:
    """The ``knowledge.json`` history entry of a scored clip (contract, section 3) with what later reviews want beside it."""
    entry: dict[str, Any] = {
        "video": video,
        "timestamp": at,
        "generated_at": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)),
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "params": dict(job.params),
        "combo": [job.params.get("sampler"), job.params.get("scheduler")],
        "combo_key": job.combo_key,
        "metrics": dict(analysis.metrics),
        "score": analysis.score,
        "seed": job.seed,
        "seconds": job.seconds,
        "prompt_id": job.prompt_id,
        "api": job.api,
        "run_seconds": round(run_seconds, 3),
        "cost_minutes": round(run_seconds / 60.0, 5),
        "analysis_version": analysis.version,
    }
    if simulator:
        entry["simulator"] = True
    if job.scenario_id:
        entry["scenario_id"] = job.scenario_id
    if job.retry_of:
        entry["retry_of"] = job.retry_of
    if job.request:
        entry["request"] = job.request
    if analysis.raw:
        entry["raw"] = analysis.raw
    if analysis.findings:
        entry["findings"] = analysis.findings
    if analysis.pictures:
        entry["pictures"] = analysis.pictures
    if analysis.notes:
        entry["analysis_notes"] = analysis.notes
    return entry


def as_analysis(answer: Mapping[str, Any], path: Path) -> Analysis:
    """An analyzer's answer as :class:`Analysis`. Raises :class:`ClipError` where it has no overall score, or for half a clip."""
    raw = dict(answer.get("raw") or {})
    missing, frames = raw.get("frames_missing") or 0, raw.get("frames") or 0
    if missing > MAX_MISSING_SHARE * (missing + frames):
        raise ClipError(f"{path.name} is cut short: {frames} of {missing + frames} frames can be read")
    metrics = dict(answer["metrics"])
    score = metrics.get("overall")
    absent = dict(answer.get("absent") or {})
    told = answer.get("pictures") or {}
    if score is None:
        raise ClipError(f"{path.name} cannot be scored: {absent.get('overall') or 'the analysis gave no overall score'}")
    return Analysis(
        score=min(1.0, max(0.0, float(score))),
        metrics=metrics,
        raw=raw,
        findings=list(answer.get("findings") or []),
        version=str(answer.get("version") or ""),
        notes={"absent": absent} if absent else {},
        pictures={name: told[name] for name in PICTURE_FIELDS if name in told},
    )


def failure_kind(error: EvaError) -> str:
    """The ``kind`` of the ``failed`` event an error is recorded as."""
    if isinstance(error, PromptFailed):
        return error.kind
    if isinstance(error, PromptRejected):
        return "rejected"
    return "bad_clip" if isinstance(error, ClipError) else "fetch"
