"""Fetching a clip through ``/view``, for servers whose disk is not ours."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

from eva_env_base import ClipError, ComfyError, ComfyUnavailable
from eva_p1.comfy_http import AWAY_STATUS, ComfyHttp, backoff
from eva_p1.comfy_types import OutputFile

log = logging.getLogger(__name__)
CHUNK = 1 << 18
# What a video saver may write, likeliest first; VHS_VideoCombine leaves out the underscore after the number.
LEFT_ENDINGS = {"SaveWEBM": ("_.webm",), "SaveAnimatedWEBP": ("_.webp",), "VHS_VideoCombine": (".mp4", ".webm", ".gif", ".webp")}


def find_saved(http: ComfyHttp, graph: Mapping[str, Any], sleep: Callable[[float], None]) -> OutputFile | None:
    """The video this graph's nodes left in the server's output folder, for a server that forgot the prompt; None where there is none.

    Only sound for a ``filename_prefix`` that no other prompt has. Raises ``ComfyUnavailable`` where the server cannot be asked.
    """
    return next((output for output in _names_of(graph) if _is_there(http, output, sleep)), None)


def _is_there(http: ComfyHttp, output: OutputFile, sleep: Callable[[float], None]) -> bool:
    params = {"filename": output.filename, "subfolder": output.subfolder, "type": output.type}
    for attempt in range(http.retries + 1):
        try:
            with http.send("HEAD", "/view", params=params, headers={"Accept-Encoding": "identity"}) as response:
                if response.status_code not in AWAY_STATUS:
                    page = response.headers.get("Content-Type", "").startswith("text/html")
                    return response.status_code == 200 and not page and response.headers.get("Content-Length") != "0"
                reason = f"answers {response.status_code} {response.reason}"
        except requests.RequestException as error:
            reason = http.away_reason(error)
        if attempt < http.retries:
            sleep(backoff(attempt))
    raise ComfyUnavailable(f"ComfyUI at {http.address.shown} {reason}; is it running, and is the address right?")


def _names_of(graph: Mapping[str, Any]) -> Iterator[OutputFile]:
    """The names ComfyUI gives to the first files of a new prefix, ``PREFIX_00001_.mp4``."""
    for node in graph.values():
        prefix = (node.get("inputs") or {}).get("filename_prefix") if isinstance(node, Mapping) else None
        if isinstance(prefix, str) and "%" not in prefix:
            folder, _, name = prefix.replace("\\", "/").rpartition("/")
            for ending in LEFT_ENDINGS.get(str(node.get("class_type")), ("_.mp4",)):
                yield OutputFile(f"{name}_00001{ending}", folder)


def fetch_output(http: ComfyHttp, output: OutputFile, dest: Path, sleep: Callable[[float], None]) -> Path:
    """Writes the file beside ``dest`` and renames it, so that ``dest`` is whole or absent. A cut connection is tried again.

    Raises ``OSError`` where ``dest`` cannot be written: the clip itself is well, and can be fetched when there is room.
    """
    part = dest.with_name(f".{dest.name[:80]}.{uuid.uuid4().hex[:8]}.part")
    dest.parent.mkdir(parents=True, exist_ok=True)
    try:
        attempt = 0
        while True:
            try:
                _download(http, output, part)
                break
            except (ComfyUnavailable, requests.RequestException, _Short) as error:
                if attempt >= http.retries:
                    if isinstance(error, _Short):
                        raise ClipError(f"{output.name}: {error}, {attempt + 1} times") from error
                    reason = http.away_reason(error) if isinstance(error, requests.RequestException) else str(error)
                    raise ComfyUnavailable(f"fetching {output.name} from {http.address.shown} failed: it {reason}") from error
                log.info("fetching %s again: %s", output.name, error)
                sleep(backoff(attempt))
                attempt += 1
        part.replace(dest)
    finally:
        if part.exists():
            part.unlink()
    return dest


class _Short(Exception):
    """The body ended before its announced length."""


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The body. A socket's own errors become those of ``requests``, so that an ``OSError`` means the disk."""
    try:
        yield from response.iter_content(CHUNK)
    except requests.RequestException:  # an OSError too
        raise
    except OSError as error:
        raise requests.ConnectionError(error) from error


def _download(http: ComfyHttp, output: OutputFile, part: Path) -> None:
    params = {"filename": output.filename, "subfolder": output.subfolder, "type": output.type}
    # identity: Content-Length then counts the bytes that arrive, and a clip does not compress anyway
    with http.send("GET", "/view", params=params, stream=True, headers={"Accept-Encoding": "identity"}) as response:
        status = response.status_code
        if status in AWAY_STATUS:
            raise ComfyUnavailable(f"answers {status} {response.reason}")
        if status == 404:
            raise ClipError(f"{output.name}: the server has no such file in its {output.type} folder; was it deleted or moved?")
        if status != 200:
            raise ComfyError(f"fetching {output.name} from {http.address.shown} answered {status} {response.reason}")
        kind = response.headers.get("Content-Type", "")
        if kind.startswith("text/html"):
            raise ComfyError(f"fetching {output.name} from {http.address.shown} gave a web page: is a login page in front of the server?")
        announced = response.headers.get("Content-Length", "")
        written = 0
        with part.open("wb") as file:
            for chunk in _chunks(response):
                file.write(chunk)
                written += len(chunk)
            file.flush()
            os.fsync(file.fileno())
    if announced.isdigit() and written != int(announced):
        raise _Short(f"{written} of {announced} bytes arrived")
    if written == 0:
        raise ClipError(f"{output.name}: the server's file is empty")
