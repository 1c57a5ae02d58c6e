"""The picture of the clip that is being made, small enough for a page that looks at it twice a second."""

from __future__ import annotations

import logging

import numpy as np

log = logging.getLogger(__name__)

PREVIEW_NAME = "agent_preview.jpg"  # beside agent_status.json
MAX_BYTES = 60_000
MAX_SIDE = 512  # pixels; servers send 256 to 512
QUALITY = 80
_JPEG = b"\xff\xd8\xff"


def small_jpeg(image: bytes) -> bytes | None:
    """``image`` (JPEG, PNG or what else OpenCV reads) as a JPEG of at most :data:`MAX_SIDE` pixels a side; None for no picture."""
    if image.startswith(_JPEG) and len(image) <= MAX_BYTES:
        return image
    if not image:
        return None
    import cv2  # here, because it takes 0.1 s and the first prompt, for which a GPU waits, comes before any picture

    picture = cv2.imdecode(np.frombuffer(image, dtype=np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        log.info("a preview of %d bytes is no picture that can be read", len(image))
        return None
    height, width = picture.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    if scale < 1.0:
        picture = cv2.resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
    done, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return coded.tobytes() if done else None
