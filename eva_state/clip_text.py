"""Which rows hold a word, without reading every prompt.

A word of a query has no white space, so where it occurs in a prompt it lies within one word of that prompt. People's
prompts draw on some thousands of words: looking through those, and joining the rows of the few that match, replaces
looking through every prompt. Names differ from each other, so they are looked through as they are.
"""

from __future__ import annotations

from array import array

from eva_state.clip_rows import Bits, Row, mask_where

BUILD_AT_ONCE = 250  # rows, or as many places of words, between two breaths while the index is built: a millisecond or two


class TextIndex:
    """Built once in pieces by :meth:`build_piece`; kept in line by :meth:`changed` from its first piece on. The caller locks."""

    def __init__(self) -> None:
        self._words: dict[str, Bits] = {}
        self._found: dict[str, array[int]] = {}  # while it is built: what is not in the sets yet
        self._late: list[tuple[int, str, str]] = []  # rows that changed after their piece was taken
        self._covered = 0  # rows up to this one were looked at
        self.ready = False

    def build_piece(self, rows: list[Row]) -> bool:
        """Takes in some more rows, and then makes sets of what was found; True once all are in."""
        if self.ready:
            return True
        end = min(len(rows), self._covered + BUILD_AT_ONCE)
        for number in range(self._covered, end):
            for word in set(prompt_of(rows[number].text).split()):
                numbers = self._found.get(word)
                if numbers is None:
                    numbers = self._found[word] = array("I")
                numbers.append(number)
        self._covered, places = end, 0
        while end == len(rows) and self._found and places < 20 * BUILD_AT_ONCE:
            word, numbers = self._found.popitem()
            self._words.setdefault(word, Bits()).update(numbers)
            places += len(numbers) + BUILD_AT_ONCE // 10
        self.ready = end == len(rows) and not self._found
        if self.ready:
            for number, old, new in self._late:
                self.changed(number, old, new)
            self._late.clear()
        return self.ready

    def changed(self, number: int, old: str, new: str) -> None:
        """The text of a row changed."""
        if not self.ready:
            if number < self._covered:
                self._late.append((number, old, new))
            return
        self._covered = max(self._covered, number + 1)
        before, after = set(prompt_of(old).split()), set(prompt_of(new).split())
        for word in before - after:
            self._words[word].set(number, False)
        for word in after - before:
            self._words.setdefault(word, Bits()).set(number)

    def in_prompts(self, word: str) -> int:
        """The rows whose prompt holds ``word``."""
        mask = 0
        for known, bits in self._words.items():
            if word in known:
                mask |= bits.as_int()
        return mask


def prompt_of(text: str) -> str:
    """The prompt's part of a row's text."""
    return text.partition("\n")[2]


def in_names(names: list[str], word: str) -> int:
    """The rows whose name, in lower case, holds ``word``."""
    return mask_where([word in name for name in names])


def in_texts(rows: list[Row], word: str) -> int:
    """The same for name and prompt: reads every row, tens of milliseconds at 100,000."""
    return mask_where([word in row.text for row in rows])
