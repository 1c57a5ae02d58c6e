"""One rule that has no switch: nothing that puts anybody under 18, or who may be, together with sexual content.

Words alone decide, in several languages, after undoing the usual disguises: zero-width and look-alike characters,
digits for letters, letters set apart. The rule errs towards refusing; ordinary prompts with children, and ordinary
words that merely contain another ("Essex", "sexton"), pass. It does not replace a classifier on the finished picture.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from eva_env_base import EvaError

TERMS_FILE = Path(__file__).with_name("content_terms.json")
LANGUAGES = ("en", "uk", "ru", "es", "de", "fr", "it", "pt", "pl")
OF_AGE = 18

_TO_LATIN = str.maketrans("аеорсхуікмтнвѕјԁпɡοαεικνρτυχ", "aeopcxyikmthbsjdngoaeiknptux")
_TO_CYRILLIC = str.maketrans("aeopcxyikmtbh", "аеорсхуікмтвн")
_LEET = (str.maketrans("0134578@$!|", "oieastbasii"), str.maketrans("013457@$!|", "oleastasll"))
_APOSTROPHES = str.maketrans("", "", "'’ʼ`´")


class ContentRefused(EvaError):
    """A prompt combines minors with sexual content. It is not sent, and not to be reworded automatically."""


class HasText(Protocol):
    """Anything with the wording of a prompt, such as :class:`eva_p1.scenario.Prompt`."""

    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class _Rules:
    minor: re.Pattern[str]
    ambiguous: re.Pattern[str]
    sexual: re.Pattern[str]
    always: re.Pattern[str]
    innocent: re.Pattern[str]
    adult: re.Pattern[str]
    age: re.Pattern[str]
    things: re.Pattern[str]
    minor_anywhere: tuple[str, ...]
    sexual_anywhere: tuple[str, ...]
    always_anywhere: tuple[str, ...]
    minor_stems: tuple[str, ...]
    sexual_stems: tuple[str, ...]
    young_numbers: frozenset[str]


def check(prompt: str | HasText) -> None:
    """Returns for a prompt that may be sent; raises :class:`ContentRefused` for one that may not.

    Looks at what is asked for, not at the negative prompt (which says what to leave out).
    """
    text = prompt if isinstance(prompt, str) else prompt.text
    if refused(text):
        # The wording is not repeated: messages end up in logs and on pages.
        raise ContentRefused("this prompt was refused: it combines minors, or people who may be, with sexual content")


def refused(text: str) -> bool:
    """True where :func:`check` would raise."""
    rules = _rules()
    minor = ambiguous = sexual = adult = False
    for reading in _readings(text):
        plain = rules.innocent.sub(" ", reading)
        if rules.always.search(plain) or any(term in plain for term in rules.always_anywhere):
            return True
        sexual = sexual or bool(rules.sexual.search(plain)) or any(term in plain for term in rules.sexual_anywhere)
        minor = minor or bool(rules.minor.search(plain)) or any(term in plain for term in rules.minor_anywhere) or _young_age(plain, rules)
        ambiguous = ambiguous or bool(rules.ambiguous.search(plain))
        adult = adult or bool(rules.adult.search(plain)) or _adult_age(plain)
        if _glued(plain, rules):
            return True
    return sexual and (minor or (ambiguous and not adult))


# ---------------------------------------------------------------- undoing disguises
def _plain(text: str) -> str:
    """Case folded; compatibility forms, marks, invisible characters and apostrophes gone; underscores are spaces."""
    decomposed = unicodedata.normalize("NFKD", text)
    kept = (letter for letter in decomposed if unicodedata.category(letter) not in ("Cf", "Mn", "Me", "Cc") or letter in "\n\t\r ")
    return re.sub(r"[\s_]+", " ", "".join(kept).casefold().translate(_APOSTROPHES))


def _readings(text: str) -> list[str]:
    """The ways a text may be meant to be read, the plain one first."""
    base = _plain(text)
    found = dict.fromkeys([base, _one_script(base, _TO_LATIN), _one_script(base, _TO_CYRILLIC)])
    for reading in list(found):
        for table in _LEET:
            found.setdefault(_leet(reading, table))
    for reading in list(found):
        found.setdefault(_set_together(reading))
        found.setdefault(re.sub(r"(\w)\1{2,}", r"\1", reading))
        # Dots, stars and dashes inside a word: nu.de, te-en. The readings above keep real hyphens.
        found.setdefault(re.sub(r"(?<=\w)[^\w\s]+(?=\w)", "", reading))
    return list(found)


def _one_script(text: str, table: dict[int, int]) -> str:
    """Words that mix Latin with Cyrillic or Greek letters, put into one script."""

    def whole(match: re.Match[str]) -> str:
        word = match.group()
        scripts = {unicodedata.name(letter, "?").split(" ")[0] for letter in word if letter.isalpha()}
        return word.translate(table) if len(scripts & {"LATIN", "CYRILLIC", "GREEK"}) > 1 else word

    return re.sub(r"\w+", whole, text)


def _leet(text: str, table: dict[int, int]) -> str:
    """Digits and signs inside words that also hold letters, read as the letters they look like."""

    def whole(match: re.Match[str]) -> str:
        word = match.group()
        return word.translate(table) if any(letter.isalpha() for letter in word) else word

    return re.sub(r"[\w@$!|]+", whole, text)


def _set_together(text: str) -> str:
    """``n u d e`` and ``n.u.d.e`` become ``nude``: runs of three or more single letters."""
    return re.sub(r"(?<!\w)\w(?:[^\w]{1,2}\w(?!\w)){2,}", lambda match: re.sub(r"[^\w]", "", match.group()), text)


# ---------------------------------------------------------------- meaning
def _young_age(text: str, rules: _Rules) -> bool:
    for match in rules.age.finditer(text):
        number = match.group("before") or match.group("after")
        young = number in rules.young_numbers if not number.isdigit() else int(number) < OF_AGE
        if young and not rules.things.match(text, match.end()):
            return True
    return False


def _adult_age(text: str) -> bool:
    ages = [int(age) for age in re.findall(r"(?<!\d)(\d{2})[ -]*(?:years?|yrs?)[ -]*old", text)]
    return bool(ages) and min(ages) >= OF_AGE


def _glued(text: str, rules: _Rules) -> bool:
    """A single word made of a word for a minor and a sexual one, in either order."""
    for word in re.findall(r"\w{6,40}", text):
        for first, second in ((rules.minor_stems, rules.sexual_stems), (rules.sexual_stems, rules.minor_stems)):
            for stem in first:
                if word.startswith(stem) and word[len(stem) :].startswith(second):
                    return True
    return False


# ---------------------------------------------------------------- the word lists
def _term(term: str) -> str:
    """One entry of the lists as a pattern: words apart by anything but letters, ``*`` for any ending."""
    words = [re.escape(word.rstrip("*")) + (r"\w*" if word.endswith("*") else "") for word in _plain(term).split()]
    return r"[\W_]+".join(words)


def _any_of(terms: Iterable[str]) -> re.Pattern[str]:
    return re.compile(r"(?<!\w)(?:" + "|".join(sorted({_term(term) for term in terms}, key=len, reverse=True)) + r")(?!\w)")


@cache
def _rules() -> _Rules:
    table = json.loads(TERMS_FILE.read_text(encoding="utf-8"))

    def gather(kind: str) -> list[str]:
        return [term for language in LANGUAGES for term in table[language][kind]]

    def stems(kind: str) -> tuple[str, ...]:
        # Short words appear inside too many others to be trusted inside a glued one.
        plain = {_plain(term.rstrip("*")) for term in gather(kind)}
        return tuple(sorted(stem for stem in plain if " " not in stem and len(stem) >= 3))

    ages = table["ages"]
    numbers = {_plain(word) for words in ages["numbers"].values() for word in words}
    number = r"\d{1,2}|" + "|".join(sorted(map(re.escape, numbers), key=len, reverse=True))
    after = "|".join(sorted((_term(term) for term in ages["after"]), key=len, reverse=True))
    before = "|".join(sorted((_term(term) for term in ages["before"]), key=len, reverse=True))
    age = re.compile(rf"(?<!\w)(?P<before>{number})[\W_]*(?:{after})(?!\w)|(?<!\w)(?:{before})[\W_]+(?P<after>{number})(?!\w)")
    things = "|".join(sorted((_term(term) for term in ages["things"]), key=len, reverse=True))
    return _Rules(
        minor=_any_of(gather("minor") + ages["words_in_one"]),
        ambiguous=_any_of(gather("ambiguous")),
        sexual=_any_of(gather("sexual")),
        always=_any_of(gather("always")),
        innocent=_any_of(gather("innocent")),
        adult=_any_of(gather("adult")),
        age=age,
        things=re.compile(rf"[\W_]+(?:\w+[\W_]+)?(?:{things})(?!\w)"),
        minor_anywhere=tuple(_plain(term) for term in table["substring"]["minor"]),
        sexual_anywhere=tuple(_plain(term) for term in table["substring"]["sexual"]),
        always_anywhere=tuple(_plain(term) for term in table["substring"]["always"]),
        minor_stems=stems("minor"),
        sexual_stems=stems("sexual"),
        young_numbers=frozenset(numbers),
    )
