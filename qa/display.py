"""What the agent shows in the terminal: a live panel on a tty, plain timestamped lines anywhere else.

Both are fed by the agent's hooks (a line for every try and message) and by the board's snapshot (what is rendering now). Nothing is wider
than 80 columns but long messages, which wrap.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from textwrap import shorten
from typing import Any, TextIO

from eva_p1.agent_hooks import AgentControl, AgentHooks
from eva_p1.agent_types import Analysis, FailedTry, ScoredClip
from eva_state.keys import combo_key

HEARTBEAT = 60.0  # plain mode: a line a minute tells that a long prompt is still rendering
REFRESH = 4  # panel redraws a second: steps of a sampler rarely come faster
SHOWN_METRICS = ("blur", "exposure", "blockiness", "flicker", "deep_quality", "taste")
SHOWN_GUARD = 0.9  # a guard above takes less from the overall score than two clips of one combo differ by
INDENT = " " * 10
REASON_CHARACTERS = 140


def duration(seconds: float | None) -> str:
    """A duration for a person: ``42 s``, ``3 min 05 s``, ``2 h 14 min``; a dash where it is not known."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def minutes(value: float) -> str:
    """GPU time for a person: two decimals below a minute, hours from ten hours on."""
    if value < 600:
        return f"{value:.{2 if 0 < value < 1 else 1}f} GPU min"
    return f"{value / 60:.1f} GPU h"


def shown_scores(analysis: Analysis) -> list[tuple[str, float]]:
    """(name, score) of what was measured, and ``× name`` of each guard that took the overall score down (``docs/metrics.md``)."""
    scores = [(name, analysis.metrics.get(name)) for name in SHOWN_METRICS]
    guards = analysis.raw.get("guards") or {}
    held = [(f"× {name}", value) for name, value in guards.items() if isinstance(value, (int, float)) and value < SHOWN_GUARD]
    return [(name, float(value)) for name, value in [*scores, *held] if isinstance(value, (int, float))]


def metric_line(analysis: Analysis) -> str:
    """``blur 0.81  exposure 0.77 ...``; what was not measured is left out."""
    return "  ".join(f"{name} {value:.2f}" for name, value in shown_scores(analysis))


def brief(text: str) -> str:
    """A reason in two terminal lines at most; main.log holds the whole of it."""
    return shorten(text, REASON_CHARACTERS, placeholder=" ...")


def counter(tries: int, total: int | None) -> str:
    return f"{tries}/{total}" if total else str(tries)


def money(report: dict[str, Any]) -> list[str]:
    """What a run spent, what is left, and what an improvement cost."""

    def both(name: str, dollars: str) -> str:
        paid = report.get(dollars)
        return minutes(report[name]) + ("" if paid is None else f" (${paid:.{3 if paid < 0.1 else 2}f})")

    line = f"spent {both('minutes', 'dollars')}"
    if report.get("limit") is not None:
        line += f" of {both('limit', 'limit_dollars')}, {both('left', 'left_dollars')} left"
    each, gained = report.get("minutes_per_hundredth"), report.get("gained")
    if each is not None:
        price = f" (${each * report['price'] / 60:.2g})" if report.get("price") is not None else ""
        return [line, f"the bet is {gained:.3f} better: {each:.2g} GPU min{price} for each 0.01"]
    return [line] if gained is None else [line, "the bet is no better than before this run"]


def summary(stats: dict[str, Any]) -> list[str]:
    """Lines at the end of a run."""
    best = "no clip scored yet" if stats["best_score"] is None else f"best {stats['best_score']:.3f}  {stats['best_combo']}"
    lines = [f"{stats['scored']} scored, {stats['failed']} failed", best]
    bet = stats.get("recommend")
    if bet and stats["best_score"] is not None:
        lines.append(f"bet  {bet['mean']:.3f} ± {bet['sd']:.3f}  {combo_key(bet)}")
    return lines + money(stats.get("budget") or {"minutes": stats["gpu_minutes"]})


