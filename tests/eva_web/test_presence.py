"""Which clip every open review page shows."""

from __future__ import annotations

from eva_web.presence import LINGER_SECONDS, MOST_LEFT, MOST_PAGES, SILENT_SECONDS, Presence


def test_exactly_one_of_two_that_show_the_same_clip_gives_way():
    now = [0.0]
    presence = Presence(lambda: now[0])
    assert presence.show("a", "x.mp4") == []
    now[0] = 1.0
    assert presence.show("b", "x.mp4") == ["x.mp4"]
    assert presence.show("a", "x.mp4") == [], "who was first stays"
    assert presence.show("b", "y.mp4") == ["x.mp4"]
    assert presence.show("a", "z.mp4") == ["x.mp4", "y.mp4"], "x was on b's screen a moment ago"
    now[0] = 1.0 + LINGER_SECONDS
    assert presence.show("a", "z.mp4") == ["y.mp4"]


def test_a_page_that_is_left_or_falls_silent_is_forgotten():
    now = [0.0]
    presence = Presence(lambda: now[0])
    presence.show("a", "x.mp4")
    presence.show("a", None)
    assert presence.show("b", "w.mp4") == ["x.mp4"], "its rating may be under way"
    now[0] = LINGER_SECONDS
    assert presence.show("b", "w.mp4") == []
    now[0] += SILENT_SECONDS
    assert presence.show("c", None) == []


def test_all_that_a_quick_reviewer_has_just_left_stays_with_them():
    now = [0.0]
    presence = Presence(lambda: now[0])
    for number in range(5):
        now[0] = float(number)
        presence.show("a", f"{number}.mp4")
    assert presence.show("b", None) == [f"{number}.mp4" for number in range(5)]
    now[0] = 2.5 + LINGER_SECONDS  # 0 and 1 were left at seconds 1 and 2
    assert presence.show("b", None) == ["2.mp4", "3.mp4", "4.mp4"]


def test_a_crowd_is_bounded():
    presence = Presence(lambda: 0.0)
    for number in range(MOST_PAGES + 50):
        presence.show(f"p{number}", f"{number}.mp4")
    assert len(presence.show("another", None)) == MOST_PAGES
    for number in range(MOST_LEFT + 50):
        presence.show("p0", f"left{number}.mp4")
    assert len(presence._left) == MOST_LEFT


def test_pages_tell_and_ask_over_http(site):
    assert site.post("/api/showing", {"page": "a", "name": "x.mp4"}).json == {"status": "success", "others": []}
    assert site.post("/api/showing", {"page": "b", "name": None}).json["others"] == ["x.mp4"]
    refused = site.post("/api/showing", {"name": 3})
    assert refused.status == 422 and set(refused.json["fields"]) == {"page", "name"}
