"""What the ComfyUI client hands out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OutputFile:
    """A file a prompt saved. ``type`` is the server folder it lies in: ``output``, ``temp`` or ``input``."""

    filename: str
    subfolder: str = ""
    type: str = "output"

    @property
    def name(self) -> str:
        """Path below the server's folder, with ``/``."""
        folder = self.subfolder.replace("\\", "/").strip("/")
        return f"{folder}/{self.filename}" if folder else self.filename


@dataclass(frozen=True)
class Queued:
    """A prompt the server accepted. A lower ``number`` runs earlier."""

    prompt_id: str
    number: float


@dataclass(frozen=True)
class QueueState:
    """Prompt ids on the server, ``pending`` in the order they will run."""

    running: tuple[str, ...]
    pending: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """Something happened to a prompt.

    ``kind``: ``queued`` (waiting on the server, ``queue_position`` prompts before it), ``started``, ``cached`` (some nodes need not
    run), ``node`` (a node began), ``step`` (``value`` of ``max``), ``preview`` (``image`` holds JPEG or PNG bytes), ``reconnecting``
    (the WebSocket is away, polling goes on), ``waiting`` (the server itself is away).
    """

    prompt_id: str
    kind: str
    node: str | None = None
    title: str | None = None
    value: int = 0
    max: int = 0
    queue_position: int | None = None
    image: bytes | None = None


@dataclass(frozen=True)
class Finished:
    """A prompt that ran to its end.

    ``outputs`` are all saved files, ``videos`` those a browser or cv2 can take as a clip, best first. ``cached``: nothing ran, the
    files are those of an earlier identical prompt. ``seconds``: execution time by the server's own clock.
    """

    prompt_id: str
    outputs: tuple[OutputFile, ...]
    videos: tuple[OutputFile, ...]
    cached: bool
    seconds: float | None
