"""Splits hold enough of each role, and hold no audio of one another."""

import csv
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from kws.data.audio_cache import AudioCache, Entry, pack
from kws.data.division import Division, balanced, divide, enough
from kws.data.manifest import Recording, Split, hash_split, read
from kws.training.hard_negatives import held_out_sources

TRAIN, VALIDATION, TEST = Split
RATE = 16000
NO_SOUND = np.zeros(0, np.int16)


def entry(name: str, label: str = "computer", speaker: str = "", split: Split | None = None, s: float = 2.0) -> Entry:
    one = Recording(Path(name), name, label, split or hash_split(speaker or name), speaker, "", "", split is not None)
    return Entry(one, f"hash of {name}", 0, round(s * RATE))


def divided(entries: list[Entry]) -> Division:
    return divide(entries, NO_SOUND, RATE, ["computer"], "noise")


def counts(entries: list[Entry], label: str = "computer") -> list[int]:
    found = Counter(one.recording.split for one in entries if one.recording.label == label)
    return [found[split] for split in Split]


def many(label: str, n: int = 300) -> list[Entry]:
    return [entry(f"{label} {i}", label, f"{label} speaker {i % 100}") for i in range(n)]


def test_one_person_is_divided_by_file() -> None:
    own = [entry(f"mine {i}", speaker="me") for i in range(40)]
    found = divided([*own, *many("speech")])
    assert [one.recording.split for one in found.entries[:40]] == [hash_split(f"mine {i}") for i in range(40)]
    assert min(counts(found.entries)) > 2
    assert found.by == {"computer": "file", "negatives": "speaker", "noise": ""}
    assert found.leaks == ["1 of 101 speakers are in several splits, so that figures are of known voices: me"]
    assert found.entries[40:] == many("speech"), "where the hash leaves enough everywhere, it decides"
    assert divided(own[1:]).entries == found.entries[1:40], "a file more or less moves no other"


def test_few_speakers_are_divided_evenly_each_in_one_split_for_all_roles() -> None:
    family = [entry(f"{s} {i}", speaker=s) for s in ("ann", "ben", "cyd", "dan") for i in range(10)]
    speech = [entry(f"{s} says {i}", "speech", s) for s in ("ann", "ben", "cyd", "dan") for i in range(30)]
    found = divided([*family, *speech, *many("speech")])
    assert counts(found.entries) == [20, 10, 10]
    assert found.by["computer"] == "speaker"
    assert found.leaks == []


@pytest.mark.parametrize(("n", "expected"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (5, [3, 1, 1])])
def test_few_recordings(n: int, expected: list[int]) -> None:
    assert counts(divided([entry(f"{i}", speaker="me") for i in range(n)]).entries) == expected


@given(st.lists(st.sampled_from(["", "ann", "ben", "cyd", "dan"]), min_size=3, max_size=60))
def test_no_split_is_empty(speakers: list[str]) -> None:
    found = divided([entry(str(i), speaker=speaker) for i, speaker in enumerate(speakers)])
    assert min(counts(found.entries)) > 0
    assert len(found.entries) == len(speakers)


def test_given_splits_stay_and_part_of_train_becomes_validation_where_they_have_none() -> None:
    column = [entry(f"{i}", speaker=f"s{i % 20}", split=TEST if i % 4 == 0 else TRAIN) for i in range(40)]
    found = divided(column)
    assert counts(found.entries) == [24, 6, 10]
    assert all(one.recording.split is TEST for one in found.entries[::4])
    assert found.leaks == ["computer: the given splits hold no validation; part of train is, by speaker"]
    assert counts(divided([entry(f"{i}", split=TRAIN) for i in range(40)]).entries) == [24, 6, 10], "train says nothing"
    complete = [entry(f"{i}", split=list(Split)[i % 3]) for i in range(9)]
    assert divided(complete).entries == complete


def test_given_splits_that_share_speakers_are_printed() -> None:
    found = divided([entry(f"{i}", speaker=f"s{i % 2}", split=list(Split)[i % 3]) for i in range(12)])
    assert found.leaks == ["2 of 2 speakers are in several splits, so that figures are of known voices: s0, s1"]


def recorded(root: Path, name: str, pcm: np.ndarray, split: Split = TRAIN, label: str = "speech") -> Recording:
    soundfile.write(root / name, pcm, RATE, subtype="PCM_16")
    return Recording(root / name, name, label, split)


def podcasts(root: Path, minutes: float = 12, n: int = 3) -> tuple[AudioCache, Division, list[Recording]]:
    rng = np.random.default_rng(0)
    sound = [rng.integers(-9000, 9000, round(minutes * 60 * RATE)).astype(np.int16) for _ in range(n)]
    recordings = [recorded(root, f"{i}.wav", pcm) for i, pcm in enumerate(sound)]
    kept: list[Division] = []

    def divide_all(entries: list[Entry], pcm: np.ndarray) -> list[Entry]:
        kept.append(divide(entries, pcm, RATE, ["computer"], "noise"))
        return kept[0].entries

    store = pack([*recordings, recorded(root, "copy.wav", sound[0])], root / "cache", divide=divide_all)
    return store, kept[0], recordings


