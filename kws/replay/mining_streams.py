"""Streams of audio to mine, about an hour each: the pool of a run under new noise, or files of any length."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from kws.common.errors import KwsError, LeakError
from kws.common.seeding import numpy_generator
from kws.common.settings import Pair, SettingError
from kws.data.audio import BadAudio, pcm_blocks, to_float
from kws.data.audio_cache import AudioCache
from kws.data.manifest import Source, Split
from kws.data.mending import Fault
from kws.data.names import same_word
from kws.data.overlap import ambiguous
from kws.data.streams import compose
from kws.data.transcripts import Match, form_in
from kws.detector import streaming
from kws.detector.detector import Detector
from kws.replay.mining import MiningStream, Nearness, Provenance, SelectionConfig, embedded, mine, spans_of
from kws.replay.records import NewClip
from kws.replay.sources import others_of, source_of

STREAM_S = 3600  # seconds of audio in memory


@dataclass
class MiningConfig(SelectionConfig):
    """Mining rounds of a run: train recordings that are never sampled fresh, streamed under new noise and levels."""

    random_share: Annotated[float, Field(ge=0, le=1, description="share of the clips taken from random places")] = 0.05
    rounds: Annotated[int, Field(ge=0, le=50, description="mining rounds of a run")] = 2
    first_at: Annotated[float, Field(ge=0, le=1, description="share of the steps before the first round")] = 0.4
    last_at: Annotated[float, Field(ge=0, le=1, description="share of the steps before the last round")] = 0.7
    pool_share: Annotated[
        float, Field(ge=0, le=0.9, description="share of the train negatives, by speaker, that is mined, never fresh")
    ] = 0.3
    passes: Annotated[int, Field(ge=1, le=100, description="times that a round streams the pool")] = 2
    snr_db: Annotated[list[float], Pair(-20, 60), Field(description="signal-to-noise ratio in dB")] = field(
        default_factory=lambda: [0.0, 20.0]
    )
    noise_db: Annotated[list[float], Pair(-80, 0), Field(description="level of the noise in dBFS")] = field(
        default_factory=lambda: [-45.0, -20.0]
    )

    def check(self) -> None:
        """Raise SettingError where the rounds are out of order or have nothing to mine."""
        if self.first_at > self.last_at:
            raise SettingError("first_at", self.first_at, f"must be at most mining.last_at={self.last_at:g}")
        if self.rounds and not self.pool_share:
            raise SettingError(
                "rounds", self.rounds, "must be 0 with mining.pool_share=0, since nothing could be mined"
            )

    def at_steps(self, steps_n: int) -> list[int]:
        """The steps, of a run of `steps_n`, before which the pool is mined."""
        at = [self.first_at + (self.last_at - self.first_at) * i / max(1, self.rounds - 1) for i in range(self.rounds)]
        return [min(steps_n - 1, round(share * steps_n)) for share in at]


def no_nearness(hidden: torch.Tensor) -> torch.Tensor:
    """Nearness where no neighbours are mined: 0 for each row."""
    return hidden[:, 0] * 0


def pool_streams(
    detector: Detector,
    cache: AudioCache,
    pool: Sequence[int],
    noise: Sequence[int],
    config: MiningConfig,
    seed: int,
    gap_s: float,
    clip_n: int,
    round_: int,
    near: Nearness = no_nearness,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[MiningStream]:
    """The pool of a run, streamed `config.passes` times under new noise and levels.

    Args:
        detector: scores the streams.
        cache: the audio.
        pool, noise: entries to stream and to mix in; all of the train split.
        config: passes and levels.
        seed, round_: of the random numbers; each round has other noise.
        gap_s: seconds of noise after each recording.
        clip_n: samples of a clip.
        near: cosine of each row with the nearest keyword.
        progress: called after each pass with the passes done.
    """
    rate, row_n = cache.sample_rate, detector.block_n
    beds = [cache.audio(i) for i in noise]

    def stream(portion: Sequence[int], limit: int, rng: np.random.Generator) -> MiningStream:
        made = compose(
            [cache.audio(i) for i in portion], beds, rng, gap_s,
            (config.snr_db[0], config.snr_db[1]), (config.noise_db[0], config.noise_db[1]),
            clip_n / rate,  # of noise first, so that a clip near the start of the stream gives the same score
            rate,
        )  # fmt: skip
        scores, nearest = streaming.score_and_reduce(detector, made.pcm, rate, near)
        starts = np.array([piece.start for piece in made.pieces])
        piece_at = np.searchsorted(starts, np.arange(len(scores)) * row_n, side="right") - 1
        entries = np.array([*(portion[piece.index] for piece in made.pieces), -1])

        def provenance(row: int, start: int) -> Provenance:
            """All recordings that are audible in the clip of a row, which starts at sample `start` of the stream."""
            piece, end = made.pieces[piece_at[row]], start + clip_n
            entry = cache.entries[portion[piece.index]]
            first, last = np.searchsorted(made.noise_ends, [start, end - 1], side="right")
            audible = {portion[p.index] for p in made.pieces if p.start < end and p.start + p.n_samples > start}
            audible |= {noise[i] for i in made.noises[int(first) : int(last) + 1]}
            return Provenance(
                source=source_of(entry),
                offset_s=(start - piece.start) / rate,
                text=entry.recording.text,
                mixed_with=others_of([cache.entries[i] for i in sorted(audible)], entry),
                mix={"snr_db": float(piece.snr_db)} if np.isfinite(piece.snr_db) else {},
            )

        spans = spans_of(np.arange(len(scores)) * row_n - starts[piece_at.clip(0)], rate)
        hours = len(made.pcm) / rate / 3600
        return MiningStream(made.pcm, scores, nearest, entries[piece_at], spans, hours, limit, provenance, rng)

    for number in range(config.passes):
        # Each pass takes its part of the limit, so that a recording is mined under several noises.
        limit = -(-config.max_per_recording * (number + 1) // config.passes)
        rng = numpy_generator(seed, "mining", round_, number)
        order = [pool[i] for i in rng.permutation(len(pool))]
        for portion in portions(order, cache):
            yield stream(portion, limit, rng)
        progress(number + 1)


def portions(order: Sequence[int], cache: AudioCache) -> Iterator[list[int]]:
    """The entries in this order, about an hour at a time, so that a pool of any length needs the same memory."""
    portion: list[int] = []
    n_samples = 0
    for i in order:
        portion.append(i)
        n_samples += cache.entries[i].n_samples
        if n_samples >= STREAM_S * cache.sample_rate:
            yield portion
            portion, n_samples = [], 0
    if portion:
        yield portion


# Of a stream: audio, scores, nearness and numbers of the recordings, as in `MiningStream`.
Block = tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class KnownRecording:
    """A recording that a manifest or a checkpoint knows: its source, label and transcript."""

    source: Source
    label: str = ""
    text: str = ""


def keyword_in(one: KnownRecording, keywords: Sequence[str], match: Match) -> str:
    """The form of a keyword in the transcript or label of a recording; empty if there is none."""
    for word in keywords:
        if form := form_in(one.text, word, match):
            return form
        if same_word(one.label, word) or (not one.text and ambiguous(one.label, word)):
            return f"label {one.label}"
    return ""


@dataclass(eq=False)
class FileStreams:
    """Streams of recordings from files of any length. Each file is decoded once, block by block.

    A recording is identified by its content hash, which is known once the file is read. After the iteration `admitted`
    holds the recordings that may be mined, `hours` their duration, `bad` the files without usable sound, `faults` the
    number of the others with each fault, and `with_keyword` the form of a keyword in the label or transcript of each
    recording that has one, by name.

    Args:
        detector: scores the recordings, each from silence.
        files: recordings without the keyword.
        known: recordings by content hash. Others count as train recordings.
        clip_n: samples of a clip, a whole number of rows.
        max_per_recording: clips of a keyword in each started `SPAN_S` of a recording.
        near: cosine of each row with the nearest keyword.
        progress: called after each file with the files done.
        match: forms of a keyword that count in a transcript.

    Raises (while iterating):
        LeakError: a recording is held out for validation or test.
    """

    detector: Detector
    files: Sequence[Path]
    known: Mapping[str, KnownRecording]
    clip_n: int
    max_per_recording: int
    near: Nearness = no_nearness
    progress: Callable[[int], None] = lambda _: None
    match: Match = Match.word
    admitted: dict[str, KnownRecording] = field(default_factory=dict)  # by number of the file, the source of its clips
    bad: list[BadAudio] = field(default_factory=list)
    faults: Counter[Fault] = field(default_factory=Counter)
    with_keyword: dict[str, str] = field(default_factory=dict)
    hours: float = 0.0
    _rng: np.random.Generator = field(default_factory=lambda: numpy_generator(0, "mine"))
    _blocks: list[Block] = field(default_factory=list)
    _begins: dict[int, int] = field(default_factory=dict)  # sample of the stream where a recording begins, or < 0
    _read_n: Counter[int] = field(default_factory=Counter)  # samples of each recording so far

    def __iter__(self) -> Iterator[MiningStream]:
        rate, row_n = self.detector.sample_rate, self.detector.block_n
        block_n = max(1, round(streaming.CHUNK_S * rate) // row_n) * row_n
        for number, file in enumerate(self.files):
            self.detector.reset()
            # Silence first, so that a clip near the start of the recording gives the same score.
            self._score(np.zeros(self.clip_n, np.int16), -1)
            self._begins[number] = self._stream_n
            hash_, faults = hashlib.sha256(), set[Fault]()
            try:
                for block in pcm_blocks(file, rate, block_n, faults):
                    hash_.update(block.astype("<i2").tobytes())
                    self._score(block, number)
                    self._read_n[number] += len(block)
                    if self._stream_n >= STREAM_S * rate:
                        yield from self._stream(whole=False)
                self._admit(number, hash_.hexdigest())
                self.faults.update(faults)
            except BadAudio as error:
                self.bad.append(error)
            if str(number) not in self.admitted:
                for *_, recordings in self._blocks:
                    recordings[recordings == number] = -1
            self.progress(number + 1)
        yield from self._stream(whole=True)

    def _score(self, pcm: NDArray[np.int16], number: int) -> None:
        pcm = np.pad(pcm, (0, -len(pcm) % self.detector.block_n))  # the last row is completed with silence
        scores, hidden = self.detector.score_and_embed(torch.tensor(to_float(pcm)))
        recordings = np.full(len(scores), number)
        self._blocks.append((pcm, scores.cpu().numpy(), self.near(hidden).cpu().numpy(), recordings))

    def _admit(self, number: int, hash_: str) -> None:
        found = self.known.get(hash_) or KnownRecording(Source(hash_, str(self.files[number]), Split.TRAIN))
        if found.source.split is not Split.TRAIN:
            raise LeakError(
                f"streams: {found.source.name!r}: a {found.source.split} recording must not enter the replay buffer"
            )
        if form := keyword_in(found, self.detector.labels, self.match):
            self.with_keyword[found.source.name] = form  # a trigger in it may be a hit
            return
        self.admitted[str(number)] = found
        self.hours += self._read_n[number] / self.detector.sample_rate / 3600

    @property
    def _stream_n(self) -> int:
        return sum(len(pcm) for pcm, *_ in self._blocks)

    def _stream(self, whole: bool) -> Iterator[MiningStream]:
        """The blocks so far as a stream. Unless `whole`, its end is repeated at the start of the next stream."""
        if not self._blocks:
            return
        rate, row_n = self.detector.sample_rate, self.detector.block_n
        clip_rows = self.clip_n // row_n
        pcm, scores, nearest, recordings = (np.concatenate(parts) for parts in zip(*self._blocks, strict=True))
        self._blocks = []
        if not whole:
            # A clip reaches at most its own length back from its row, and as much ahead.
            rest = slice(len(scores) - 2 * clip_rows, None)
            kept = recordings[rest].copy()
            kept[:clip_rows] = -1
            recordings[-clip_rows:] = -1
            self._blocks = [(pcm[rest.start * row_n :].copy(), scores[rest].copy(), nearest[rest].copy(), kept)]
        begins, hours = dict(self._begins), float((recordings >= 0).sum() * row_n / rate / 3600)
        self._begins = {number: at - len(pcm) + self._stream_n for number, at in begins.items()}

        first = np.array([begins.get(number, 0) for number in range(len(self.files))], np.int64)
        spans = spans_of(np.arange(len(scores)) * row_n - first[recordings.clip(0)], rate)

        def provenance(row: int, start: int) -> Provenance:
            number = int(recordings[row])
            place = Source(str(number), str(self.files[number]), Split.TRAIN)
            return Provenance(source=place, offset_s=(start - begins[number]) / rate, text="", mixed_with=(), mix={})

        limit = self.max_per_recording
        yield MiningStream(pcm, scores, nearest, recordings, spans, hours, limit, provenance, self._rng)


def mine_files(streams: FileStreams, config: SelectionConfig, checkpoint: str, max_undecodable: float) -> list[NewClip]:
    """Mine recordings in flat memory: the audio of the clips stays on disk until all recordings are read.

    Args:
        streams: the recordings.
        config: which parts become clips.
        checkpoint: hash of the detector's weights.
        max_undecodable: share of the recordings that may fail to decode, 0 to 1.

    Raises:
        LeakError: a recording is held out for validation or test.
        KwsError: too many recordings have no usable sound, or nothing is left to mine.
    """
    found: list[NewClip] = []
    nothing = np.zeros(0, np.int16)
    with TemporaryFile() as spool:
        for some in mine(streams, streams.detector, config, streams.clip_n, checkpoint, "kws mine", 0):
            for clip in embedded(some, streams.detector):
                spool.write(clip.pcm.tobytes())
                found.append(replace(clip, pcm=nothing))
        spool.flush()
        pcm = np.memmap(spool, np.int16, "r").reshape(-1, streams.clip_n) if found else nothing
    bad, n, admitted = streams.bad, len(streams.files), streams.admitted
    if len(bad) > max_undecodable * n or len(bad) == n:
        raise KwsError(
            f"streams: {len(bad)} of {n} recordings have no usable sound, more than "
            f"data.max_undecodable={max_undecodable:g}; first {bad[0].name}: {bad[0].reason}"
        )
    if not admitted:
        name, form = next(iter(streams.with_keyword.items()))
        raise KwsError(f"streams: {name}: its transcript or label contains the keyword ({form})")
    return [
        replace(clip, pcm=pcm[i], source=recording.source, text=recording.text)
        for i, clip in enumerate(found)
        if (recording := admitted.get(clip.source.hash))
    ]
