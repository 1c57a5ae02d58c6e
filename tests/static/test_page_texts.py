"""Rules for the sources of the pages that need no browser."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parents[2] / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))
PAGES = sorted(STATIC.glob("*.html"))
SCRIPT_LIMIT = 200_000  # bytes, without Plotly
PAGE_LIMIT = 130_000  # bytes a page loads, comments and all, before compression: well below what is allowed
PLURALS = {"en": {"one", "other"}, "uk": {"one", "few", "many", "other"}}


def texts(lang: str) -> dict[str, str]:
    return json.loads((STATIC / "i18n" / f"{lang}.json").read_text(encoding="utf-8"))


def split_plurals(lang: str) -> tuple[set[str], dict[str, set[str]]]:
    """Plain keys, and the plural forms by key."""
    found = texts(lang)
    plural: dict[str, set[str]] = {}
    for key in found:
        base, _, form = key.rpartition(".")
        if form in PLURALS["uk"] and f"{base}.other" in found and f"{base}.one" in found:
            plural.setdefault(base, set()).add(form)
    return {key for key in found if key.rpartition(".")[0] not in plural}, plural


def test_both_languages_say_the_same_things():
    plain_en, plural_en = split_plurals("en")
    plain_uk, plural_uk = split_plurals("uk")
    assert plain_en == plain_uk
    assert plural_en.keys() == plural_uk.keys()
    for lang, plural in (("en", plural_en), ("uk", plural_uk)):
        assert {key for key, forms in plural.items() if forms != PLURALS[lang]} == set()


def test_values_to_fill_in_are_the_same_in_both_languages():
    english, ukrainian = texts("en"), texts("uk")
    for key in english.keys() & ukrainian.keys():
        assert set(re.findall(r"\{\w+\}", english[key])) == set(re.findall(r"\{\w+\}", ukrainian[key])), key


def test_every_text_a_page_asks_for_exists():
    known, plural = split_plurals("en")
    for path in [*SCRIPTS, *PAGES]:
        source = path.read_text(encoding="utf-8")
        asked = set(re.findall(r"\bt\('([\w.]+)'", source)) | set(re.findall(r'data-i18n(?:-[\w-]+)?="([\w.]+)"', source))
        assert asked - known == set(), path.name
        assert set(re.findall(r"\btn\('([\w.]+)'", source)) - plural.keys() == set(), path.name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_hold_no_inline_script_style_or_handler(path):
    source = path.read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\ssrc=)", source) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", source) == []
    assert re.findall(r'(?:src|href)="(?:https?:)?//', source) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_put_no_data_into_markup(path):
    source = path.read_text(encoding="utf-8")
    assert re.findall(r"\.(?:innerHTML|outerHTML)\b|insertAdjacentHTML|document\.write|\beval\(|new Function", source) == []
    assert len(source.splitlines()) <= 400


def loaded_by(page: Path) -> set[Path]:
    """The scripts a page loads, with all that they import."""
    found: set[Path] = set()
    waiting = [STATIC / name for name in re.findall(r'<script[^>]*src="/static/([\w.]+)"', page.read_text(encoding="utf-8"))]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [STATIC / name for name in re.findall(r"from '\./([\w.]+)'", path.read_text(encoding="utf-8"))]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_scripts_are_small(page):
    scripts = loaded_by(page)
    assert scripts
    assert sum(path.stat().st_size for path in scripts) < PAGE_LIMIT


def test_all_pages_together_send_little():
    assert sum(len(gzip.compress(path.read_bytes())) for path in SCRIPTS) < SCRIPT_LIMIT / 2


def test_every_script_is_loaded_by_some_page():
    assert set(SCRIPTS) - set().union(*map(loaded_by, PAGES)) == set()


def test_imports_between_scripts_name_files_that_exist():
    for path in SCRIPTS:
        for name in re.findall(r"from '\./([\w.]+)'", path.read_text(encoding="utf-8")):
            assert (STATIC / name).is_file(), f"{path.name} imports {name}"


def test_icons_that_are_used_exist():
    drawn = set(re.findall(r'<symbol id="([\w-]+)"', (STATIC / "icons.svg").read_text(encoding="utf-8")))
    for path in SCRIPTS:
        source = path.read_text(encoding="utf-8")
        used = {name for pair in re.findall(r"\bicon\('([\w-]+)'\)|\bicon: '([\w-]+)'", source) for name in pair if name}
        assert used - drawn == set(), path.name
