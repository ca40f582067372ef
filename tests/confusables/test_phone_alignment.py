"""Phones are found in recordings of which the transcripts alone are known."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from kws.confusables.phone_alignment import HOP_S, ROUNDS, Utterance, align, frames_of

RATE = 16000
NOTES = {number: (300 + 550 * number, 2500 + 350 * number) for number in range(1, 6)}  # a phone sounds like two notes


def sentence(rng: np.random.Generator) -> tuple[np.ndarray, list[list[int]], list[tuple[float, float]]]:
    """Sound, the phones of each word, and where each phone truly is in seconds. Some words follow without a pause."""
    pieces, words, places, at = [np.zeros(RATE // 10)], [], [], 0.1
    for _ in range(rng.integers(3, 6)):
        words.append(rng.permutation(5)[: rng.integers(2, 4)] + 1)
        for number in words[-1]:
            n = int(rng.integers(RATE * 6 // 100, RATE * 16 // 100))
            t = np.arange(n) / RATE
            pieces.append(sum(0.2 * np.sin(2 * np.pi * hz * t) for hz in NOTES[number]))
            places.append((at, at + n / RATE))
            at += n / RATE
        if rng.random() < 0.5:
            pieces.append(np.zeros(RATE // 5))
            at += 0.2
    x = np.concatenate([*pieces, np.zeros(RATE // 10)])
    noise = 1e-3 * rng.standard_normal(len(x))
    return (x + noise).astype(np.float32), [word.tolist() for word in words], places


def test_phones_are_placed_where_they_are():
    rng, made = np.random.default_rng(0), list[tuple[Utterance, list[tuple[float, float]]]]()
    for _ in range(60):
        x, words, places = sentence(rng)
        made.append((Utterance(frames_of(x, RATE), words), places))
    rounds: list[int] = []
    found = align([one for one, _ in made], 6, rounds.append)
    assert rounds == list(range(1, len(ROUNDS) + 1))
    errors = []
    for (one, places), phones in zip(made, found, strict=True):
        assert [phone.number for phone in phones] == [number for word in one.words for number in word]
        assert all(a.end <= b.start for a, b in pairwise(phones))
        for phone, (start, end) in zip(phones, places, strict=True):
            errors += [abs(phone.start * HOP_S - start), abs(phone.end * HOP_S - end)]
    touching = [
        (a.end == b.start) == (truly[1] == then[0])
        for (_, places), phones in zip(made, found, strict=True)
        for (a, truly), (b, then) in pairwise(zip(phones, places, strict=True))
    ]
    assert np.mean(touching) > 0.95  # a pause is left out between words where there is none
    assert np.mean(np.array(errors) <= 0.04) > 0.95  # which phone has the frames of a transition is open


def test_recordings_keep_their_order_and_equal_calls_agree():
    rng = np.random.default_rng(1)
    some = [Utterance(frames_of(x, RATE), words) for x, words, _ in (sentence(rng) for _ in range(8))]
    found = align(some, 6)
    assert found == align(some, 6)
    assert [[phone.number for phone in phones] for phones in found] == [
        [number for word in one.words for number in word] for one in some
    ]
    assert all(phones[-1].end <= len(one.frames) for one, phones in zip(some, found, strict=True))


@pytest.mark.parametrize(("n", "frames"), [(160, 1), (161, 2), (1600, 10), (16000, 100)])
def test_frames_end_with_the_recording(n: int, frames: int):
    assert frames_of(np.random.default_rng(0).standard_normal(n).astype(np.float32), RATE).shape == (frames, 39)


def test_a_phone_of_one_frame_for_each_state_is_placed():
    rng = np.random.default_rng(2)
    some = [Utterance(torch.from_numpy(rng.standard_normal((8, 39)).astype(np.float32)), [[1], [2]]) for _ in range(3)]
    for phones in align(some, 3):
        first, second = phones
        assert first.end - first.start >= 3
        assert second.end - second.start >= 3
        assert second.end <= 8
