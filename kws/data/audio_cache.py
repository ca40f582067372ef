"""Cache of decoded audio: all recordings as 16-bit integers in one memory-mapped file, shared by later runs."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.data import audio
from kws.data.manifest import Recording, Split
from kws.data.mending import Fault
from kws.data.sound_store import Decoded, stored

_SHOWN = 3  # undecodable files named in an error


@dataclass(frozen=True, slots=True)
class Entry:
    """Position of a recording in the cache, and the content hash of its audio.

    `whole` is the content hash of the file where the entry is a piece of it, else empty.
    """

    recording: Recording
    hash: str
    start: int
    n_samples: int
    whole: str = ""


Divide = Callable[[list[Entry], NDArray[np.int16]], list[Entry]]


@dataclass(slots=True)
class AudioCache:
    """Audio of all decodable recordings, in the order of the manifest.

    `bad` holds the reason for each undecodable recording, by name. `duplicates` names the recordings that are left out
    because a split further from training holds the same audio. `by` says what divided the recordings of each role, and
    `faults` holds those of each recording that has any,
    by name.

    Shape: pcm int16 [total of the cache], `audio(i)` int16 [n_samples of entry i].
    """

    sample_rate: int
    entries: list[Entry]
    bad: dict[str, str]
    duplicates: list[str]
    pcm: NDArray[np.int16]
    by: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)

    def audio(self, i: int) -> NDArray[np.int16]:
        """Samples of entry `i`, a view."""
        entry = self.entries[i]
        return self.pcm[entry.start : entry.start + entry.n_samples]


def pack(
    recordings: Sequence[Recording],
    folder: Path,
    sample_rate: int = 16000,
    max_undecodable: float = 0.10,
    progress: Callable[[int, int], None] | None = None,
    divide: Divide = lambda entries, _: entries,
) -> AudioCache:
    """Map the recordings from the cache in `folder`, and decode those that it does not hold.

    The cache holds audio only. Labels, splits and transcripts come from `recordings` at each call.

    Args:
        recordings: recordings to decode, in order.
        folder: cache folder, created if it does not exist.
        sample_rate: Hz.
        max_undecodable: largest accepted share of undecodable files, in [0, 1].
        progress: called with (files done, number of files) after each file that is decoded.
        divide: assigns the splits; takes all entries and the audio of the cache, and may cut entries into pieces.

    Raises:
        KwsError: a larger share of the files is undecodable, or the folder cannot be written.
    """
    # A path may be given as several recordings.
    paths = list(dict.fromkeys(recording.path for recording in recordings))

    def tick(done: int) -> None:
        if progress is not None:
            progress(len(recordings) - len(paths) + done, len(recordings))

    found, pcm = stored(paths, folder, sample_rate, partial(_decode_all, sample_rate=sample_rate), tick)
    decoded_at = dict(zip(paths, found, strict=True))
    decoded = [decoded_at[recording.path] for recording in recordings]
    return _indexed(recordings, decoded, pcm, sample_rate, max_undecodable, divide)


def _decode_all(paths: Sequence[Path], sample_rate: int) -> Iterator[tuple[Decoded, NDArray[np.int16]]]:
    """Decode in threads, in order, a few files ahead of the consumer, so that memory stays flat."""
    n_threads = os.cpu_count() or 2
    pending: deque[Future[tuple[Decoded, NDArray[np.int16]]]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        for path in paths:
            pending.append(pool.submit(_decode, path, sample_rate))
            if len(pending) > 4 * n_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _decode(path: Path, sample_rate: int) -> tuple[Decoded, NDArray[np.int16]]:
    faults: set[Fault] = set()
    try:
        pcm = audio.to_int16(audio.load(path, sample_rate, faults))
    except audio.BadAudio as error:
        return Decoded(bad=error.reason), np.zeros(0, np.int16)
    return Decoded(audio.content_hash(pcm), n_samples=len(pcm), faults=tuple(sorted(faults))), pcm


def _indexed(
    recordings: Sequence[Recording],
    decoded: Sequence[Decoded],
    pcm: NDArray[np.int16],
    sample_rate: int,
    max_undecodable: float,
    divide: Divide,
) -> AudioCache:
    """Combine recordings and audio by position. Undecodable files and duplicates are named, but are no entries."""
    bad = {r.name: d.bad for r, d in zip(recordings, decoded, strict=True) if d.bad}
    share = len(bad) / max(1, len(recordings))
    if share > max_undecodable:
        named = [f"{name} ({reason})" for name, reason in bad.items()]
        named[_SHOWN:] = ["..."] * (len(bad) > _SHOWN)
        raise KwsError(
            f"{len(bad)} of {len(recordings)} recordings ({share:.1%}) have no usable sound, "
            f"more than data.max_undecodable={max_undecodable:g}: {', '.join(named)}"
        )
    placed = zip(recordings, decoded, strict=True)
    entries = divide([Entry(r, d.hash, d.start, d.n_samples) for r, d in placed if not d.bad], pcm)
    # No test or validation audio may be trained on: of equal recordings, the one furthest from training is kept.
    order = list(Split)
    furthest: dict[str, int] = {}
    uncut: dict[str, int] = {}  # the same without the pieces of files that are cut in time, which are in all splits
    for entry in entries:
        for hash_ in filter(None, (entry.hash, entry.whole)):
            for found in (furthest,) if _cut_in_time(entry) else (furthest, uncut):
                found[hash_] = max(found.get(hash_, 0), order.index(entry.recording.split))
    kept, duplicates = list[Entry](), list[str]()
    for entry in entries:
        file = (uncut if _cut_in_time(entry) else furthest).get(entry.whole, 0)
        if order.index(entry.recording.split) == max(furthest[entry.hash], file):
            kept.append(entry)
        else:
            duplicates.append(entry.recording.name)
    faults = {r.name: [Fault(one) for one in d.faults] for r, d in zip(recordings, decoded, strict=True) if d.faults}
    return AudioCache(sample_rate, kept, bad, duplicates, pcm, faults=faults)


def _cut_in_time(entry: Entry) -> bool:
    """Whether an entry is a piece of a file whose pieces are in several splits. Stretches of a file are in one."""
    return bool(entry.whole) and entry.recording.offset_s is None
