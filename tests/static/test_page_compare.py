"""The compare page: two clips in step, blind until the vote."""

from __future__ import annotations

from typing import Any

import pytest

from tests.static.conftest import render

pytestmark = pytest.mark.e2e

NAMES = "() => [...document.querySelectorAll('.stage video.on')].map(video => decodeURIComponent(video.src.split('/video/')[1]))"


def votes(site: Any) -> list[tuple[str, str, str]]:
    found = site.get("/api/actions?limit=100")
    return [(item["left"], item["right"], item["winner"]) for item in found if item["type"] == "compare" and not item["undone"]]


def saved(page: Any) -> None:
    page.wait_for_selector("#save-state[data-status=saved]")


def test_votes_are_recorded_blind_revealed_and_undone(make_site, page):
    site = make_site(clips=3)
    page.goto(site.url + "/compare")
    page.wait_for_selector(".stage video.on")
    left, right = page.evaluate(NAMES)
    assert "dpmpp_2m" not in page.text_content("main") and "clip_0" not in page.text_content("main")
    # It says what is judged and why this pair; prompts that differ follow the vote, as they would only distract.
    assert "Your vote judges the settings, not the prompts." in page.text_content("#pair-why")
    assert "Automatic scores are 0." in page.text_content("#pair-why")
    assert "take" not in page.text_content("main")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#revealed >> text=better")
    saved(page)
    assert votes(site) == [(left, right, "left")]
    assert "Sampler" in page.text_content("#revealed")
    assert page.locator("#revealed tr", has_text="Prompt").inner_text().count("take") == 2
    assert set(page.evaluate(NAMES)) != {left, right}  # the next pair is on
    page.keyboard.press("Backspace")
    page.wait_for_function(
        f"([left, right]) => {{ const now = ({NAMES})(); return now[0] === left && now[1] === right; }}", arg=[left, right]
    )
    saved(page)
    assert votes(site) == []
    for key in ("ArrowUp", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_selector("text=Every pair has your vote")
    saved(page)
    assert sorted(winner for _, _, winner in votes(site)) == ["both_bad", "right", "tie"]


PREDICTED = """
async () => {
  const { choosePair, reasons } = await import('/static/pair_choice.js');
  const clip = (name, mean, sd) => ({ name, score: 0.5, combo_key: name, prompt: 'p', params: {}, predicted: { mean, sd } });
  const clips = [clip('good', 8, 0.5), clip('rival', 7.9, 1.5), clip('poor', 2, 0.2), clip('worse', 1.9, 0.2)];
  let turn = 0;
  const pairs = Array.from({ length: 20 }, () => choosePair(clips, new Set(), new Map(), () => [0.2, 0.7, 0.4][turn++ % 3]));
  return { pairs: pairs.map((pair) => pair.map(({ name }) => name).sort().join()), why: reasons(clips[0], clips[1], clips) };
}
"""


def test_predictions_choose_the_pair_whose_outcome_is_most_open_and_matters(make_site, page):
    site = make_site(clips=0)
    page.goto(site.url + "/login")
    found = page.evaluate(PREDICTED)
    assert set(found["pairs"]) == {"good,rival"}  # not the two poor ones, though they are as close
    assert [name for name, _ in found["why"]] == ["same_prompt", "predicted", "rare"]
    assert found["why"][1][1] == {"gap": "0.1", "percent": 47}  # 1 - Phi(0.1 / sqrt(0.5^2 + 1.5^2)) = 0.475


@pytest.mark.parametrize(("rate", "frames"), [(16, 24), (24, 60)], ids=["alike", "other rate and length"])
def test_the_two_clips_stay_together_and_wrap_together(make_site, page, rate, frames):
    site = make_site(clips=2)
    render(site.video_dir / "clip_001.mp4", 160, 96, 200, rate, frames)
    page.goto(site.url + "/compare")
    page.wait_for_function("() => document.querySelectorAll('.stage video.on').length === 2")
    # Two full rounds of the 1.5 s clips, sampled at every frame of the screen.
    drift = page.evaluate(
        """() => new Promise((resolve) => {
          const [a, b] = document.querySelectorAll('.stage video.on');
          const found = []; let wraps = 0, before = 0;
          const look = () => {
            if (a.readyState >= 2 && b.readyState >= 2 && !a.seeking && !b.seeking) found.push(Math.abs(a.currentTime - b.currentTime));
            if (a.currentTime < before) wraps += 1;
            before = a.currentTime;
            if (Math.max(a.currentTime, b.currentTime) > Math.min(a.duration, b.duration) + 0.15) resolve([9]); // one ran on
            if (wraps >= 2) resolve(found.slice(10).sort((x, y) => x - y)); else requestAnimationFrame(look);
          };
          look();
        })"""
    )
    assert drift[int(len(drift) * 0.9)] < 0.08
    page.keyboard.press("Space")
    page.keyboard.press(".")
    page.wait_for_function(
        "() => { const [a, b] = document.querySelectorAll('.stage video.on');"
        " return a.paused && b.paused && !a.seeking && Math.abs(a.currentTime - b.currentTime) < 1e-3; }"
    )


def test_one_clip_is_not_enough(make_site, page):
    site = make_site(clips=1)
    page.goto(site.url + "/compare")
    page.wait_for_selector("text=Not enough clips yet")
    page.keyboard.press("ArrowLeft")
    assert votes(site) == []


def test_the_worst_of_four_counts_as_three_comparisons_and_is_undone_at_once(make_site, page):
    site = make_site(clips=6)
    page.goto(site.url + "/compare")
    page.wait_for_selector(".stage video.on")
    page.click("#modes >> text=Worst of four")
    page.wait_for_function("() => document.querySelectorAll('.stage video.on').length === 4")
    four = page.evaluate(NAMES)
    assert len(set(four)) == 4 and "Which is the worst?" in page.text_content("h1")
    page.keyboard.press("ArrowLeft")  # a vote for a side means nothing here
    page.keyboard.press("3")
    page.wait_for_selector("#revealed .badge >> text=worst")
    saved(page)
    others = [name for name in four if name != four[2]]
    assert sorted(votes(site)) == sorted((name, four[2], "left") for name in others)
    assert page.locator("#revealed th a").count() == 4
    page.wait_for_function("() => document.querySelectorAll('.stage video.on').length === 4")
    page.keyboard.press("Backspace")
    page.wait_for_function(f"four => JSON.stringify(({NAMES})()) === JSON.stringify(four)", arg=four)
    saved(page)
    assert votes(site) == []
    page.click(".pair-side >> nth=0")  # with the mouse, on the clip itself
    page.wait_for_selector("#revealed .badge >> text=worst")
    saved(page)
    assert {loser for _, loser, _ in votes(site)} == {four[0]}


def test_the_wipe_shows_both_clips_on_one_place(make_site, page):
    site = make_site(clips=3)
    page.goto(site.url + "/compare")
    page.wait_for_selector(".stage video.on")
    page.keyboard.press("v")
    first, second = (page.locator(".pair-side").nth(number).bounding_box() for number in (0, 1))
    assert first == second
    page.locator(".wipe-range").fill("25")
    clip = page.evaluate("() => getComputedStyle(document.querySelectorAll('.pair-side')[1]).clipPath")
    assert clip == "inset(0px 0px 0px 25%)"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#revealed >> text=better")
    saved(page)
    assert [winner for _, _, winner in votes(site)] == ["right"]
    page.reload()
    page.wait_for_selector("#modes [aria-pressed=true] >> text=Wipe")  # the view is kept in this tab


def test_three_clips_are_too_few_for_four(make_site, page):
    site = make_site(clips=3)
    page.goto(site.url + "/compare")
    page.wait_for_selector(".stage video.on")
    page.click("#modes >> text=Worst of four")
    page.wait_for_selector("text=Not enough clips yet")
    page.click("#modes >> text=Side by side")
    page.wait_for_selector(".stage video.on")
