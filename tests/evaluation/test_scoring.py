"""Scores of many recordings equal those of each alone, for any number of cores, batches and broken files."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from kws.common.errors import KwsError
from kws.data import audio
from kws.data.audio import BadAudio, load, pcm_blocks, to_int16
from kws.data.streams import Stream
from kws.detector import streaming
from kws.detector.detector import Detector
from kws.detector.files import export
from kws.detector.streaming import ScoreTrack
from kws.detector.torchscript import load_exported
from kws.evaluation import scoring
from kws.evaluation.events import join_offsets, join_tracks
from kws.evaluation.scoring import (
    FILES_PER_BATCH,
    ScoredStream,
    StreamSource,
    decoded,
    file_source,
    group_sources,
    score_all,
    total_s,
)
from tests.nets import LABELS, random_detector, sound

RATE = 16000


def recordings(folder: Path, lengths_s: list[float]) -> list[Path]:
    made = []
    for i, length_s in enumerate(lengths_s):
        made.append(folder / f"{i}.flac")
        pcm = to_int16(sound(round(length_s * RATE), i).numpy())
        soundfile.write(made[-1], pcm, RATE, subtype="PCM_16")
    return made


def alone(detector: Detector, file: Path) -> np.ndarray:
    return streaming.score_pcm(detector, to_int16(load(file)), RATE)


@pytest.mark.parametrize("threads", [1, 2])
def test_each_recording_scores_as_if_alone(tmp_path: Path, threads: int) -> None:
    files = recordings(tmp_path, [0.5, 41.3, 2.0, 1.99, 25.0])
    detector, scored_s = random_detector(), list[float]()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = score_all(detector, [file_source(file) for file in files], 0.08, scored_s.append)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for result, file in zip(found, files, strict=True):
        assert isinstance(result, ScoredStream)
        want = alone(detector, file)
        for column, label in enumerate(detector.labels):
            np.testing.assert_allclose(result.tracks[label].scores, want[:, column], rtol=0, atol=1e-5)
            assert result.tracks[label].duration_s == soundfile.info(file).duration
    assert sum(np.diff([0.0, *scored_s])) == pytest.approx(0.5 + 41.3 + 2.0 + 1.99 + 25.0)


def test_digital_silence_counts_as_no_hours(tmp_path: Path) -> None:
    sounds, silence = [to_int16(sound(n).numpy()) for n in (40000, 16000)], np.zeros(30 * 16000, np.int16)
    files = [tmp_path / "a.flac", tmp_path / "b.flac"]
    soundfile.write(files[0], np.concatenate([sounds[0], silence, sounds[0]]), RATE)
    soundfile.write(files[1], sounds[1], RATE)
    results = [decoded(one) for one in score_all(random_detector(), [file_source(file) for file in files], 0.08)]
    tracks = [next(iter(one.tracks.values())) for one in results]
    assert [(one.duration_s, one.silent_s) for one in tracks] == [(35.0, 20.0), (1.0, 0.0)], "windows of 10 s"
    soundfile.write(files[0], np.repeat(np.int16([9000, -9000]), 10 * RATE), RATE)
    (silent,) = scoring.score_sources(random_detector(), [file_source(files[0])], 0.08)
    assert str(silent) == f"{files[0]}: silent"
    joined = join_tracks(tracks)
    assert joined.hours == pytest.approx(16 / 3600)
    assert [offset.start_s for offset in join_offsets(tracks)] == pytest.approx([10.0, 45.0]), (
        "places on the track do not move"
    )
    with pytest.raises(KwsError, match="no sound"):
        ScoreTrack(np.ones(1), np.zeros(1, np.float32), 10.0, 10.0)


def test_scores_do_not_depend_on_the_number_of_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [file_source(file) for file in recordings(tmp_path, [1.0, 22.0, 3.0, 30.0])]
    found = []
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    for cores in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda cores=cores: cores)
        found.append(score_all(random_detector(), sources, 0.08))
    for one, three in zip(*found, strict=True):
        for label, track in one.tracks.items():
            np.testing.assert_array_equal(track.scores, three.tracks[label].scores)


def test_long_sources_come_first_and_short_ones_of_similar_length_together() -> None:
    sources = [StreamSource(Path(f"{i}"), length_s) for i, length_s in enumerate([3.0, 90.0, 1.0, 400.0, 0.0, 2.0])]
    assert group_sources(sources, batched=True) == [[3], [1], [4], [2, 5, 0]], "of unknown length: alone"
    assert group_sources(sources, batched=False) == [[3], [1], [0], [5], [2], [4]]
    many = [StreamSource(Path(f"{i}"), 1.0) for i in range(FILES_PER_BATCH + 1)]
    assert [len(job) for job in group_sources(many, batched=True)] == [FILES_PER_BATCH, 1]
    assert total_s(sources) == 496.0


def test_a_file_that_does_not_decode_gives_its_error(tmp_path: Path) -> None:
    good = recordings(tmp_path, [1.0, 2.0])
    broken = tmp_path / "broken.flac"
    broken.write_bytes(good[0].read_bytes()[:40])
    found = score_all(random_detector(), [file_source(file) for file in (good[0], broken, good[1])], 0.08)
    assert [isinstance(one, ScoredStream) for one in found] == [True, False, True]
    assert isinstance(found[1], BadAudio)
    assert found[1].name.endswith("broken.flac")


def test_a_file_shorter_than_a_row_gives_an_error(tmp_path: Path) -> None:
    short, good = recordings(tmp_path, [0.01, 1.0])
    for sources in (
        [file_source(short), file_source(good)],
        [file_source(short)],
        [StreamSource(short, 99.0), file_source(good)],
    ):
        first = score_all(random_detector(), sources, 0.08)[0]
        assert isinstance(first, BadAudio)
        assert first.reason == "shorter than a score row of 0.02 s"


def test_a_stream_is_composed_when_it_is_scored() -> None:
    made = []

    def stream_of() -> Stream:
        made.append(1)
        return Stream(to_int16(sound(RATE * 2, 1).numpy()), [], [], RATE)

    sources = [StreamSource(stream_of, 2.0)]
    assert not made
    (found,) = score_all(random_detector(), sources, 0.08)
    assert isinstance(found, ScoredStream)
    want = streaming.score_pcm(random_detector(), stream_of().pcm, RATE)
    np.testing.assert_allclose(found.tracks[LABELS[0]].scores, want[:, 0], rtol=0, atol=1e-5)


def test_an_exported_file_scores_batches_too(tmp_path: Path) -> None:
    detector = random_detector()
    export(detector, tmp_path / "d.pt", {})
    sources = [file_source(file) for file in recordings(tmp_path, [1.0, 2.0, 1.3])]
    ours, theirs = score_all(detector, sources, 0.08), score_all(load_exported(tmp_path / "d.pt"), sources, 0.08)
    for one, other in zip(ours, theirs, strict=True):
        assert isinstance(one, ScoredStream)
        assert isinstance(other, ScoredStream)
        for label, track in one.tracks.items():
            np.testing.assert_array_equal(track.scores, other.tracks[label].scores)


def test_scoring_a_batch_does_not_change_the_stream_state() -> None:
    detector, x = random_detector(), sound(RATE, 3)
    detector.reset()
    whole = detector(x)
    detector.reset()
    first = detector(x[:5000])
    detector.batch(sound(RATE, 4)[None])
    torch.testing.assert_close(torch.cat([first, detector(x[5000:])]), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"), [(16000, 1, "PCM_16"), (44100, 2, "PCM_24"), (8000, 1, "FLOAT")]
)
@pytest.mark.parametrize("block_n", [700, 16000, 10**7])
def test_blocks_together_are_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, channels: int, subtype: str, block_n: int
) -> None:
    x = 0.4 * np.random.default_rng(0).standard_normal((rate * 2 + 77, channels)).clip(-2, 2)
    soundfile.write(tmp_path / "x.wav", x, rate, subtype=subtype)
    whole = to_int16(load(tmp_path / "x.wav"))
    monkeypatch.setattr(audio, "_BLOCK_N", 5000)  # what is read at once changes nothing either
    blocks = list(pcm_blocks(tmp_path / "x.wav", RATE, block_n))
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    assert {len(block) for block in blocks[:-1]} <= {block_n}
    assert len(whole) == -(-len(x) * RATE // rate)


def test_a_cut_is_a_slice_of_the_whole_file(tmp_path: Path) -> None:
    (file,) = recordings(tmp_path, [3.0])
    whole = to_int16(load(file))
    np.testing.assert_array_equal(audio.cut(file, RATE, 1.0, 1.5), whole[RATE : RATE + RATE // 2])
    np.testing.assert_array_equal(audio.cut(file, RATE, -1.0, 99.0), whole)
    assert len(audio.cut(file, 8000, 1.0, 1.5)) == 4000
    assert len(audio.cut(file, RATE, 7.0, 8.0)) == 0


def test_a_file_longer_than_its_header_says_is_scored_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = recordings(tmp_path, [1.0, 21.5])
    sources = [StreamSource(file, 1.0) for file in files]
    found = scoring.score_sources(random_detector(), sources, 0.08)
    assert [one.tracks[random_detector().labels[0]].duration_s for one in found if isinstance(one, ScoredStream)] == [
        1.0,
        21.5,
    ]


def test_an_older_exported_file_without_batches_scores_the_same(tmp_path: Path) -> None:
    class Older:
        """The contract of an exported file and no more."""

        def __init__(self) -> None:
            self.inner = random_detector()
            self.labels, self.sample_rate, self.frame_s = LABELS, RATE, self.inner.frame_s

        def reset(self) -> None:
            self.inner.reset()

        def __call__(self, pcm: torch.Tensor) -> torch.Tensor:
            return self.inner(pcm)

    sources = [file_source(file) for file in recordings(tmp_path, [1.0, 2.0, 21.0])]
    for one, other in zip(score_all(Older(), sources, 0.08), score_all(random_detector(), sources, 0.08), strict=True):
        assert isinstance(one, ScoredStream)
        assert isinstance(other, ScoredStream)
        for label, track in one.tracks.items():
            np.testing.assert_allclose(track.scores, other.tracks[label].scores, rtol=0, atol=1e-5)
