"""Roles of recordings; an evaluation scores the streams of one split."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kws.common.errors import KwsError
from kws.data.audio import to_int16
from kws.data.audio_cache import AudioCache, Entry
from kws.data.dataset import (
    Selection,
    assign_roles,
    pooled,
    present,
    refuse_nearly_noise,
    select,
    selection_lines,
    with_noise_label,
)
from kws.data.manifest import Recording, Split
from kws.data.names import same_word
from kws.data.positives import with_locations
from kws.data.streams import StreamConfig
from kws.data.transcripts import Match
from kws.evaluation.events import misses
from kws.evaluation.scoring import total_s
from kws.evaluation.splits import evaluate_split, split_streams

TRAIN, VALIDATION, TEST = Split


def entry(label: str, split: Split, text: str = "", speaker: str = "", name: str = "") -> Entry:
    name = name or f"{label}/{split}"
    return Entry(Recording(Path("x"), name, label, split, speaker, text), f"hash of {name}", 0, 1)


def corpus(speakers: int = 60) -> list[Entry]:
    """Each role in each split, and `speakers` speakers of negatives with three recordings each."""
    words = [entry(label, split) for split in Split for label in ("Alexa", "hey_jarvis", "noise", "speech")]
    people = [entry("speech", TRAIN, speaker=f"s{i % speakers}", name=f"n{i}") for i in range(3 * speakers)]
    says = [entry("speech", TRAIN, "Hey, Jarvis!", name="a"), entry("speech", TEST, "two alexas", name="b")]
    others = [entry("not alexa", VALIDATION, name="d"), entry("speech", VALIDATION, "lexa and hey", name="c")]
    return [*words, *people, *says, *others]


def roles(chosen: Selection) -> list[int]:
    lists = [i for split in Split for column in chosen.positives[split] for i in column]
    lists += [i for split in Split for i in (*chosen.speech[split], *chosen.noise[split])]
    return sorted([*lists, *chosen.pool])


def test_every_recording_has_one_role_in_its_split() -> None:
    entries = corpus()
    chosen = select(entries, ["hey jarvis", "alexa"], "noise", 0.3)
    for n, split in enumerate(Split):
        assert chosen.positives[split] == [[4 * n + 1], [4 * n]]
        assert chosen.noise[split] == [4 * n + 2]
        assert all(entries[i].recording.split is split for i in chosen.speech[split])
        assert {entries[i].recording.label for i in chosen.speech[split]} <= {"speech", "not alexa"}, "no transcript"
    left_out = set(chosen.spoken)
    assert [entries[i].recording.name for i in chosen.spoken] == ["a", "b"], "their transcript holds a keyword"
    assert roles(chosen) == [i for i in range(len(entries)) if i not in left_out]


def test_the_forms_of_a_keyword_in_transcripts_are_listed() -> None:
    texts = ["the computer", "two computers", "ein Computerspiel", "Supercomputer", "commuter", "computers, please"]
    entries = [entry("speech", TRAIN, text, name=text) for text in texts]
    listed = {
        Match.word: (["commuter", "ein Computerspiel", "Supercomputer"], "3 negatives (computers 2, computer 1)"),
        Match.prefix: (["commuter", "Supercomputer"], "4 negatives (computers 2, computer 1, computerspiel 1)"),
        Match.anywhere: (
            ["commuter"],
            "5 negatives (computers 2, computer 1, computerspiel 1, supercomputer 1)",
        ),
    }
    for match, (kept, line) in listed.items():
        chosen = assign_roles(entries, ["computer"], "noise", 0.0, match)
        assert sorted(entries[i].recording.text for i in chosen.speech[TRAIN]) == sorted(kept)
        assert selection_lines(chosen) == [f"left out, their transcript contains a keyword: {line}"]
    assert selection_lines(assign_roles(entries, ["alexa"], "noise", 0.0)) == []


def test_labels_that_contain_the_keyword_are_left_out_or_named() -> None:
    labels = ["hey computer", "not_computer", "computer_keyboard", "computer", "hey_computer", "speech"]
    entries = [entry(label, TRAIN) for label in labels]
    entries.append(entry("hey computer", TRAIN, "hey commuter", name="with a transcript"))
    chosen = assign_roles(entries, ["computer"], "noise", 0.0)
    assert chosen.ambiguous == {0: "hey computer", 4: "hey_computer"}
    assert chosen.speech[TRAIN] == [1, 2, 5, 6]
    assert selection_lines(chosen) == [
        "left out, their label contains a keyword and they have no transcript: 2 recordings (hey computer 1, "
        "hey_computer 1); a label such as not_computer makes them negatives",
        "negatives by a label that begins with a keyword: 1 recording (computer_keyboard 1); they must not say it",
    ]
    both = assign_roles(entries, ["computer", "hey computer"], "noise", 0.0)
    assert both.positives[TRAIN] == [[3], [0, 4, 6]]
    assert not both.ambiguous
    assert selection_lines(both)[0].startswith("'hey computer' contains computer: ")


@pytest.mark.parametrize(("label", "refused"), [("speech", True), ("noise", True), ("ALEXA", False)])
def test_the_same_sound_is_not_trained_as_keyword_and_as_something_else(label: str, refused: bool) -> None:
    twice = [entry("Alexa", TRAIN, name="mine/1.wav"), replace(entry(label, TRAIN, name="talk/2.wav"), hash="same")]
    twice[0] = replace(twice[0], hash="same")
    if refused:
        with pytest.raises(KwsError, match=rf"mine/1\.wav and talk/2\.wav: .* filed as 'Alexa' and '{label}'"):
            select([*corpus(), *twice], ["alexa"], "noise", 0.3)
    else:
        select([*corpus(), *twice], ["alexa"], "noise", 0.3)


def test_speakers_of_the_pool_are_never_fresh_negatives() -> None:
    entries = corpus(400) + [entry("speech", p, name=f"{p}{i}") for p in (VALIDATION, TEST) for i in range(30)]
    chosen = select(entries, ["alexa"], "noise", 0.3)

    def speakers(indexes: Sequence[int]) -> set[str]:
        return {entries[i].recording.speaker for i in indexes} - {""}

    assert {entries[i].recording.split for i in chosen.pool} == {TRAIN}
    assert not speakers(chosen.pool) & speakers(chosen.speech[TRAIN])
    assert len(speakers(chosen.pool)) == pytest.approx(120, abs=30)
    assert select(entries, ["alexa"], "noise", 0.0).pool == []
    smaller = select(entries, ["alexa"], "noise", 0.1)
    assert set(smaller.pool) < set(chosen.pool), "a larger share keeps what a smaller one had"


def test_without_a_speaker_the_pool_is_by_name() -> None:
    mined = pooled([entry("speech", TRAIN, name=f"clip{i}") for i in range(200)], 0.5)
    assert 70 < sum(mined) < 130


@pytest.mark.parametrize("n", range(1, 30))
@pytest.mark.parametrize("speaker", ["", "ann"])
def test_the_pool_never_empties_the_fresh_negatives(n: int, speaker: str) -> None:
    for names in range(5):
        mined = pooled([entry("speech", TRAIN, speaker=speaker, name=f"{names}/{i}") for i in range(n)], 0.3)
        assert sum(mined) < n
        assert sum(mined) > 0 or n == 1


@pytest.mark.parametrize(
    ("label", "keyword", "same"),
    [
        ("Hey_Jarvis", "hey jarvis", True),
        ("hey-jarvis", "HeyJarvis ", True),
        ("gr\u00fcezi", "gru\u0308ezi", True),
        ("\uff21lexa", "alexa", True),
        ("ALEXA", "alexa", True),
        ("_", "-", False),
        ("alexas", "alexa", False),
        ("a", "b", False),
    ],
)
def test_same_word(label: str, keyword: str, same: bool) -> None:
    assert same_word(label, keyword) == same


def test_missing_recordings_are_named() -> None:
    words = [entry("alexa", TRAIN), entry("alexa", VALIDATION)]
    negatives = [entry("no", TRAIN), entry("no", VALIDATION)]
    select([*words, *negatives], ["alexa"], "noise", 0.0)
    with pytest.raises(
        KwsError,
        match=r"keyword=alexo: no .* in the train split; there are alexa: 1 train, 1 validation, 0 test; no: 1 train",
    ):
        select([*words, *negatives], ["alexo"], "noise", 0.0)
    with pytest.raises(KwsError, match="keyword=alexa: no recording of it in the validation split"):
        select([words[0], *negatives], ["alexa"], "noise", 0.0)
    for split, there in (("train", negatives[1]), ("validation", negatives[0])):
        with pytest.raises(KwsError, match=f"no negative recording in the {split} split"):
            select([*words, there], ["alexa"], "noise", 0.0)


def test_labels_of_noise() -> None:
    found = [entry(label, TRAIN).recording for label in ("Noise", "no_ise", "noise", "speech")]
    said: list[str] = []
    assert [one.label for one in with_noise_label(found, "noise", said.append)] == ["noise"] * 3 + ["speech"]
    assert said == [f"label {label!r} is read as data.noise_label=noise" for label in ("Noise", "no_ise")]
    for label in ("background noise", "noises", "Noise"):
        with pytest.raises(KwsError, match=f"label '{label}': must be 'noise' if it is background noise"):
            refuse_nearly_noise({label, "noise"}, ["alexa"], "noise")
    with pytest.raises(KwsError, match="label 'Silence'"):
        refuse_nearly_noise({"Silence"}, ["alexa"], "noise")
    refuse_nearly_noise({"Silence", "noise", "nose", "noise gate"}, ["Noise_Gate"], "noise")


def test_missing_files_are_named_before_any_is_decoded(tmp_path: Path) -> None:
    names = [f"{i}.wav" for i in range(10)]
    found = [Recording(tmp_path / name, name, "cat", TRAIN) for name in names]
    for name in names[1:]:
        (tmp_path / name).touch()
    said: list[str] = []
    assert present(found, 0.1, said.append) == found[1:]
    assert said == ["1 of 10 recordings are missing and are left out: 0.wav"]
    (tmp_path / "5.wav").unlink()
    with pytest.raises(KwsError, match=r"2 of 10 recordings are missing, more than .*=0\.1: 0\.wav, 5\.wav$"):
        present(found, 0.1)


def test_recordings_that_need_ffmpeg_are_counted_by_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{i}.{'m4a' if i < 2 else 'amr' if i < 3 else 'wav'}" for i in range(10)]
    found = [Recording(tmp_path / name, name, "cat", TRAIN) for name in names]
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    reason = "3 of 10 recordings need ffmpeg, which is not on the path (2 .m4a, 1 .amr)"
    said: list[str] = []
    assert present(found, 0.3, said.append) == found[3:]
    assert said == [f"{reason} and are left out: 0.m4a, 1.m4a, 2.amr; or convert each: ffmpeg -i FILE FILE.wav"]
    with pytest.raises(KwsError, match=re.escape(f"{reason}, more than data.max_undecodable=0.1: 0.m4a")):
        present(found, 0.1)


class ToneScorer:
    """Scores pure tones: the score of a column is 1 in each 20 ms row that holds its frequency."""

    labels, sample_rate, frame_s = ("low", "high"), 16000, 0.02

    def __init__(self) -> None:
        self.streams: list[Tensor] = []

    def reset(self) -> None:
        self.streams.append(torch.zeros(0))

    def __call__(self, pcm: Tensor) -> Tensor:
        self.streams[-1] = torch.cat([self.streams[-1], pcm])
        power: Tensor = torch.fft.rfft(pcm[: len(pcm) // 320 * 320].reshape(-1, 320)).abs()
        return power[:, [10, 20]].gt(16).float()  # 500 and 1000 Hz


HZ = {"low": 500, "high": 1000, "speech": 2000}


def tones() -> tuple[AudioCache, Selection]:
    """Three clips of each label and split; the level depends on the split."""
    t = np.arange(8000) / 16000
    entries: list[Entry] = []
    clips: list[np.ndarray] = []
    for loudness, split in zip((0.8, 0.4, 0.2), Split, strict=True):
        for label, hz in HZ.items():
            for i in range(3):
                entries.append(
                    Entry(
                        Recording(Path(), f"{split}{label}{i}", label, split), f"{len(clips)}", 8000 * len(clips), 8000
                    )
                )
                clips.append(to_int16((loudness * np.sin(2 * np.pi * hz * t)).astype(np.float32)))
    store = AudioCache(16000, entries, {}, [], np.concatenate(clips))
    chosen = select(entries, ["low", "high"], "noise", 0.0)
    return store, with_locations(store, chosen, dict.fromkeys(Split, 1.2))


def test_an_evaluation_scores_one_split_and_its_keywords(monkeypatch: pytest.MonkeyPatch) -> None:
    store, chosen = tones()
    levels = StreamConfig([10.0, 10.0], [-40.0, -26.0], 1.0, 0.33)
    scorer, done = ToneScorer(), list[float]()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # one scorer scores all streams in order
    takes = split_streams(store, chosen, TEST, levels, 2)
    scores = evaluate_split(scorer, store, chosen, TEST, takes, 0.08, done.append)
    assert done[-1] == pytest.approx(total_s(takes), abs=0.01)
    assert done == sorted(done)
    assert [float(x.abs().max()) for x in scorer.streams] == pytest.approx([0.2] * 4, abs=1e-3)
    for found in scores.values():
        hits = found.positive.times[found.positive.scores > 0.5]
        assert len(found.spans) == 3
        assert all(a + 1.4 < b for (a, _), (b, _) in pairwise(found.spans))
        assert misses(hits, found.spans) == 0
        inside = [any(a <= t <= b for a, b in found.spans) for t in hits]
        assert all(inside)
        assert len(hits) == 3 * 25
        assert found.negative.scores.max() == 0
        assert found.negative.duration_s == pytest.approx(2 * 3 * (0.5 + 0.33), abs=0.01)
    other = ToneScorer()
    evaluate_split(other, store, chosen, TEST, takes, 0.08)
    assert all(torch.equal(a, b) for a, b in zip(scorer.streams, other.streams, strict=True)), "the streams are equal"
