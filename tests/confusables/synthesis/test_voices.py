from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.confusables.synthesis.base import Espeak
from kws.confusables.synthesis.voices import assign_splits, choose_voices, split_by_hash, split_exactly
from kws.data.manifest import Split, hash_split

NAMES = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=30, unique=True)


def of(names):
    return {name: [f"{accent} {name}" for accent in "ab"] for name in names}


def test_shares_are_exact():
    assert Counter(assign_splits(100)) == {Split.TRAIN: 60, Split.VALIDATION: 15, Split.TEST: 25}
    assert assign_splits(7) == [Split.TRAIN] * 4 + [Split.VALIDATION] + [Split.TEST] * 2
    assert assign_splits(0) == []
    assert Counter(assign_splits(10, (0.5, 0.5))) == {Split.TRAIN: 5, Split.VALIDATION: 5}


@given(NAMES, st.integers(0, 2**32 - 1))
def test_every_timbre_is_in_one_split_with_all_its_voices(names, seed):
    for splits in (split_exactly(of(names), np.random.default_rng(seed)), split_by_hash(of(names))):
        assert tuple(splits) == tuple(Split)
        assert sorted(voices for split in Split for voices in splits[split]) == sorted(of(names).values())
        assert splits[Split.TRAIN]


@given(NAMES, NAMES)
def test_a_timbre_keeps_its_split_when_other_voices_are_added(some, more):
    before, after = split_by_hash(of(some)), split_by_hash(of({*some, *more}))
    for split in (Split.VALIDATION, Split.TEST):
        assert all(voices in after[split] for voices in before[split])
    for name in some:
        if hash_split(name) is Split.TRAIN:
            assert of([name])[name] in before[Split.TRAIN]
            assert of([name])[name] in after[Split.TRAIN]


def test_one_voice_alone_is_for_training():
    alone = next(name for name in "abcdefgh" if hash_split(name) is Split.TEST)
    assert split_by_hash({alone: [alone]}) == {Split.TRAIN: [[alone]], Split.VALIDATION: [], Split.TEST: []}
    assert split_by_hash({}) == {split: [] for split in Split}


def test_every_timbre_is_chosen_before_any_repeats():
    names = choose_voices(list(of("vwxyz").values()), 12, np.random.default_rng(0))
    timbres = [name[-1] for name in names]
    assert timbres == list("vwxyzvwxyzvw")
    assert {name[0] for name in names} == {"a", "b"}


def test_espeak_has_every_variant_in_every_accent_and_the_splits_in_exact_shares():
    pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
    from kws.confusables.synthesis.espeak import voices

    splits = Espeak().voices()
    assert [len(splits[split]) for split in Split] == [62, 16, 26]
    assert {name for split in Split for names in splits[split] for name in names} == voices()
    assert Espeak(seed=1).voices() != splits
    assert Espeak().speaker("en-gb-scotland+f2") == Espeak().speaker("en-us+f2") == "f2"
