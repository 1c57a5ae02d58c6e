"""``bandit_state.json`` for a bandit that keeps its own file: every older form in, one form out, atomically.

Forms read (contract, section 3; the last two are the original system's):

- ``combo_stats {key: {"N", "S", "scores"}}``, ``t``, ``banned_combos [key]``, ``arms``, ``N``, ``S``
- ``combo_stats {key: {"total_reward", "count"}}``
- bare ``arms``, ``N``, ``S``, ``t``; arms are keys or ``[sampler, scheduler]`` lists, N and S are lists beside them

What the common form cannot hold (which clip, who judged, what it cost, failures, reasons) stands under ``eva_bandit``.
Where the two disagree another program edited the file: ``combo_stats`` wins. Unknown keys are written back untouched.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eva_state.keys import normalise_key, normalise_pattern

from .bandit_records import WINNERS, Clip, Comparison, Failure, Ledger, check_reward

logger = logging.getLogger(__name__)
OWN = "eva_bandit"
VERSION = 1


@dataclass
class PairEvidence:
    """What an old file knew of a sampler|scheduler pair: ``count`` tries with this ``mean``, other parameters unknown."""

    sampler: str
    scheduler: str
    count: int
    mean: float


@dataclass
class Loaded:
    """Everything a state file gave. ``unknown`` and the ``odd`` ones hold what is not ours or not clear, to be written back."""

    ledger: Ledger = field(default_factory=Ledger)
    pairs: list[PairEvidence] = field(default_factory=list)
    unknown: dict[str, Any] = field(default_factory=dict)
    odd_stats: dict[str, Any] = field(default_factory=dict)  # entries of combo_stats that could not be understood
    odd_bans: list[Any] = field(default_factory=list)


def load_state(path: Path, clock: Any = time.time) -> Loaded:
    """Reads a state file. A missing file gives an empty state; one that cannot be parsed is set aside and reported."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Loaded()
    except UnicodeDecodeError as error:
        return _set_aside(path, f"it is not UTF-8 ({error})", clock)
    try:
        data = json.loads(text)
    except ValueError as error:
        return _set_aside(path, f"it is not JSON ({error})", clock)
    if not isinstance(data, dict):
        return _set_aside(path, "it does not hold a JSON object", clock)
    return parse_state(data)


def _set_aside(path: Path, why: str, clock: Any) -> Loaded:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(clock()))
    target = path.with_name(f"{path.name}.broken-{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.broken-{stamp}-{number}")
    path.rename(target)
    logger.warning("%s cannot be read: %s; kept as %s, starting without it", path, why, target.name)
    return Loaded()


# ------------------------------------------------------------ reading
def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return int(value)


def _clips_of_stats(key: str, stats: Any) -> list[Clip]:
    """Anonymous clips that reproduce one combo's statistics, in any of the known forms."""
    if not isinstance(stats, Mapping):
        raise ValueError(f"{stats!r} is not an object")
    scores = stats.get("scores") or []
    if not isinstance(scores, list):
        raise ValueError("scores is not a list")
    rewards = [min(1.0, max(0.0, float(score))) for score in scores if isinstance(score, (int, float)) and math.isfinite(score)]
    count = _count(stats.get("N", stats.get("count", len(rewards))))
    total = float(stats.get("S", stats.get("total_reward", math.fsum(rewards))) or 0.0)
    clips = [Clip(key=key, video=None, auto=reward) for reward in rewards]
    missing = count - len(rewards)
    if missing > 0 and math.isfinite(total):
        mean = min(1.0, max(0.0, (total - math.fsum(rewards)) / missing))
        clips.append(Clip(key=key, video=None, auto=mean, count=missing))
    return clips


