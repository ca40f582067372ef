"""Live detection triggers where an evaluation of the same stream does, and keeps the audio around it."""

import io
import wave

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.data.audio import to_int16
from kws.detector.streaming import score_tracks
from kws.evaluation.events import trigger_times
from kws.runtime.listener import Listener, Recorder, Trigger
from kws.runtime.sources import from_pipe
from tests.nets import LABELS, random_detector, sound

RATE, CHUNK_N = 16000, 1280
PCM = to_int16(sound(20 * RATE).numpy())


def listened(listener: Listener, pcm: np.ndarray) -> list[Trigger]:
    return [one for i in range(0, len(pcm), CHUNK_N) for one in listener.feed(pcm[i : i + CHUNK_N])]


@pytest.mark.parametrize("refractory_s", [0.0, 0.5, 1.0])
def test_triggers_are_those_of_an_evaluation(refractory_s: float) -> None:
    tracks = score_tracks(random_detector(), PCM, RATE, CHUNK_N / RATE)
    detector = random_detector()
    detector.thresholds = [float(np.quantile(tracks[label].scores, 0.9)) for label in LABELS]
    found = listened(Listener({"a": detector}, refractory_s), PCM)
    for label, threshold in zip(LABELS, detector.thresholds, strict=True):
        mine = [one.time_s for one in found if one.keyword == label]
        wanted = trigger_times(tracks[label], threshold, refractory_s)
        # Rows of one chunk have one time, and live there is one trigger a chunk.
        np.testing.assert_allclose(mine, sorted(set(wanted.tolist())), atol=1e-9)
        assert len(mine) > 3


class Scripted:
    """A detector of one keyword whose next scores are given."""

    labels, thresholds, sample_rate, frame_s = ["a"], [0.9], 1000, 0.1

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores

    def reset(self) -> None: ...

    def __call__(self, pcm: torch.Tensor) -> torch.Tensor:
        n = len(pcm) // 100
        rows, self.scores = self.scores[:n], self.scores[n:]
        return torch.tensor(rows)[:, None]


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        ([0, 0.5, 0.95, 0.5] + [0] * 20, [(0.3, False)]),  # the flanks of a trigger are no near misses
        ([0, 0.5, 0.6] + [0] * 20, [(0.2, True)]),
        ([0, 0.5] + [0] * 12 + [0.95] + [0] * 5, [(0.2, True), (1.5, False)]),
        ([0] * 20 + [0.5, 0], [(2.1, True)]),  # known when the stream ends
    ],
)
def test_a_near_miss_is_no_flank_of_a_trigger(scores: list[float], wanted: list[tuple[float, bool]]) -> None:
    listener = Listener({"d": Scripted([float(score) for score in scores])}, 1.0, near=0.4)
    found = [one for _ in scores for one in listener.feed(np.zeros(100, np.int16))] + listener.rest()
    assert [(round(one.time_s, 3), one.near) for one in found] == wanted


def test_the_longer_of_two_keywords_is_meant() -> None:
    class Both(Scripted):
        labels, thresholds = ["computer", "hey computer"], [0.9, 0.9]

        def __call__(self, pcm: torch.Tensor) -> torch.Tensor:
            return super().__call__(pcm) * torch.tensor([[1.0, self.long]])

    for long, wanted in ((1.0, ["hey computer"]), (0.5, ["computer"])):
        detector = Both([0.0, 0.95, 0.0])
        detector.long = long
        listener = Listener({"d": detector})
        assert [one.keyword for _ in range(3) for one in listener.feed(np.zeros(100, np.int16))] == wanted


def test_several_detectors_hear_the_same_stream_and_must_have_one_rate() -> None:
    one, other = random_detector(seed=1), random_detector(seed=2)
    one.thresholds, other.thresholds = [0.3, 0.3], [0.3, 0.3]
    both = listened(Listener({"one": one, "other": other}), PCM)
    one.reset()
    assert [x for x in both if x.detector == "one"] == listened(Listener({"one": one}), PCM)
    other.sample_rate = 8000
    with pytest.raises(KwsError, match="must have one sample rate"):
        Listener({"one": one, "other": other})


@given(st.lists(st.floats(0.01, 9.9), max_size=6), st.integers(100, 5000))
def test_the_audio_around_a_trigger_is_kept(times: list[float], chunk_n: int) -> None:
    """Of samples that count up, the first of a clip says where it begins."""
    pcm = np.arange(10_000, dtype=np.int16)
    recorder, found = Recorder(1000, before_s=3.0, after_s=1.0), []
    for at in range(0, len(pcm), chunk_n):
        end = min(at + chunk_n, len(pcm)) / 1000
        due = [Trigger(end, "a", 1.0, 0.5, "d") for t in sorted(times) if at / 1000 < t <= end]
        found += recorder.feed(pcm[at : at + chunk_n], due)
    found += recorder.rest()
    assert len(found) == len(times)
    for one in found:
        first, end_n = round(one.begin_s * 1000), round(one.trigger.time_s * 1000)
        assert first == max(0, end_n - 3000)
        np.testing.assert_array_equal(one.pcm, pcm[first : min(end_n + 1000, len(pcm))])


def test_a_pipe_holds_raw_samples_or_a_wav() -> None:
    raw = PCM[:5000].tobytes()
    np.testing.assert_array_equal(np.concatenate(list(from_pipe(io.BytesIO(raw), RATE, CHUNK_N))), PCM[:5000])
    cut = list(from_pipe(io.BytesIO(raw[:-1]), RATE, CHUNK_N))  # half a sample at the end
    assert [len(block) for block in cut] == [1280, 1280, 1280, 1159]
    assert list(from_pipe(io.BytesIO(b""), RATE, CHUNK_N)) == []

    def wav(rate: int, channels: int) -> io.BytesIO:
        packed = io.BytesIO()
        with wave.open(packed, "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(raw)
        return io.BytesIO(packed.getvalue())

    np.testing.assert_array_equal(np.concatenate(list(from_pipe(wav(RATE, 1), RATE, CHUNK_N))), PCM[:5000])
    for rate, channels in ((8000, 1), (RATE, 2)):
        with pytest.raises(KwsError, match=f"not of {rate} Hz, {channels} channels and 16 bits"):
            list(from_pipe(wav(rate, channels), RATE, CHUNK_N))
    for content in (b"fLaC\x00\x00", b"OggS", b"ID3\x03"):
        with pytest.raises(KwsError, match="must be a WAV or raw samples"):
            list(from_pipe(io.BytesIO(content), RATE, CHUNK_N))
    unknown = bytearray(wav(RATE, 1).getvalue())
    unknown[40:44] = bytes(4)  # the length of the samples, which a recorder in a pipe does not know
    np.testing.assert_array_equal(np.concatenate(list(from_pipe(io.BytesIO(unknown), RATE, CHUNK_N))), PCM[:5000])
    half = wav(RATE, 1).getvalue()[:-1]
    assert sum(map(len, from_pipe(io.BytesIO(half), RATE, CHUNK_N))) == 4999
    with pytest.raises(KwsError, match="not a WAV that can be read"):
        list(from_pipe(io.BytesIO(b"RIFF and nothing else"), RATE, CHUNK_N))
