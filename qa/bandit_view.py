"""The bandit's report (``eva_p1.agent_report``) as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qa.display import brief, minutes, score_style

TOP, EFFECTS, STRONG = 10, 6, 3  # rows of a table, levels of an axis, axes of which more than best and worst are shown
LEAST_SHOWN = 0.0005  # an interaction below prints as 0.000
BAR = 14  # columns of a bar of effects


def bandit_view(report: Mapping[str, Any]) -> RenderableType:
    """All of the report, in the order in which a person asks: what is best, why, what next, what it cost, when to stop, what to ban."""
    parts = [_best(report), _effects(report), _interactions(report), _what_next(report), _cost(report), _suggestions(report)]
    spaced: list[RenderableType] = []
    for part in parts:
        if part is not None:
            spaced += [Text(), part] if spaced else [part]
    return Group(*spaced)


def plain_table(*heads: tuple[str, bool]) -> Table:
    """A table without lines; ``heads``: name, and whether its column holds numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, numeric in heads:
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    return table


def titled(title: str, table: RenderableType) -> RenderableType:
    """A table below its title, which may be wider."""
    return Group(Text(title, style="bold"), table)


def interval(item: Mapping[str, Any]) -> str:
    return f"{max(0.0, item['low']):.2f} to {min(1.0, item['high']):.2f}"


def _best(report: Mapping[str, Any]) -> RenderableType | None:
    if not report["best"]:
        return None
    table = plain_table(("mean", True), ("90 %", True), ("tries", True), ("combo", False))
    for item in report["best"][:TOP]:
        mean = Text(f"{item['mean']:.3f}", style=score_style(item["mean"]))
        table.add_row(mean, interval(item), str(item["tries"]), item["combo_key"])
    return titled("Best combos as the model sees them", table)


def _signed(effect: float) -> Text:
    return Text(f"{effect:+.3f}", style="green" if effect > 0 else "red")


def _bar(item: Mapping[str, Any], widest: float) -> Text:
    length = round(BAR * abs(item["effect"]) / widest) if widest else 0
    sure = item["low"] > 0 or item["high"] < 0
    return Text("█" * length if sure else "░" * length, style="green" if item["effect"] > 0 else "red")


def _effects(report: Mapping[str, Any]) -> RenderableType | None:
    axes = [axis for axis in report["main_effects"] if len(axis["levels"]) > 1]
    if not axes:
        return None
    widest = max(abs(level["effect"]) for axis in axes for level in axis["levels"])
    table = plain_table(("axis", False), ("level", False), ("effect", True), ("90 %", True), ("", False))
    for place, axis in enumerate(axes):
        levels = axis["levels"]
        shown = levels if len(levels) <= EFFECTS else [*levels[: EFFECTS - 2], *levels[-2:]]
        if place >= STRONG:
            shown = [levels[0], levels[-1]]
        for number, level in enumerate(shown):
            between = f"{level['low']:+.2f} to {level['high']:+.2f}"
            table.add_row("" if number else axis["axis"], level["level"], _signed(level["effect"]), between, _bar(level, widest))
    return titled("Main effects: reward above the average combo (░ could still be nothing)", table)


def _interactions(report: Mapping[str, Any]) -> RenderableType | None:
    found = [item for item in report["interactions"] if abs(item["effect"]) >= LEAST_SHOWN][:EFFECTS]
    if not found:
        return None
    table = plain_table(("effect", True), ("90 %", True), ("together", False))
    for item in found:
        together = " with ".join(f"{axis} {level}" for axis, level in zip(item["axes"], item["levels"]))
        table.add_row(_signed(item["effect"]), f"{item['low']:+.2f} to {item['high']:+.2f}", together)
    return titled("Strongest interactions: beyond what each does alone", table)


def _what_next(report: Mapping[str, Any]) -> RenderableType:
    lines = [Text("What comes next", style="bold")]
    for item in report["under_way"]:
        known = "" if item["mean"] is None else f", expecting {item['mean']:.3f} ± {item['sd']:.3f}"
        lines.append(Text(f"under way  {item['combo_key']}{known}"))
    item = report["next"]
    lines.append(Text(f"then       {item['combo_key']}, expecting {item['mean']:.3f} ± {item['sd']:.3f}"))
    lines.append(Text(f"because {item['why']}", style="dim"))
    sure = f"The best is within {report['close']:g} of the true best with probability {report['p_close']:.0%};"
    lines.append(Text(f"{sure} expected to be missing: {report['gap']:.3f}."))
    lines.append(Text(report["advice"], style="bold"))
    return Group(*lines)


def _cost(report: Mapping[str, Any]) -> RenderableType:
    cost = report["cost"]
    text = f"Paid {minutes(cost['minutes'])} so far"
    if cost.get("minutes_per_hundredth"):
        text += f": {cost['minutes_per_hundredth']:.2g} GPU min for each 0.01 the bet is better than the first clips"
    return Text(text + ".")


def _suggestions(report: Mapping[str, Any]) -> RenderableType | None:
    if not report["ban_suggestions"]:
        return None
    table = plain_table(("tries", True), ("mean", True), ("best", True), ("at most", True), ("combo or pattern", False))
    for item in report["ban_suggestions"][:TOP]:
        table.add_row(str(item["tries"]), f"{item['mean']:.2f}", f"{item['best']:.2f}", f"{item['upper']:.2f}", item["key"])
    return titled("Worth a ban? (at most: upper 95 % bound; nothing is banned by itself)", table)


def failure_lines(shown: Sequence[Mapping[str, Any]], total: int) -> RenderableType:
    """Failed tries, the last of ``total``."""
    table = plain_table(("kind", False), ("combo and reason", False))
    for failure in shown:
        table.add_row(str(failure.get("kind")), with_reason(str(failure.get("combo_key")), failure.get("reason")))
    return titled(f"Failed tries (last {len(shown)} of {total})", table)


def with_reason(key: str, reason: Any) -> Text:
    """A combo with the reason in the line below."""
    return Text.assemble(key, "\n", (brief(" ".join(str(reason).split())), "dim"))