class PlainDisplay(AgentHooks):
    """One or two lines a try on a stream, with the time in front; a heartbeat while a long prompt renders."""

    name = "display"

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.time, heartbeat: float = HEARTBEAT):
        self._stream = stream or sys.stdout
        self._clock, self._heartbeat = clock, heartbeat
        self._board: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="eva-display", daemon=True)
        self._lock = threading.Lock()

    def attach(self, agent: Any) -> None:
        self._board = agent.board
        agent.hooks.add(self)

    def __enter__(self) -> PlainDisplay:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=2.0)

    def line(self, text: str, style: str = "") -> None:
        stamp = time.strftime("%H:%M:%S", time.localtime(self._clock()))
        with self._lock:
            self._stream.write(f"{stamp}  {text}\n")
            self._stream.flush()

    def end(self, stats: dict[str, Any], in_flight: int = 0) -> None:
        """The run's figures; ``in_flight``: prompts left at their servers."""
        for text in summary(stats):
            self.line(text)
        if in_flight:
            what = "1 prompt is" if in_flight == 1 else f"{in_flight} prompts are"
            self.line(f"{what} left at the server; run again to take what is paid for")

    def on_message(self, text: str) -> None:
        self.line(text)

    def on_scored(self, agent: AgentControl, result: ScoredClip) -> None:
        snapshot = self._board.snapshot()
        best = "new best" if result.is_best else f"best {snapshot['best_score']:.3f}"
        self.line(f"{counter(result.tries, snapshot['iterations'])}  score {result.analysis.score:.3f} ({best})  {result.job.combo_key}")
        self.line(f"  {metric_line(result.analysis)}  {result.video}")
        self.line(f"  {minutes(snapshot['gpu_minutes'])}, {duration(snapshot['eta_seconds'])} to go")

    def on_failed(self, agent: AgentControl, failure: FailedTry) -> None:
        snapshot = self._board.snapshot()
        how = "skipped" if failure.kind == "skipped" else f"FAILED ({failure.kind})"
        self.line(f"{counter(failure.tries, snapshot['iterations'])}  {how}  {failure.job.combo_key}: {brief(failure.reason)}")

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat):
            for row in self._board.snapshot()["servers"]:
                now = row["now"]
                if now:
                    step = f" {now['step']}/{now['steps']}" if now["steps"] else ""
                    left = f", about {duration(now['seconds_left'])} left" if now["seconds_left"] is not None else ""
                    self.line(f"rendering {now['combo_key']}: {now['node'] or 'starting'}{step}, {duration(now['seconds'])}{left}")


