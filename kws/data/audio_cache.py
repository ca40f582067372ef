"""Cache of decoded audio: all recordings as 16-bit integers in one memory-mapped file, shared by later runs."""

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.data import audio
from kws.data.manifest import Recording, Split
from kws.data.mending import Fault

_VERSION = 2  # of the file format; caches of another version are ignored
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
    `faults` counts the recordings with each fault.

    Shape: pcm int16 [total], `audio(i)` int16 [n_samples of entry i].
    """

    sample_rate: int
    entries: list[Entry]
    bad: dict[str, str]
    duplicates: list[str]
    pcm: NDArray[np.int16]
    by: dict[str, str] = field(default_factory=dict)
    faults: Counter[Fault] = field(default_factory=Counter)

    def audio(self, i: int) -> NDArray[np.int16]:
        """Samples of entry `i`, a view."""
        entry = self.entries[i]
        return self.pcm[entry.start : entry.start + entry.n_samples]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Result of decoding one file: content hash, length and faults, or the reason why it is unusable."""

    hash: str = ""
    n_samples: int = 0
    bad: str = ""
    faults: Sequence[str] = ()


def pack(
    recordings: Sequence[Recording],
    folder: Path,
    sample_rate: int = 16000,
    max_undecodable: float = 0.10,
    progress: Callable[[int, int], None] | None = None,
    divide: Divide = lambda entries, _: entries,
) -> AudioCache:
    """Decode the recordings into `folder`, or map the cache of an earlier call for the same files.

    The cache holds audio only. Labels, splits and transcripts come from `recordings` at each call.

    Args:
        recordings: recordings to decode, in order.
        folder: cache folder, created if it does not exist.
        sample_rate: Hz.
        max_undecodable: largest accepted share of undecodable files, in [0, 1].
        progress: called with (files done, number of files) after each file; not called if nothing is decoded.
        divide: assigns the splits; takes all entries and the audio of the cache, and may cut entries into pieces.

    Raises:
        KwsError: a larger share of the files is undecodable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(recordings, sample_rate)
    pcm_path, index_path = folder / f"{key}.i16", folder / f"{key}.json"
    decoded = _cached(pcm_path, index_path, len(recordings))
    if decoded is None:
        with replacing(pcm_path) as file:
            decoded = []
            for item, pcm in _decode_all(recordings, sample_rate):
                file.write(pcm.data)
                decoded.append(item)
                if progress is not None:
                    progress(len(decoded), len(recordings))
        with replacing(index_path) as file:  # written last: an index implies complete audio
            file.write(json.dumps([asdict(item) for item in decoded]).encode())
    return _indexed(recordings, decoded, _mapped(pcm_path), sample_rate, max_undecodable, divide)


def _key(recordings: Sequence[Recording], sample_rate: int) -> str:
    digest = hashlib.sha256(f"{_VERSION} {sample_rate}\n".encode())
    for recording in recordings:
        # A file that becomes readable is decoded again.
        readable = os.access(recording.path, os.R_OK)
        stat = recording.path.stat() if readable else None
        digest.update(os.fsencode(recording.path))
        digest.update(f"\0{stat.st_size} {stat.st_mtime_ns}\n".encode() if stat else b"\0-\n")
    return digest.hexdigest()


def _cached(pcm_path: Path, index_path: Path, n_recordings: int) -> list[_Decoded] | None:
    """Index of an earlier call; None if it is missing or incomplete."""
    try:
        decoded = [_Decoded(**item) for item in json.loads(index_path.read_bytes())]
        n_bytes = pcm_path.stat().st_size
    except (OSError, ValueError, TypeError):
        return None
    whole = len(decoded) == n_recordings and n_bytes == 2 * sum(item.n_samples for item in decoded)
    return decoded if whole else None


def _decode_all(recordings: Sequence[Recording], sample_rate: int) -> Iterator[tuple[_Decoded, NDArray[np.int16]]]:
    """Decode in threads, in order, a few files ahead of the consumer, so that memory stays flat."""
    n_threads = os.cpu_count() or 2
    pending: deque[Future[tuple[_Decoded, NDArray[np.int16]]]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        for recording in recordings:
            pending.append(pool.submit(_decode, recording.path, sample_rate))
            if len(pending) > 4 * n_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _decode(path: Path, sample_rate: int) -> tuple[_Decoded, NDArray[np.int16]]:
    faults: set[Fault] = set()
    try:
        pcm = audio.to_int16(audio.load(path, sample_rate, faults))
    except audio.BadAudio as error:
        return _Decoded(bad=error.reason), np.zeros(0, np.int16)
    return _Decoded(audio.content_hash(pcm), len(pcm), faults=sorted(faults)), pcm


def _mapped(path: Path) -> NDArray[np.int16]:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, np.int16)
    # Copy on write protects the file, and torch does not warn about read-only memory.
    return np.memmap(path, dtype=np.int16, mode="c")


def _indexed(
    recordings: Sequence[Recording],
    decoded: Sequence[_Decoded],
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
    starts = accumulate((d.n_samples for d in decoded), initial=0)
    placed = zip(recordings, decoded, starts, strict=False)
    entries = divide([Entry(r, d.hash, start, d.n_samples) for r, d, start in placed if not d.bad], pcm)
    # No test or validation audio may be trained on: of equal recordings, the one furthest from training is kept.
    order = list(Split)
    furthest: dict[str, int] = {}
    for entry in entries:
        for hash_ in filter(None, (entry.hash, entry.whole)):
            furthest[hash_] = max(furthest.get(hash_, 0), order.index(entry.recording.split))
    kept = [e for e in entries if order.index(e.recording.split) == furthest[e.hash]]
    duplicates = [e.recording.name for e in entries if order.index(e.recording.split) < furthest[e.hash]]
    faults = Counter(Fault(fault) for d in decoded for fault in d.faults)
    return AudioCache(sample_rate, kept, bad, duplicates, pcm, faults=faults)
