"""``--status``: what was learned and what is going on, read from the state. Needs no server and disturbs no agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from eva_p1.agent_ledger import Ledger
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.prior import kept_prior
from eva_p1.search_space import SearchSpace
from eva_state.live import STALE_SECONDS, read_live
from eva_state.store import StateStore
from qa.display import duration, minutes

TOP = 10


def describe(state_dir: Path, space: SearchSpace | None = None, clock: Callable[[], float] = time.time) -> str:
    """The tables as text. Raises ``StateError`` where the folder cannot be read."""
    if not state_dir.is_dir():
        return f"No state in {state_dir} yet: nothing was tried. Start with python run_agent_qa.py, or name the folder with --state-dir."
    with StateStore(state_dir, role="reader") as store:
        known = space or SearchSpace.from_dict(store.space() or {})
        prior = kept_prior(state_dir)
        bandit = MultiDimensionalBandit(space=prior.known_to(known))
        bandit.warm_start(prior.results)
        Ledger(store, bandit).warm_start()
        stats = store.stats()
        parts = [
            _now(state_dir, clock()),
            f"{stats['total_generated']} clips, {stats['total_rated']} rated, {len(_failed(store))} failed tries, "
            f"{stats['combos_tried']} of {bandit.arm_count} combos tried, {minutes(_cost(store))}",
            _best(store.combo_stats()),
            _bets(bandit),
            _bans(store.bans()),
            _flight(store.in_flight(), clock()),
            _failures(_failed(store)),
        ]
    return "\n\n".join(part for part in parts if part)


def table(title: str, heads: Iterable[str], rows: list[tuple[Any, ...]]) -> str:
    """An aligned text table; numbers to the right."""
    lines = [tuple(heads), *[tuple(str(cell) for cell in row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    numeric = [all(not isinstance(row[column], str) for row in rows) for column in range(len(widths))]

    def shown(line: tuple[str, ...]) -> str:
        return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(line, widths, numeric)).rstrip()

    return "\n".join([title, *("  " + shown(line) for line in lines)])


class _Figure(float):
    """A number that prints with three decimals."""

    def __str__(self) -> str:
        return f"{self:.3f}"


def _now(state_dir: Path, at: float) -> str:
    live = read_live(state_dir / "agent_status.json")
    if live is None or at - float(live.get("updated_at") or 0) > STALE_SECONDS or live.get("state") == "stopped":
        return "No agent is running."
    now = live.get("now") or {}
    total = f"/{live['iterations']}" if live.get("iterations") else ""
    head = f"Agent {live.get('pid')} is {str(live.get('state')).replace('_', ' ')}, {live.get('iteration')}{total} tries"
    doing = f", now {now['combo_key']} ({now.get('node') or 'starting'})" if now.get("combo_key") else ""
    left = f", {duration(live['eta_seconds'])} to go" if live.get("eta_seconds") is not None else ""
    return f"{head}{doing}{left}. {live.get('message') or ''}".rstrip()


def _cost(store: StateStore) -> float:
    made = sum(float(entry.get("cost_minutes") or 0) for entry in store.history())
    return made + sum(float(failure.get("cost_minutes") or 0) for failure in store.failures())


def _best(stats: dict[str, dict[str, Any]]) -> str:
    rows = []
    for key, item in stats.items():
        if item["N"]:
            rows.append((_Figure(item["S"] / item["N"]), _Figure(max(item["scores"], default=0.0)), item["N"], key))
    if not rows:
        return ""
    rows.sort(key=lambda row: (-row[0], -row[2], row[3]))
    title = f"Best combos by mean reward (top {min(TOP, len(rows))} of {len(rows)})"
    return table(title, ("mean", "best", "tries", "combo"), rows[:TOP])


def _bets(bandit: MultiDimensionalBandit) -> str:
    try:
        bet = bandit.recommend()
    except ValueError as error:
        return f"Nothing to recommend: {error}"
    key = f"{bet['sampler']}|{bet['scheduler']}|{bet['fps']}|{bet['cfg_scale']}|{bet['steps']}|{bet['width']}x{bet['height']}"
    return f"Would bet on  {key}  expecting {bet['mean']:.3f} ± {bet['sd']:.3f}"


def _bans(bans: dict[str, dict[str, Any]]) -> str:
    if not bans:
        return "Nothing is banned."
    newest = sorted(bans.items(), key=lambda item: -item[1]["ts"])
    rows = [(key, str(ban["by"] or "?"), _day(ban["ts"]), str(ban["reason"])) for key, ban in newest[:TOP]]
    more = f", the newest {TOP}" if len(bans) > TOP else ""
    return table(f"{len(bans)} ban{'s' * (len(bans) != 1)}{more}", ("combo", "by", "when", "reason"), rows)


def _flight(jobs: list[dict[str, Any]], at: float) -> str:
    if not jobs:
        return ""
    rows = [(str(job.get("combo_key")), str(job.get("api")), _age(job.get("submitted_at"), at)) for job in jobs]
    return table(f"{len(jobs)} in flight", ("combo", "server", "since"), rows)


def _failed(store: StateStore) -> list[dict[str, Any]]:
    """Failed tries; a prompt taken back before it started, or skipped by a person, is none."""
    return [failure for failure in store.failures() if failure.get("kind") not in ("withdrawn", "skipped")]


def _failures(shown: list[dict[str, Any]]) -> str:
    if not shown:
        return ""
    rows = []
    for failure in shown[-5:]:
        reason = " ".join(str(failure.get("reason")).split())
        rows.append((str(failure.get("kind")), str(failure.get("combo_key")), reason[:100]))
    return table(f"Failed tries (last {len(rows)} of {len(shown)})", ("kind", "combo", "reason"), rows)


def _day(ts: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ts))


def _age(ts: Any, at: float) -> str:
    return duration(at - float(ts)) if ts else "?"