def test_few_long_recordings_are_cut_in_time_with_a_gap(tmp_path: Path) -> None:
    store, found, recordings = podcasts(tmp_path, 1.0)
    assert found.by["negatives"] == "time"
    assert found.leaks == ["cut in time, so that all splits hold a piece: 0.wav, 1.wav, 2.wav, ..."]
    for number in range(3):
        own = [e for e in store.entries if e.recording.path == recordings[number].path]
        assert [e.recording.split for e in own] == list(Split)
        starts, ends = [e.start for e in own], [e.start + e.n_samples for e in own]
        assert [b - a for a, b in zip(ends, starts[1:], strict=False)] == pytest.approx([1.2 * RATE] * 2, abs=2)
        assert sum(e.n_samples for e in own) == pytest.approx((60 - 2.4) * RATE, abs=3)
        assert [e.n_samples / (57.6 * RATE) for e in own] == pytest.approx([0.6, 0.15, 0.25], abs=1e-3)
        assert len({e.hash for e in own}) == 3
        assert len({e.whole for e in own} - {""}) == 1
        assert own[1].recording.name == f"{number}.wav (35.8-44.4 s)"


def test_a_long_recording_is_in_pieces_of_at_most_two_minutes() -> None:
    pcm = np.zeros(40 * 60 * RATE, np.int16)
    found = divide([entry("a", "speech", s=40 * 60)], pcm, RATE, ["computer"], "noise")
    lengths = [[e.n_samples / RATE for e in found.entries if e.recording.split is s] for s in Split]
    assert [len(own) for own in lengths] == [12, 3, 5]
    assert [sum(own) for own in lengths] == pytest.approx([0.6 * 2380, 0.15 * 2380, 0.25 * 2380], abs=0.01)


def test_nothing_of_a_held_out_piece_may_be_trained_on_or_mined(tmp_path: Path) -> None:
    store, *_ = podcasts(tmp_path, 0.5)
    held_out = {one.hash for one in held_out_sources(store)}
    assert {e.whole for e in store.entries} <= held_out, "a whole file holds them too"
    assert not held_out & {e.hash for e in store.entries if e.recording.split is TRAIN}
    # a copy of the whole file in train, as a keyword that is never cut
    copy = recorded(tmp_path, "again.wav", soundfile.read(tmp_path / "0.wav", dtype="int16")[0], label="computer")
    recordings = [*(Recording(tmp_path / f"{i}.wav", f"{i}.wav", "speech", TRAIN) for i in range(3)), copy]
    store = pack(recordings, tmp_path / "c", divide=lambda e, pcm: divide(e, pcm, RATE, ["computer"], "noise").entries)
    assert store.duplicates == ["again.wav"]
    # a copy in test, as noise: what is cut in time keeps no piece in train
    copies = [*recordings[:3], replace(copy, label="noise", split=TEST, given=True)]
    store = pack(copies, tmp_path / "c", divide=lambda e, pcm: divide(e, pcm, RATE, ["computer"], "noise").entries)
    assert [name.split(" ")[0] for name in store.duplicates] == ["0.wav", "0.wav"]
    assert {e.recording.split for e in store.entries if e.recording.name.startswith(("0.wav", "again"))} == {TEST}


def test_copies_under_two_labels_are_cut_at_the_same_times() -> None:
    words = [entry(str(i), split=(TRAIN, VALIDATION)[i % 2]) for i in range(4)]
    talk = entry("talk", "speech", split=TRAIN, s=60)
    copy = Entry(Recording(Path("copy"), "copy", "noise", TRAIN), talk.hash, 0, talk.n_samples)
    found = [one for one in divided([*words, talk, copy]).entries if one.whole]
    places = {
        name: [(one.start, one.n_samples, one.recording.split) for one in found if one.recording.path == Path(name)]
        for name in ("talk", "copy")
    }
    assert places["talk"] == places["copy"] != []


def test_many_or_short_recordings_are_not_cut() -> None:
    for n, seconds in ((12, 600.0), (5, 10.0)):
        found = divided([entry(f"talk {i}", "speech", s=seconds) for i in range(n)])
        assert len(found.entries) == n
        assert min(counts(found.entries, "speech")) > 0


def test_balanced_and_enough() -> None:
    places = balanced({str(i): 1 for i in range(100)}, {TRAIN: 0.6, VALIDATION: 0.15, TEST: 0.25})
    assert Counter(places.values()) == {0: 60, 1: 15, 2: 25}
    assert balanced({"a": 9, "b": 1}, {False: 0.7, True: 0.3}) == {"a": 0, "b": 1}
    assert enough([1] * 100, [0] * 87 + [1] * 5 + [2] * 8, [0.6, 0.15, 0.25]) is False, "8 of 25"
    assert enough([1] * 100, [0] * 86 + [1] * 5 + [2] * 9, [0.6, 0.15, 0.25]) is True


def test_the_splits_of_the_real_recordings_are_those_of_their_hash() -> None:
    if "KWS_DATA" not in os.environ:
        pytest.skip("KWS_DATA does not name the folder of real recordings")
    root = Path(os.environ["KWS_DATA"])
    with (root / "manifest.csv").open(newline="") as file:
        seconds = {row["path"]: float(row["duration_s"]) for row in csv.DictReader(file)}
    entries = [Entry(r, str(i), 0, round(seconds[r.name] * RATE)) for i, r in enumerate(read(root))]
    for word in ("computer", "alexa", "bed"):
        assert divide(entries, NO_SOUND, RATE, [word], "noise").entries == entries
