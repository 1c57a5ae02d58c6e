"""Packs are checked, prompts repeat for a seed, and none gets past the content policy."""

from __future__ import annotations

import json

import pytest

from eva_env_base import UsageError
from eva_p1.content_policy import ContentRefused, refused
from eva_p1.prompt_generator import PromptGenerator
from eva_p1.scenario import load_pack, pack_from, shipped_packs, slot_names


def pack_file(tmp_path, scenarios, **more):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"scenarios": scenarios, **more}), encoding="utf-8")
    return path


def test_same_seed_same_prompts():
    first, again, other = (PromptGenerator("all", rng_seed=seed) for seed in (3, 3, 4))
    made = [first.next() for _ in range(60)]
    assert made == [again.next() for _ in range(60)]
    assert made != [other.next() for _ in range(60)]


def test_prompts_vary():
    generator = PromptGenerator(rng_seed=1)
    prompts = [generator.next() for _ in range(200)]
    assert len({prompt.text for prompt in prompts}) == 200
    assert len({prompt.scenario_id for prompt in prompts}) > 25
    assert all(one.scenario_id != two.scenario_id for one, two in zip(prompts, prompts[1:]))


def test_prompt_tells_how_it_came_about():
    prompt = PromptGenerator("nature", rng_seed=2).next()
    assert prompt.scenario_id.startswith("nature/")
    assert prompt.slots and all(value in prompt.text for value in prompt.slots.values())
    assert "{" not in prompt.text and "  " not in prompt.text and "watermark" in prompt.negative


@pytest.mark.parametrize("name", shipped_packs())
def test_every_choice_of_every_shipped_pack_is_clean(name):
    for scenario in load_pack(name).scenarios:
        for slot in slot_names(scenario.template):
            for value in scenario.slots[slot]:
                choice = {other: scenario.slots[other][0] for other in slot_names(scenario.template)}
                prompt = scenario.fill({**choice, slot: value})
                assert not refused(prompt.text) and prompt.text[0] != " " and ",," not in prompt.text
        assert scenario.combinations >= 9


def test_weights_are_followed(tmp_path):
    scenarios = [
        {"id": str(index), "template": f"scene {index} {{a}}", "slots": {"a": ["x", "y"]}, "weight": weight}
        for index, weight in enumerate((1, 1, 8))
    ]
    generator = PromptGenerator(pack_file(tmp_path, scenarios), rng_seed=1)
    names = [generator.next().scenario_id for _ in range(400)]
    assert names.count("mine/2") > 1.5 * names.count("mine/0"), "a scenario never follows itself, so the share is bounded by a half"


def test_one_scenario_with_one_prompt_still_works(tmp_path):
    generator = PromptGenerator(pack_file(tmp_path, [{"id": "only", "template": "a calm lake"}]))
    assert [generator.next().text for _ in range(3)] == ["a calm lake"] * 3


def test_negatives_are_joined(tmp_path):
    pack = pack_file(tmp_path, [{"id": "a", "template": "a lake", "negative": "boats"}], negative="blurry")
    assert PromptGenerator(pack).next().negative == "blurry, boats"


def test_refused_prompts_are_skipped_and_a_refused_pack_says_so(tmp_path):
    half = pack_file(tmp_path, [{"id": "a", "template": "{a} at a lake", "slots": {"a": ["a nude child", "an otter"]}}])
    generator = PromptGenerator(half, rng_seed=1)
    assert {generator.next().text for _ in range(20)} == {"an otter at a lake"}
    whole = pack_file(tmp_path, [{"id": "a", "template": "a nude child"}])
    with pytest.raises(ContentRefused, match="mend the prompt pack"):
        PromptGenerator(whole).next()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "scenarios"),
        ('{"scenarios": []}', "scenarios"),
        ('{"scenarios": [3]}', "scenario 1 is not an object"),
        ('{"scenarios": [{"template": "x"}]}', "no id"),
        ('{"scenarios": [{"id": "a"}]}', "'a' has no template"),
        ('{"scenarios": [{"id": "a", "template": "{b}"}]}', "nothing fills: b"),
        ('{"scenarios": [{"id": "a", "template": "{0.x}"}]}', "not a slot"),
        ('{"scenarios": [{"id": "a", "template": "{b"}]}', "'a'"),
        ('{"scenarios": [{"id": "a", "template": "x", "weight": 0}]}', "weight"),
        ('{"scenarios": [{"id": "a", "template": "{b}", "slots": {"b": []}}]}', "slot 'b'"),
        ('{"scenarios": [{"id": "a", "template": "x"}, {"id": "a", "template": "y"}]}', "stands twice"),
        ('{"negative": 3, "scenarios": [{"id": "a", "template": "x"}]}', "negative must be text"),
    ],
)
def test_bad_packs_are_named(tmp_path, content, words):
    path = tmp_path / "bad.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="bad.json") as caught:
        PromptGenerator(path)
    assert words in str(caught.value)


def test_missing_pack_names_the_shipped_ones():
    with pytest.raises(UsageError, match="shipped are animals"):
        PromptGenerator("no such pack")


def test_several_packs(tmp_path):
    generator = PromptGenerator(["city", pack_file(tmp_path, [{"id": "a", "template": "a lake", "weight": 50}])], rng_seed=1)
    assert {generator.next().scenario_id.split("/")[0] for _ in range(30)} == {"city", "mine"}


def test_pack_from_a_value():
    pack = pack_from(
        {"title": "T", "slots": {"a": ["x"]}, "scenarios": [{"id": "s", "template": "{a} {b}", "slots": {"b": ["y"]}}]}, "p", "here"
    )
    assert pack.title == "T" and pack.scenarios[0].fill({"a": "x", "b": "y"}).text == "x y"
