"""What policies, and people through the review pages, may do with a running agent (``agent_hooks.AgentControl``)."""

from __future__ import annotations

import threading
from collections.abc import Callable

from eva_p1.agent_ledger import Ledger
from eva_p1.agent_live import Board
from eva_p1.lanes import Lane

PAUSED = "paused by a person"
LAST_CLIP = "the run ends with the clip under way"


class Controls:
    """Part of ``EnhancedVideoAgentV4``, which makes the attributes. Every method may be called from any thread."""

    ledger: Ledger
    board: Board
    stopping: threading.Event
    _lanes: list[Lane]
    say: Callable[..., None]
    _holding: str | None = None

    @property
    def holding(self) -> str | None:
        """Why nothing new may start, or None."""
        return self._holding

    def ban(self, key: str, reason: str, by: str) -> bool:
        """Bans a combo for everybody: state, bandit and servers' queues. False where it was banned already."""
        if not self.ledger.ban(key, reason, by):
            return False
        self.say(f"banned {key}: {reason}")
        self._kick(check_bans=True)
        return True

    def recent_rewards(self, key: str) -> list[float]:
        return self.ledger.recent_rewards(key)

    def is_banned(self, key: str) -> bool:
        return self.ledger.is_banned(key)

    def pause(self) -> None:
        """Nothing new starts; prompts that have not started are taken back; a running clip is finished and scored."""
        if self._holding is None:
            self._hold(PAUSED)
            self.say("paused: the clip under way is finished, nothing new starts")

    def resume(self) -> None:
        """Goes on after a pause, or after :meth:`stop_after` as long as the run has not ended."""
        if self._holding is not None:
            self._hold(None)
            self.say("resumed")

    def stop_after(self) -> None:
        """The run ends when what is running now is finished and scored; with nothing under way it ends at once."""
        self._hold(LAST_CLIP)
        self.say("stops after the clip under way")

    def skip(self, prompt_id: str) -> bool:
        """Interrupts one prompt; it is recorded as ``skipped`` and teaches nothing. False where it is not under way (any more)."""
        found = any(lane.skip(prompt_id) for lane in self._lanes)
        if found:
            self.say("a person skipped the clip under way")
        return found

    def _hold(self, reason: str | None) -> None:
        self._holding = reason
        self.board.set_holding("" if reason is None else "paused" if reason == PAUSED else "stop_after")
        self._kick()

    def _kick(self, check_bans: bool = False) -> None:
        for lane in self._lanes:
            lane.kick(check_bans=check_bans)

    def _ended_by_person(self) -> bool:
        """True once nothing is left under way after :meth:`stop_after`."""
        return self._holding == LAST_CLIP and all(lane.idle for lane in self._lanes)
