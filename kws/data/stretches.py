"""Stretches of recordings that rows of a manifest name: keywords in a long recording, and parts of other recordings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.data.audio import content_hash
from kws.data.audio_cache import Entry
from kws.data.manifest import Recording, stretch_name
from kws.data.names import same_word

_LATE_S = 0.1  # an end this far beyond the recording is that of the recording
Span = tuple[int, int]


def bounds_n(recording: Recording, n_samples: int, sample_rate: int) -> tuple[int | None, int | None]:
    """Columns start and end of a recording in samples, None where not given. Raises KwsError if they are outside."""
    start_s, end_s = recording.start_s, recording.end_s
    start = None if start_s is None else round(start_s * sample_rate)
    end = None if end_s is None else min(round(end_s * sample_rate), n_samples)
    if (start or 0) >= n_samples or (end_s or 0) * sample_rate > n_samples + _LATE_S * sample_rate:
        raise KwsError(
            f"{recording.name}: start and end must be within the recording, which lasts {n_samples / sample_rate:.2f} s"
        )
    if end is not None and end <= (start or 0):
        raise KwsError(f"{recording.name}: end={end_s:g}: must be a sample or more after start={start_s or 0:g}")
    return start, end


def cut_out(
    entries: Sequence[Entry], pcm: NDArray[np.int16], sample_rate: int, keywords: Sequence[str], context_s: float
) -> list[Entry]:
    """Cut recordings to the stretches that the columns start and end of their rows name.

    A keyword keeps the sound around it, up to the next row of its file. A keyword that is the only row of its file
    stays whole. Of other recordings the stretch alone is left. What no row names is not used.

    Args:
        entries: whole recordings; several may be rows of one file.
        pcm: audio of the cache.
        sample_rate: Hz.
        keywords: labels of the positives.
        context_s: sound that is kept on either side of a keyword, seconds; 0 cuts every row to its bounds.

    Shape: pcm int16 [total].

    Raises:
        KwsError: a stretch is outside of its recording.
    """
    rows: dict[Path, list[Span]] = {}
    spans: list[Span] = []
    for one in entries:
        start, end = bounds_n(one.recording, one.n_samples, sample_rate)
        spans.append((start or 0, one.n_samples if end is None else end))
        rows.setdefault(one.recording.path, []).append(spans[-1])
    found = []
    for one, (start, end) in zip(entries, spans, strict=True):
        recording, own = one.recording, rows[one.recording.path]
        keyword = context_s > 0 and any(same_word(recording.label, k) for k in keywords)
        if (recording.start_s is None and recording.end_s is None) or (keyword and len(own) == 1):
            found.append(one)
            continue
        first, last = (
            _room((start, end), own, round(context_s * sample_rate), one.n_samples) if keyword else (start, end)
        )
        audio = pcm[one.start + first : one.start + last]
        stretch = replace(
            recording,
            name=recording.name
            if len(own) > 1
            else stretch_name(recording.name, start / sample_rate, end / sample_rate),
            start_s=(start - first) / sample_rate if keyword else None,
            end_s=(end - first) / sample_rate if keyword else None,
            offset_s=first / sample_rate,
        )
        found.append(Entry(stretch, content_hash(audio), one.start + first, last - first, one.hash))
    return found


def _room(own: Span, rows: Sequence[Span], around_n: int, n_samples: int) -> Span:
    """A keyword with the sound around it, up to the next rows; of a row that overlaps, up to its other end."""
    start, end = own
    before = [b if b <= start else a for a, b in rows if a < start]
    after = [a if a >= end else b for a, b in rows if b > end]
    return max([0, start - around_n, *before]), min([n_samples, end + around_n, *after])
