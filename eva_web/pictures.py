"""Thumbs and filmstrips: made once by a helper process, kept on disk.

The helper (``picture_worker``) is the only one that loads a video decoder: the server stays small, and a broken file that
crashes a decoder takes nothing else along. It ends by itself when nobody asks for pictures.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from eva_env_base import PROJECT_DIR, has_module
from eva_web.messages import FileBody, HttpError, Request, Response
from eva_web.ranges import Validators, precondition

log = logging.getLogger(__name__)

FORMAT = "1"  # part of every cache key: raise it when pictures look different
ANSWER_SECONDS = 30.0  # a clip that takes longer to decode counts as unreadable
MAX_CACHE_BYTES = 1_000_000_000  # about 15,000 clips with both pictures
SUFFIXES = {"series": ".json", "workflow": ".json"}  # by kind; all others are pictures
# What the agent's measuring pass makes too, by kind: its name under ``pictures`` in the history.
MEASURED = {"thumb": "thumbnail", "filmstrip": "scrub_strip"}
PRUNE_EVERY = 500  # new pictures between two looks at the cache's size


class Unreadable(Exception):
    """The clip has no picture to show; ``str()`` says why."""


class Worker:
    """One helper process, started when first needed and again when it has ended. Thread-safe; one job at a time."""

    def __init__(self, command: list[str] | None = None, answer_seconds: float = ANSWER_SECONDS):
        self._command = command or [sys.executable, "-m", "eva_web.picture_worker"]
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[bytes] = queue.Queue()

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(PROJECT_DIR), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            cwd=PROJECT_DIR,
        )
        answers: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=_pump, args=(process, answers), name="eva-web-picture-answers", daemon=True).start()
        self._process, self._answers = process, answers
        return process

    def make(self, kind: str, source: Path, target: Path) -> None:
        """Writes the picture to ``target``. Raises :class:`Unreadable`."""
        job = json.dumps({"kind": kind, "source": str(source), "target": str(target)}).encode() + b"\n"
        with self._lock:
            answer = b""
            for _ in range(2):  # a helper that ended while idle is found out only by writing to it
                process = self._process
                if process is None or process.poll() is not None:
                    self._end()
                    process = self._start()
                assert process.stdin is not None
                try:
                    process.stdin.write(job)
                    process.stdin.flush()
                    answer = self._answers.get(timeout=self._answer_seconds)
                except queue.Empty:
                    self._end()
                    raise Unreadable(f"decoding took over {self._answer_seconds:.0f} s") from None
                except OSError as error:
                    log.info("the picture helper is gone (%s); starting another", error)
                if answer:
                    break
                self._end()
            else:
                raise Unreadable("the decoder crashed on it")
        result = json.loads(answer)
        if "error" in result:
            raise Unreadable(str(result["error"]))

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError as error:  # unsent bytes of a job for a dead helper
                    log.debug("closing a pipe of the picture helper: %s", error)

    def close(self) -> None:
        with self._lock:
            self._end()


def _pump(process: subprocess.Popen[bytes], answers: queue.Queue[bytes]) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            answers.put(line)
    except ValueError:
        log.debug("the picture helper's pipe was closed")
    answers.put(b"")  # the end


class Pictures:
    """The cache of pictures in ``folder``, by clip name, size, time and kind; failures are kept too."""

    def __init__(self, folder: Path, worker: Worker | None = None):
        self.folder = folder
        self._worker = worker or Worker()
        self._lock = threading.Lock()
        self._made = 0

    def close(self) -> None:
        self._worker.close()

    def get(self, kind: str, name: str, source: Path, status: os.stat_result) -> tuple[Path, str]:
        """``(file, etag)`` of the picture, made now if need be. Raises :class:`Unreadable`."""
        text = "\0".join([FORMAT, kind, name, str(status.st_size), str(status.st_mtime_ns)])
        key = hashlib.sha256(text.encode()).hexdigest()[:40]
        target = self.folder / kind / key[:2] / f"{key}{SUFFIXES.get(kind, '.jpg')}"
        failed = target.with_suffix(".failed")
        if not target.is_file():
            if failed.is_file():
                raise Unreadable(failed.read_text(encoding="utf-8") or "it cannot be decoded")
            if not has_module("av"):
                raise HttpError(503, "pictures need PyAV: pip install av")
            self._make(kind, source, target, failed)
        return target, f'"{key}"'

    def _make(self, kind: str, source: Path, target: Path, failed: Path) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary_name = tempfile.mkstemp(prefix=".new-", suffix=".jpg", dir=target.parent)
            os.close(descriptor)
        except OSError as error:
            raise HttpError(507, f"no room for pictures in {self.folder}: {error.strerror or error}") from None
        temporary = Path(temporary_name)
        try:
            self._worker.make(kind, source, temporary)
            temporary.replace(target)
        except Unreadable as error:
            try:
                failed.write_text(str(error), encoding="utf-8")
            except OSError as full:
                log.warning("%s cannot be written: %s", failed, full)
            raise
        except OSError as error:
            raise HttpError(507, f"the picture could not be kept in {self.folder}: {error.strerror or error}") from None
        finally:
            temporary.unlink(missing_ok=True)
        with self._lock:
            self._made += 1
            prune = self._made % PRUNE_EVERY == 0
        if prune:
            self.prune(MAX_CACHE_BYTES)

    def prune(self, most_bytes: int) -> int:
        """Removes the oldest pictures until at most four fifths of ``most_bytes`` are held, if more were. Returns how many went."""
        held = []
        for path in self.folder.glob("*/*/*"):
            try:
                status = path.stat()
            except OSError:
                continue  # another request has removed it
            held.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in held)
        if total <= most_bytes:
            return 0
        removed = 0
        for _, size, path in sorted(held):
            if total <= most_bytes * 4 // 5:
                break
            path.unlink(missing_ok=True)
            total -= size
            removed += 1
        return removed


def made_of(request: Request, kind: str, name: str) -> tuple[Path, str]:
    """``(file, etag)`` of what the helper makes of a clip. Raises :class:`Unreadable`, or ``HttpError`` where there is no clip."""
    from eva_web.media import open_clip

    descriptor, status = open_clip(request, name)
    os.close(descriptor)
    if (kept := _measured(request, kind, name, status)) is not None:
        return kept
    source = Path(os.path.realpath(request.app.index.folder.root / name))
    return request.app.pictures.get(kind, name, source, status)


def _measured(request: Request, kind: str, name: str, clip: os.stat_result) -> tuple[Path, str] | None:
    """What the agent's measuring pass left of the clip, where it is there and no older than the clip; None: it is to be made.

    The history may come from elsewhere: only what lies in the cache is handed out.
    """
    row = request.app.index.row(name)
    entry = request.app.store.entry(row.alias or name if row is not None else name) or {}
    told = entry.get("pictures")
    given = told.get(MEASURED.get(kind, "")) if isinstance(told, dict) else None
    if not isinstance(given, str):
        return None
    try:
        folder = os.path.realpath(request.app.pictures.folder)
        path = Path(os.path.realpath(Path(folder).parent / given))
        held = path.stat()
    except (OSError, ValueError) as error:  # pruned meanwhile; ValueError: a NUL character in the name
        log.debug("%s of %r is not there: %s", kind, name, error)
        return None
    if not path.is_relative_to(folder) or held.st_mtime_ns < clip.st_mtime_ns:
        return None
    return path, f'"{hashlib.sha256(f"{FORMAT} {given} {held.st_mtime_ns} {held.st_size}".encode()).hexdigest()[:40]}"'


def _picture(request: Request, kind: str) -> Response:
    from eva_web.media import CACHE

    try:
        path, etag = made_of(request, kind, request.rest)
        picture = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except Unreadable as error:
        raise HttpError(422, f"the clip {request.rest!r} has no picture: {error}", fields={"name": str(error)}) from None
    except OSError as error:
        raise HttpError(503, f"the picture of {request.rest!r} cannot be read: {error.strerror or error}") from None
    held = os.fstat(picture)
    headers = {"ETag": etag, "Cache-Control": CACHE}
    if precondition(request.headers, Validators(etag, held.st_mtime)) == 304:
        os.close(picture)
        return Response(304, headers=headers)
    return Response(200, FileBody(picture, 0, held.st_size), "image/jpeg", headers)


def thumb(request: Request) -> Response:
    """One frame, 320 pixels wide."""
    return _picture(request, "thumb")


def filmstrip(request: Request) -> Response:
    """Ten frames side by side, from the first to the last."""
    return _picture(request, "filmstrip")
