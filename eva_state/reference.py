"""``reference_params.json``: the params a person wants tried, in any of the forms users' files have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eva_env_base import StateError

LIST_KEYS = ("combos", "params_list", "list", "reference_combinations", "reference_videos")


def read_reference_params(path: Path | str) -> list[dict[str, Any]]:
    """The list of params in ``path``, in file order, without repetitions.

    Accepted: a list of params, of ``{"params": {...}}``, or either under one of :data:`LIST_KEYS`.
    An absent file is an empty list. Raises StateError naming the file and what is wrong with it.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_bytes())  # UTF-8, -16 or -32, with or without BOM
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(f"{path}: cannot be read as JSON ({error}); mend it or remove it") from error
    if isinstance(found, dict):
        key = next((key for key in LIST_KEYS if isinstance(found.get(key), list)), None)
        if key is None:
            raise StateError(f"{path}: holds none of the lists {', '.join(LIST_KEYS)}; write a list of params, or one of these")
        found = found[key]
    if not isinstance(found, list):
        raise StateError(f"{path}: holds a {type(found).__name__}; write a list of params")
    out: list[dict[str, Any]] = []
    for number, item in enumerate(found, 1):
        params = item.get("params", item) if isinstance(item, dict) else None
        if not isinstance(params, dict):
            raise StateError(f"{path}: item {number} is neither params nor {{'params': ...}}: {item!r}")
        if params and params not in out:
            out.append(params)
    return out