class RichDisplay(PlainDisplay):
    """A panel that stays at the bottom, with the tries scrolling above it."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.time):
        super().__init__(stream, clock)
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=self._stream, highlight=False)
        self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=REFRESH, transient=True)

    def __enter__(self) -> RichDisplay:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def line(self, text: str, style: str = "") -> None:
        from rich.table import Table
        from rich.text import Text

        stamp = time.strftime("%H:%M:%S", time.localtime(self._clock()))
        row = Table.grid(padding=(0, 2, 0, 0))  # what is too long goes on below itself, not below the time
        row.add_column(no_wrap=True)
        row.add_column(overflow="fold")
        row.add_row(Text(stamp, style="dim"), Text(text, style=style))
        self._console.print(row)

    def on_message(self, text: str) -> None:
        self.line(text, "yellow" if "waiting for" in text or "SIMULATOR" in text else "cyan")

    def on_scored(self, agent: AgentControl, result: ScoredClip) -> None:
        from rich.text import Text

        snapshot = self._board.snapshot()
        stamp = time.strftime("%H:%M:%S", time.localtime(self._clock()))
        score = result.analysis.score
        head = Text.assemble(
            (f"{stamp}  ", "dim"),
            (f"{counter(result.tries, snapshot['iterations']):>7}  ", "bold"),
            (f"{score:.3f}{'★' if result.is_best else ' '} ", f"bold {score_style(score)}"),
            (result.job.combo_key, ""),
        )
        self._console.print(head, overflow="fold")
        detail = Text(INDENT, style="dim")
        used = len(INDENT)
        for name, value in shown_scores(result.analysis):
            shown = f"{value:.2f}  "
            if used + len(name) + len(shown) - 1 > self._console.width:
                detail.append(f"\n{INDENT}")
                used = len(INDENT)
            used += len(name) + 1 + len(shown)
            detail.append(f"{name} ").append(shown, style=f"not dim {score_style(value)}")
        self._console.print(detail, soft_wrap=True)

    def on_failed(self, agent: AgentControl, failure: FailedTry) -> None:
        from rich.padding import Padding
        from rich.text import Text

        snapshot = self._board.snapshot()
        self.line(f"{counter(failure.tries, snapshot['iterations']):>7}  {failure.kind}  {failure.job.combo_key}", "bold red")
        self._console.print(Padding(Text(brief(failure.reason), style="red"), (0, 0, 0, len(INDENT))))

    # ------------------------------------------------------------ the panel
    def render(self) -> Any:
        """The panel, from the board's snapshot."""
        from rich.console import Group
        from rich.rule import Rule
        from rich.text import Text

        if self._board is None:
            return Text("")
        snapshot = self._board.snapshot()
        parts: list[Any] = [Rule(style="dim"), self._headline(snapshot)]
        several = len(snapshot["servers"]) > 1
        for row in snapshot["servers"]:
            parts += self._server(row, several)
        return Group(*parts)

    def _headline(self, snapshot: dict[str, Any]) -> Any:
        from rich.text import Text

        text = Text(overflow="ellipsis", no_wrap=True)
        if snapshot["simulator"]:
            text.append(" SIMULATOR ", style="black on yellow").append("  ")
        text.append(counter(snapshot["iteration"], snapshot["iterations"]), style="bold").append(" tries")
        if snapshot["best_score"] is not None:
            text.append("  best ").append(f"{snapshot['best_score']:.3f}", style=f"bold {score_style(snapshot['best_score'])}")
        if snapshot["failed"]:
            text.append(f"  {snapshot['failed']} failed", style="red")
        budget = snapshot.get("budget")
        text.append(f"  {minutes(snapshot['gpu_minutes'])}" + (f" of {minutes(budget['limit'])}" if budget else ""))
        if snapshot["eta_seconds"] is not None:
            text.append("  ").append(duration(snapshot["eta_seconds"]), style="bold").append(" to go")
        if snapshot["state"] not in ("running", "starting"):
            text.append(f"  {snapshot['state'].replace('_', ' ')}", style="yellow")
        return text

    def _server(self, row: dict[str, Any], several: bool) -> list[Any]:
        from rich.text import Text

        lines: list[Any] = []
        if several or row["message"]:
            style = "yellow" if row["message"] else "dim"
            lines.append(Text(f"{row['api']}  {row['message']}", style=style, overflow="ellipsis", no_wrap=True))
        now = row["now"]
        if now:
            lines.append(Text.assemble(("▸ ", "green"), (now["combo_key"], "bold"), overflow="ellipsis", no_wrap=True))
            lines.append(self._progress(now))
        for waiting in row["waiting"][:1]:
            lines.append(Text.assemble(("  next  ", "dim"), (waiting["combo_key"], "dim"), overflow="ellipsis", no_wrap=True))
        return lines

    def _progress(self, now: dict[str, Any]) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        steps = now["steps"] or 0
        node = now["node"] or "starting"
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=26, no_wrap=True, overflow="ellipsis")
        grid.add_column(width=24)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        known = now["seconds_left"] is not None
        total = now["seconds"] + now["seconds_left"] if known else 0
        bar = ProgressBar(total=total or 1, completed=now["seconds"] if known else 0)
        if steps:
            bar = ProgressBar(total=steps, completed=now["step"] or 0)
        count = f"{now['step']}/{steps}  " if steps else ""
        left = f", ~{duration(now['seconds_left'])} left" if now["seconds_left"] else ""
        grid.add_row(Text(f"  {node}"), bar, Text(f"{count}{duration(now['seconds'])}{left}"))
        return grid


def score_style(score: float) -> str:
    """Colour of a score; the limits are those of the autoban rules (0.45 and 0.55) and what people call good."""
    return "red" if score < 0.45 else "yellow" if score < 0.55 else "green" if score < 0.8 else "bright_green"


class DisplayHandler(logging.Handler):
    """Shows warnings of other modules among the display's lines, so that they do not tear the panel."""

    def __init__(self, display: PlainDisplay, level: int = logging.WARNING):
        super().__init__(level)
        self._display = display
        self.addFilter(lambda record: record.name != "eva.agent")  # the agent's own words come through on_message

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._display.line(f"{record.levelname.lower()}: {record.getMessage()}", "yellow" if record.levelno < logging.ERROR else "red")
        except (OSError, ValueError):
            self.handleError(record)


def make_display(stream: TextIO | None = None) -> PlainDisplay:
    """The display that suits the stream."""
    stream = stream or sys.stdout
    return RichDisplay(stream) if stream.isatty() else PlainDisplay(stream)
