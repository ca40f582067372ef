from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.common.files import plain_name
from kws.confusables.candidates import Kind
from kws.confusables.ipa import split_ipa
from kws.confusables.scoring import Candidate
from kws.confusables.synthesis.base import Espeak
from kws.confusables.synthesis.plan import (
    Prompt,
    Role,
    confusable_role,
    keyword_role,
    plan,
    plan_splits,
    prompts_of,
    total_clips,
)
from kws.data.manifest import CONFUSABLE, Split

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
KEYWORD = [Prompt("computer", keyword="computer")]
NEAR = [Prompt(text, keyword="computer") for text in ("commuter", "compute", "pewter", "come pewter")]


def roles(n_positives, n_confusables):
    return [Role("computer", KEYWORD, n_positives), Role(CONFUSABLE, NEAR, n_confusables)]


def by_label(planned):
    return [[one for one in planned if one.label == label] for label in ("computer", CONFUSABLE)]


@pytest.fixture(scope="module")
def planned():
    return plan_splits(Espeak(), roles(400, 1200), 0)


def test_clips_are_divided_by_the_shares_of_the_splits(planned):
    counts = Counter((one.label, one.split) for one in planned)
    assert counts == {
        ("computer", Split.TRAIN): 240, ("computer", Split.VALIDATION): 60, ("computer", Split.TEST): 100,
        (CONFUSABLE, Split.TRAIN): 720, (CONFUSABLE, Split.VALIDATION): 180, (CONFUSABLE, Split.TEST): 300,
    }  # fmt: skip
    assert len({one.file for one in planned}) == len(planned)


def test_a_timbre_is_used_in_one_split_only_and_in_several_accents(planned):
    used = {split: {one.voice.partition("+")[2] for one in planned if one.split is split} for split in Split}
    assert [len(timbres) for timbres in used.values()] == [62, 16, 26], "all of them"
    assert len(set.union(*used.values())) == 104
    assert len({one.voice.partition("+")[0] for one in planned}) == 8


def test_another_seed_moves_no_voice_to_another_split(planned):
    other = plan_splits(Espeak(), roles(400, 1200), 1)
    assert {one.voice for one in other} != {one.voice for one in planned}
    for split in Split:
        elsewhere = {one.voice.partition("+")[2] for one in other if one.split is not split}
        assert not {one.voice.partition("+")[2] for one in planned if one.split is split} & elsewhere


@pytest.mark.parametrize("split", list(Split))
def test_positives_and_confusables_have_the_same_voices_as_often(planned, split):
    positives, confusables = by_label([one for one in planned if one.split is split])
    asked, near = (Counter(one.voice for one in some) for some in (positives, confusables))
    assert {*asked} == {*near}
    assert all(near[voice] == 3 * asked[voice] for voice in asked), "three times as many in all"


@pytest.mark.parametrize("split", list(Split))
def test_positives_and_confusables_have_the_same_rates_and_pitches(planned, split):
    positives, confusables = by_label([one for one in planned if one.split is split])
    manner = [[(one.voice, one.rate_wpm, one.pitch) for one in some] for some in (positives, confusables)]
    assert manner[1][: len(manner[0])] == manner[0]
    rates = np.array([[one.rate_wpm, one.pitch] for one in confusables])
    assert np.all(rates.min(axis=0) >= [130, 20])
    assert np.all(rates.max(axis=0) <= [210, 80])
    # the mean of a uniform draw, within four standard errors
    error = np.array([81, 61]) / np.sqrt(12 * len(rates))
    assert np.all(np.abs(rates.mean(axis=0) - [170, 50]) < 4 * error)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 200), st.integers(0, 9), st.sampled_from(list(Split)))
def test_no_voice_is_of_one_class_alone(n_positives, n_confusables, seed, split):
    found = by_label(plan(Espeak(), roles(n_positives, n_confusables), seed, split))
    asked, near = (Counter(one.voice for one in some) for some in found)
    assert [asked.total(), near.total()] == [n_positives, n_confusables]
    assert {*asked} == {*near}


def test_without_positives_confusables_use_more_voices():
    alone = plan_splits(Espeak(), roles(0, 1200), 0)
    assert {one.label for one in alone} == {CONFUSABLE}
    assert len({one.voice for one in alone}) > len({one.voice for one in plan_splits(Espeak(), roles(40, 1200), 0)})


def test_prompts_are_equally_frequent_and_spoken_by_many_voices(planned):
    near = [one for one in planned if one.label == CONFUSABLE and one.split is Split.TRAIN]
    assert set(Counter(one.text for one in near).values()) == {180}
    for text in {one.text for one in near}:
        assert len({one.voice for one in near if one.text == text}) > 100


def test_equal_arguments_give_equal_plans_and_another_seed_another_plan(planned):
    assert plan_splits(Espeak(), roles(400, 1200), 0) == planned
    assert plan_splits(Espeak(), roles(400, 1200), 1) != planned


@given(st.text(max_size=60))
def test_no_text_becomes_a_path(text):
    name = plain_name(text)
    assert name.isascii()
    assert not {*name} & set("\\/:*?\"<>|' .")
    assert len(name) < 60


