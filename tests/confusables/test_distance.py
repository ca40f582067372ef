import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.confusables.distance import between, code, distance, distances, edits, rows, weight
from kws.confusables.ipa import LETTERS

PHONE = st.builds(str.__add__, st.sampled_from(sorted(LETTERS)), st.sampled_from(["", "", "ː", "ʰ", "ʲ"]))
PHONES = st.lists(PHONE, max_size=7).map(tuple)
CLOSE = 1e-3  # float32


@given(PHONES, PHONES, PHONES)
@settings(deadline=None, max_examples=100)
def test_the_distance_is_a_metric(a, b, c):
    assert distance(a, a) < CLOSE
    assert distance(a, b) == pytest.approx(distance(b, a), abs=CLOSE)
    assert distance(a, c) <= distance(a, b) + distance(b, c) + CLOSE
    assert (distance(a, b) < CLOSE) == (a == b)


@given(PHONES, st.lists(PHONES, min_size=1, max_size=6))
@settings(deadline=None, max_examples=100)
def test_distances_of_many_equal_distances_one_by_one(phones, others):
    assert distances(phones, code(others)) == pytest.approx([by_hand(phones, other) for other in others], abs=CLOSE)


@functools.cache
def by_hand(one, other):
    """The textbook's recursion."""
    if not one or not other:
        return sum(between(phone, "") for phone in (*one, *other))
    return min(
        by_hand(one[1:], other[1:]) + between(one[0], other[0]),
        by_hand(one[1:], other) + between(one[0], ""),
        by_hand(one, other[1:]) + between("", other[0]),
    )


@given(PHONES, PHONES)
@settings(deadline=None, max_examples=100)
def test_edits_transform_one_into_the_other_and_cost_the_distance(one, other):
    table = np.stack(list(rows(one, code([other]))))[:, :, 0]
    changes = edits(one, table, other)
    assert sum(between(was, becomes) for _, was, becomes in changes) == pytest.approx(distance(one, other), abs=CLOSE)
    made, at = [], 0
    for place, was, becomes in changes:
        made += one[at:place]
        at = place + bool(was)
        assert one[place:at] == ((was,) if was else ())
        made += [becomes] if becomes else []
    assert (*made, *one[at:]) == other


def test_the_weight_is_the_distance_from_silence():
    assert weight(()) == 0
    assert weight(("k", "æ", "t")) == pytest.approx(sum(between(phone, "") for phone in "kæt"), abs=CLOSE)


def test_known_words_are_ordered_by_similarity():
    computer, commuter, compute, banana = (
        tuple(word.split()) for word in ("k ə m p j u t ɚ", "k ə m j u t ɚ", "k ə m p j u t", "b ə n æ n ə")
    )
    assert distance(computer, commuter) < distance(computer, compute) + 0.2
    assert 3 * distance(computer, commuter) < distance(computer, banana)
    assert distance(("p",), ("b",)) < distance(("p",), ("a",))
    assert distance(("b", "ɛ", "d"), ("b", "æ", "d")) < distance(("b", "ɛ", "d"), ("b", "u", "d"))


def test_an_empty_pronunciation_has_a_distance():
    assert distances(("k", "æ"), code([(), ()])) == pytest.approx([weight(("k", "æ"))] * 2)
    assert distances((), code([("k",)])) == pytest.approx([between("k", "")])
    assert code([]).codes.shape == (0, 0)