def parse_state(data: Mapping[str, Any]) -> Loaded:
    """The state in a parsed file. What cannot be understood is reported, left out of the model, and kept as it is."""
    out = Loaded(unknown={k: v for k, v in data.items() if k not in ("combo_stats", "t", "banned_combos", "arms", "N", "S", OWN)})
    own = data.get(OWN) if isinstance(data.get(OWN), Mapping) else {}
    assert isinstance(own, Mapping)
    told = _told_by_file(data, out)
    mine: dict[str, list[Clip]] = {}
    for item in own.get("clips", []):
        try:
            clip = Clip(
                key=normalise_key(item["key"]),
                video=item.get("video"),
                auto=None if item.get("auto") is None else check_reward(item["auto"]),
                human=None if item.get("human") is None else check_reward(item["human"]),
                cost_minutes=item.get("cost_minutes"),
                count=max(1, _count(item.get("count", 1))),
                number=_count(item.get("number", 0)),
                seconds=item.get("seconds"),
                server=item.get("server"),
                elsewhere=bool(item.get("elsewhere")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            logger.warning("bandit state: clip %r left out: %s", item, error)
            continue
        mine.setdefault(clip.key, []).append(clip)
    ledger = out.ledger
    reconciled: list[Clip] = []
    for key in dict.fromkeys([*mine, *told]):
        reconciled += _reconcile(key, mine.get(key, []), told.get(key, []), "combo_stats" in data)
    for clip in sorted(reconciled, key=lambda clip: clip.number):
        ledger.add(clip)
    for item in own.get("failures", []):
        try:
            ledger.failures.append(Failure(normalise_key(item["key"]), str(item["kind"]), item.get("cost_minutes")))
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("bandit state: failure %r left out: %s", item, error)
    for item in own.get("comparisons", []):
        try:
            done = Comparison(str(item["id"]), normalise_key(item["left"]), normalise_key(item["right"]), str(item["winner"]))
            if done.winner not in WINNERS:
                raise ValueError(f"unknown winner {done.winner!r}")
            ledger.comparisons[done.id] = done
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("bandit state: comparison %r left out: %s", item, error)
    reasons = own.get("bans", {}) if isinstance(own.get("bans"), Mapping) else {}
    banned = data.get("banned_combos") or []
    for text in banned if isinstance(banned, (list, Mapping)) else []:
        try:
            key = normalise_pattern(text)
        except ValueError as error:
            logger.warning("bandit state: ban left out: %s", error)
            out.odd_bans.append(text)
            continue
        reason = banned[text] if isinstance(banned, Mapping) else reasons.get(key, "")
        ledger.bans[key] = str(reason or "listed in the state file")
    for key, tries in (own.get("spared") or {}).items():
        with suppress(ValueError):
            ledger.spared[normalise_pattern(key)] = _count(tries)
    for item in own.get("pairs", []):
        with suppress(KeyError, TypeError, ValueError):
            out.pairs.append(PairEvidence(str(item["sampler"]), str(item["scheduler"]), _count(item["count"]), check_reward(item["mean"])))
    return out


def _told_by_file(data: Mapping[str, Any], out: Loaded) -> dict[str, list[Clip]]:
    """Clips by key from ``combo_stats``, or else from bare ``arms``/``N``/``S``."""
    told: dict[str, list[Clip]] = {}
    stats = data.get("combo_stats")
    if isinstance(stats, Mapping) and stats:
        for text, value in stats.items():
            try:
                key = normalise_key(text)
                told.setdefault(key, []).extend(_clips_of_stats(key, value))
            except (ValueError, TypeError) as error:
                logger.warning("bandit state: combo %r left out: %s", text, error)
                out.odd_stats[text] = value
        return told
    arms, counts, sums = data.get("arms"), data.get("N"), data.get("S")
    if not isinstance(arms, list) or OWN in data:
        return told
    for i, arm in enumerate(arms):
        try:
            count, total = _beside(counts, arm, i), _beside(sums, arm, i)
            if _count(count) == 0:
                continue
            mean = check_reward(min(1.0, max(0.0, float(total) / float(count))))
            if isinstance(arm, (list, tuple)):
                sampler, scheduler = arm
                out.pairs.append(PairEvidence(str(sampler), str(scheduler), _count(count), mean))
            elif str(arm).count("|") == 1:
                sampler, scheduler = str(arm).split("|")
                out.pairs.append(PairEvidence(sampler, scheduler, _count(count), mean))
            else:
                key = normalise_key(arm)
                told.setdefault(key, []).append(Clip(key=key, video=None, auto=mean, count=_count(count)))
        except (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError) as error:
            logger.warning("bandit state: arm %r left out: %s", arm, error)
    return told


def _beside(values: Any, arm: Any, i: int) -> Any:
    """N or S of an arm: a list parallel to arms, or an object by arm."""
    if isinstance(values, Mapping):
        text = "|".join(map(str, arm)) if isinstance(arm, (list, tuple)) else arm
        return values.get(text, values.get(str(arm), 0))
    return values[i] if isinstance(values, list) else 0


def _reconcile(key: str, mine: list[Clip], told: list[Clip], authoritative: bool) -> list[Clip]:
    """My clips where they agree with the file's statistics; what the file adds or lacks otherwise."""
    if not authoritative or not mine:
        return mine or told
    rated = [clip for clip in mine if clip.reward is not None]
    unspent = Counter(round(clip.reward, 9) for clip in told if clip.reward is not None for _ in range(clip.count))
    kept = [clip for clip in mine if clip.reward is None]
    for clip in rated:
        assert clip.reward is not None
        if unspent[round(clip.reward, 9)] >= clip.count:
            unspent[round(clip.reward, 9)] -= clip.count
            kept.append(clip)
    extra = [Clip(key=key, video=None, auto=reward, number=1 << 40) for reward in unspent.elements()]
    if extra or len(kept) < len(mine):
        logger.info(
            "bandit state: %s was changed by another program: %d tries added, %d taken away", key, len(extra), len(mine) - len(kept)
        )
    return kept + extra


# ------------------------------------------------------------ writing
def state_dict(loaded: Loaded) -> dict[str, Any]:
    """The JSON object for everything known."""
    ledger = loaded.ledger
    stats = ledger.stats()
    return {
        **loaded.unknown,
        "combo_stats": {**loaded.odd_stats, **stats},
        "t": ledger.t,
        "banned_combos": [*ledger.bans, *loaded.odd_bans],
        "arms": list(stats),
        "N": [value["N"] for value in stats.values()],
        "S": [value["S"] for value in stats.values()],
        OWN: {
            "version": VERSION,
            "clips": [_clip_dict(clip) for clip in ledger.clips],
            "failures": [vars(failure) for failure in ledger.failures],
            "comparisons": [vars(comparison) for comparison in ledger.comparisons.values()],
            "bans": ledger.bans,
            "spared": ledger.spared,
            "pairs": [vars(pair) for pair in loaded.pairs],
        },
    }


def _clip_dict(clip: Clip) -> dict[str, Any]:
    out = {"key": clip.key, "number": clip.number}
    for name in ("video", "auto", "human", "cost_minutes", "seconds", "server", "elsewhere"):
        value = getattr(clip, name)
        if value is not None and value is not False:
            out[name] = value
    if clip.count != 1:
        out["count"] = clip.count
    return out


def save_state(path: Path, loaded: Loaded) -> None:
    """Writes the file through a unique temporary one, fsync and rename: a reader sees the old or the new, never half."""
    text = json.dumps(state_dict(loaded), ensure_ascii=False, indent=1, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # not on Windows, where a folder cannot be fsynced
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
