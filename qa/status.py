"""``--status``: what was learned and what is going on, read from the state. Needs no server and disturbs no agent."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from eva_p1.agent_ledger import Ledger
from eva_p1.agent_report import bandit_report
from eva_p1.multi_bandit import MultiDimensionalBandit
from eva_p1.prior import kept_prior
from eva_p1.search_space import SearchSpace
from eva_state.keys import combo_key
from eva_state.live import STALE_SECONDS, read_live
from eva_state.store import StateStore
from qa.bandit_view import bandit_view, failure_lines, plain_table, titled, with_reason
from qa.display import duration, minutes, score_style

TOP = 10
WIDTH = 80  # of a text that goes to no terminal


def describe(state_dir: Path, space: SearchSpace | None = None, clock: Callable[[], float] = time.time) -> str:
    """The status as text without colours. Raises ``StateError`` where the folder cannot be read."""
    out = io.StringIO()
    show(state_dir, space, clock, Console(file=out, width=WIDTH, color_system=None))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def show(state_dir: Path, space: SearchSpace | None = None, clock: Callable[[], float] = time.time, console: Console | None = None) -> None:
    """Prints the status. Raises ``StateError`` where the folder cannot be read."""
    console = console or Console(highlight=False, soft_wrap=False)
    if not state_dir.is_dir():
        nothing = f"No state in {state_dir} yet: nothing was tried. Start with python run_agent_qa.py, or name the folder with --state-dir."
        return console.print(Text(nothing))
    with StateStore(state_dir, role="reader") as store:
        known = space or SearchSpace.from_dict(store.space() or {})
        prior = kept_prior(state_dir)
        bandit = MultiDimensionalBandit(space=prior.known_to(known))
        bandit.warm_start(prior.results)
        ledger = Ledger(store, bandit)
        ledger.warm_start()
        for job in ledger.in_flight_jobs():
            ledger.mark_in_flight(job.params)
        stats = store.stats()
        parts = [
            Text(_now(state_dir, clock())),
            Text(
                f"{counted(stats['total_generated'], 'clip')}, {stats['total_rated']} rated, "
                f"{counted(len(_failed(store)), 'failed try', 'failed tries')}, "
                f"{stats['combos_tried']} of {bandit.arm_count} combos tried, {minutes(_cost(store))}"
            ),
            _best(store.combo_stats()),
            _learned(bandit, bool(store.combo_stats() or prior.results)),
            _bans(store.bans()),
            _flight(store.in_flight(), clock()),
            _failures(_failed(store)),
        ]
    for number, part in enumerate(part for part in parts if part is not None):
        if number:
            console.print()
        console.print(part)


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


def _best(stats: dict[str, dict[str, Any]]) -> RenderableType | None:
    rows = [(item["S"] / item["N"], max(item["scores"], default=0.0), item["N"], key) for key, item in stats.items() if item["N"]]
    if not rows:
        return None
    rows.sort(key=lambda row: (-row[0], -row[2], row[3]))
    title = f"Best combos by mean reward (top {min(TOP, len(rows))} of {len(rows)})"
    table = plain_table(("mean", True), ("best", True), ("tries", True), ("combo", False))
    for mean, best, tries, key in rows[:TOP]:
        table.add_row(Text(f"{mean:.3f}", style=score_style(mean)), f"{best:.3f}", str(tries), key)
    return titled(title, table)


def _learned(bandit: MultiDimensionalBandit, anything: bool) -> RenderableType:
    if not anything:
        return Text("No clip is scored yet, so nothing was learned.")
    try:
        report = bandit_report(bandit)
        bet = bandit.recommend()
    except ValueError as error:
        return Text(f"Nothing to recommend: {error}")
    line = Text(f"Would bet on  {combo_key(bet)}  expecting {bet['mean']:.3f} ± {bet['sd']:.3f}")
    return Group(line, Text(), bandit_view(report)) if report["tries"] else line


def _bans(bans: dict[str, dict[str, Any]]) -> RenderableType:
    if not bans:
        return Text("Nothing is banned.")
    newest = sorted(bans.items(), key=lambda item: -item[1]["ts"])
    more = f", the newest {TOP}" if len(bans) > TOP else ""
    title = f"{len(bans)} ban{'s' * (len(bans) != 1)}{more}"
    table = plain_table(("by", False), ("when", True), ("combo and reason", False))
    for key, ban in newest[:TOP]:
        table.add_row(str(ban["by"] or "?"), _day(ban["ts"]), with_reason(key, ban["reason"]))
    return titled(title, table)


def _flight(jobs: list[dict[str, Any]], at: float) -> RenderableType | None:
    if not jobs:
        return None
    table = plain_table(("combo", False), ("server", False), ("queued", True))
    for job in jobs:
        table.add_row(str(job.get("combo_key")), str(job.get("api")), f"{_age(job.get('submitted_at'), at)} ago")
    return titled(f"{len(jobs)} in flight", table)


def _failed(store: StateStore) -> list[dict[str, Any]]:
    """Failed tries; a prompt taken back before it started, or skipped by a person, is none."""
    return [failure for failure in store.failures() if failure.get("kind") not in ("withdrawn", "skipped")]


def _failures(shown: list[dict[str, Any]]) -> RenderableType | None:
    return failure_lines(shown[-5:], len(shown)) if shown else None


def counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _day(ts: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ts))


def _age(ts: Any, at: float) -> str:
    return duration(at - float(ts)) if ts else "?"