def test_odd_texts_have_files_of_their_own():
    odd = ["../../etc/passwd", "a/b", "a-b", "A-B", "..x", "-rf x", "naïve", "x" * 300, "con\x00puter", 'a"; rm b']
    found = plan(Espeak(), [Role("Grüße/../x", [Prompt(text) for text in odd], len(odd))], 0, Split.TEST)
    stems = {one.file.rpartition("/")[2].rpartition("-")[0].casefold() for one in found}
    assert len(stems) == len(odd)
    assert {one.text for one in found} >= {"../../etc/passwd", "con puter"}, "the text stays as it is"


def test_a_prompt_is_a_text_or_a_phoneme_string():
    assert Prompt("  two \n words\x00").text == "two words"
    assert Prompt(phonemes="[[k'at]]").text == ""
    for nothing in ({}, {"text": "..."}, {"text": "!", "phonemes": ""}):
        with pytest.raises(KwsError, match="no letter or digit"):
            Prompt(**nothing)
    (one,) = plan(Espeak(), [Role(CONFUSABLE, [Prompt(phonemes="[[k'at]]", keyword="cat")], 1)], 0, Split.TRAIN)
    assert (one.text, one.phonemes, one.keyword) == ("", "[[k'at]]", "cat")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rates": (79, 200)}, r"rates=\[79, 200\]"),
        ({"rates": (200, 130)}, r"rates=\[200, 130\]"),
        ({"pitches": (0, 100)}, r"pitches=\[0, 100\]"),
        ({"roles": [Role("noise", NEAR, 3)]}, "'noise'"),
        ({"roles": [Role("cat", NEAR, 3), Role("cat", NEAR, 3)]}, "'cat'"),
        ({"roles": [Role(" ", NEAR, 3)]}, "' '"),
    ],
)
def test_bad_arguments_are_refused_by_name(changed, message):
    with pytest.raises(KwsError, match=message):
        plan_splits(**{"synthesiser": Espeak(), "roles": roles(10, 10), "seed": 0} | changed)


@pytest.mark.parametrize(("prompts", "n"), [(NEAR, -1), ([], 1)])
def test_clips_without_prompts_are_refused(prompts, n):
    with pytest.raises(KwsError, match=f"'cat': {n} clips of {len(prompts)} prompts"):
        Role("cat", prompts, n)


@pytest.mark.parametrize("shares", [(0.8, 0.3), (-0.1, 0.3)])
def test_shares_out_of_range_are_refused(shares):
    with pytest.raises(KwsError, match=rf"shares=\[{shares[0]}, 0.3\]: must be"):
        Role("cat", NEAR, 3, shares)


def test_prompts_of_a_once_role_are_in_one_split_each():
    sentences = [Prompt(f"sentence {i}") for i in range(100)]
    planned = plan_splits(Espeak(), [*roles(100, 0), Role("speech", sentences, 100, (0.35, 0.15), once=True)], 0)
    spoken = [one for one in planned if one.label == "speech"]
    assert Counter(one.split for one in spoken) == {Split.TRAIN: 35, Split.VALIDATION: 15, Split.TEST: 50}
    assert sorted(one.text for one in spoken) == sorted(one.text for one in sentences)
    with pytest.raises(KwsError, match="'speech': 99 clips of 100 prompts"):
        Role("speech", sentences, 99, once=True)
    for split in Split:
        positives = {one.voice for one in planned if (one.label, one.split) == ("computer", split)}
        assert {one.voice for one in spoken if one.split is split} == positives


def sound(one):
    return next(Espeak().synthesise([one], 16000))


def test_a_candidate_is_synthesised_with_the_stress_that_it_is_scored_with():
    text = "[[k@mpj'u:t#3]]"  # the phonemes of "computer", with the stress on its second vowel
    phones = split_ipa("kəmpjuɾɚ")
    candidate = Candidate(text, Kind.PHONES, phones, phones, 0, 0.0, 1)
    prompts = prompts_of(Espeak(), "x", [candidate])
    (spoken,) = plan(Espeak(), [Role(CONFUSABLE, prompts, 1)], 0, Split.TRAIN)
    as_text, first_vowel = replace(spoken, text="computer", phonemes=""), replace(spoken, phonemes="[[k'@mpju:t#3]]")
    assert np.array_equal(sound(spoken), sound(as_text))
    assert not np.array_equal(sound(spoken), sound(first_vowel))


def test_the_train_split_gets_the_wanted_number_of_clips():
    for train_n in (1, 7, 144, 300):
        planned = plan_splits(Espeak(), [keyword_role(Espeak(), "hey cat", train_n)], 0)
        assert {one.label for one in planned} == {"hey_cat"}
        assert sum(one.split is Split.TRAIN for one in planned) == train_n
    assert confusable_role(Espeak(), NEAR, None).n == total_clips(Espeak(), len(NEAR)) == 7


def test_roles_without_clips_give_an_empty_plan():
    assert plan_splits(Espeak(), [replace(role, n=0) for role in roles(1, 1)], 0) == []
