"""Which clips of a long history the bandit is taught at the start of a run.

The model is exact, so its matrices grow with the square of the judgements and the work to make them with the cube: some thousand clips
are its limit, a state may hold a hundred thousand. Most of those say little more than the few that are chosen here; all of them go on
counting in the statistics of combos, in bans, and on the pages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from eva_state.registers import Observation

MOST_CLIPS = 1000  # some seconds of work at the start, and choices as fast as docs/bandit.md says
MOST_COMPARISONS = 500


def worth_teaching(seen: list[Observation], compared: Collection[str] = (), most: int = MOST_CLIPS) -> list[Observation]:
    """At most ``most`` observations, in their order: every one where there are no more.

    A third is every clip of the best combos by mean reward (all of a combo's or none: to pick its lucky clips would flatter it), a third
    the latest that a person rated or ``compared``, the rest the latest of all.
    """
    if len(seen) <= most:
        return seen
    chosen: set[int] = set()
    by_combo: dict[str, list[int]] = defaultdict(list)
    for number, observation in enumerate(seen):
        by_combo[observation.combo_key].append(number)
    means = {key: sum(seen[number].reward for number in numbers) / len(numbers) for key, numbers in by_combo.items()}
    for key in sorted(means, key=lambda key: -means[key]):
        if len(chosen) + len(by_combo[key]) > most // 3:
            break
        chosen.update(by_combo[key])
    latest = range(len(seen) - 1, -1, -1)
    _fill(chosen, (n for n in latest if seen[n].source == "human" or seen[n].video in compared), 2 * most // 3)
    _fill(chosen, latest, most)
    return [seen[number] for number in sorted(chosen)]


def _fill(chosen: set[int], numbers: Iterable[int], most: int) -> None:
    for number in numbers:
        if len(chosen) >= most:
            return
        chosen.add(number)
