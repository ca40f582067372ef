"""Evaluation on given files: some with keywords, with annotations, and some without. Either may be left out."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kws.common.errors import KwsError
from kws.data.audio import BadAudio, length_s, load, to_int16
from kws.data.mending import Fault
from kws.data.names import shown
from kws.data.streams import AFTER_S, Span, Stream
from kws.detector.streaming import NO_STREAM, ScoreTrack, StreamScorer
from kws.evaluation.annotations import Annotation
from kws.evaluation.events import NO_OFFSET, join_offsets, join_tracks
from kws.evaluation.scoring import (
    KeywordScores,
    Progress,
    Result,
    ScoreAll,
    ScoredStream,
    Segment,
    StreamSource,
    score_all,
)

GAP_S = 200.0  # between files with keywords: longer than any refractory time and collar
SILENCE_S = 1.0  # after a recording of a keyword: a trigger comes up to AFTER_S after its end
AnnotatedFile = tuple[Path, Mapping[str, Sequence[Annotation]]]  # with the annotations of each keyword


# The annotation of a recording that is one keyword: any trigger in it, or soon after it, is a hit.
WHOLE_FILE = Annotation((0.0, math.inf), None)


def with_silence(file: Path, sample_rate: int) -> StreamSource:
    """A recording of a keyword to score, with silence after it in which the detector may still trigger."""

    def stream() -> Stream:
        faults = set[Fault]()
        pcm = to_int16(load(file, sample_rate, faults))
        pcm = np.append(pcm, np.zeros(round(SILENCE_S * sample_rate), np.int16))
        return Stream(pcm, [], [], sample_rate, faults=frozenset(faults))

    return StreamSource(stream, length_s(file) + SILENCE_S)


def evaluate_files(
    detector: StreamScorer,
    keywords: Sequence[str],
    positives: Sequence[AnnotatedFile],
    negatives: Sequence[Path],
    sources: Sequence[StreamSource],
    chunk_s: float,
    max_undecodable: float,
    progress: Progress = lambda _: None,
    score: ScoreAll = score_all,
) -> tuple[dict[str, KeywordScores], list[BadAudio], Counter[Fault]]:
    """Score the files with a detector.

    Args:
        detector: a `Detector` or an exported file.
        keywords: keywords that count; one without an annotation is left out, if there are positives.
        positives: files with keywords.
        negatives: files without a keyword.
        sources: all of them in this order, as stream sources.
        chunk_s: length of the audio chunks in seconds; a score row is known at the end of its chunk.
        max_undecodable: largest share of the positives, and of the negatives, that may fail to decode, 0 to 1.
        progress: called with the seconds scored up to now.
        score: scores the sources.

    Returns:
        scores of each keyword, the files that did not decode, and the number of files with each fault.

    Raises:
        KwsError: too many files have no usable sound, or a keyword is annotated after the end of its file.
    """
    results = score(detector, sources, chunk_s, progress)
    first = len(positives)
    bad = _bad(results[:first], "positive", max_undecodable) + _bad(results[first:], "negative", max_undecodable)
    good = [(i, result) for i, result in enumerate(results) if i >= first and isinstance(result, ScoredStream)]
    names = display_names([*(file for file, _ in positives), *negatives])
    scores: dict[str, KeywordScores] = {}
    times = None
    for keyword in keywords:
        tracks = [result.tracks[keyword] for _, result in good]
        negative = join_tracks(tracks, times=times) if negatives else NO_STREAM
        times = negative.times
        segments = [
            Segment(
                offset.start_s,
                offset.shift(track.duration_s),
                names[i],
                source=negatives[i - first].parent.name,
                stream=i,
                offset_s=offset.start_s,
                silent_s=track.silent_s,
            )
            for (i, _), track, offset in zip(good, tracks, join_offsets(tracks), strict=True)
        ]
        if not positives:
            scores[keyword] = KeywordScores(NO_STREAM, [], negative, segments)
        elif found := _positive_scores(keyword, keywords, positives, results, names):
            track, events, others, other_spans = found
            scores[keyword] = KeywordScores(track, events, negative, segments, others, other_spans)
    faults = Counter(fault for result in results if isinstance(result, ScoredStream) for fault in result.faults)
    return scores, bad, faults


def _bad(results: Sequence[Result], kind: str, max_undecodable: float) -> list[BadAudio]:
    """Those of the results of files that did not decode. Raises KwsError if they are too many, or all."""
    bad = [result for result in results if isinstance(result, BadAudio)]
    if bad and (len(bad) > max_undecodable * len(results) or len(bad) == len(results)):
        raise KwsError(
            f"{len(bad)} of {len(results)} {kind} recordings have no usable sound, first {bad[0]}; "
            f"the share must be at most data.max_undecodable={max_undecodable}"
        )
    return bad


def display_names(files: Sequence[Path]) -> list[str]:
    """Names of files for tables: folder and name, or the whole path where folder and name are not unique."""
    short = ["/".join(file.parts[-2:]) for file in files]
    counts = Counter(short)
    return [shown(name if counts[name] == 1 else file.as_posix()) for name, file in zip(short, files, strict=True)]


def _positive_scores(
    keyword: str,
    keywords: Sequence[str],
    files: Sequence[AnnotatedFile],
    results: Sequence[Result],
    names: Sequence[str],
) -> tuple[ScoreTrack, list[Segment], dict[str, ScoreTrack], dict[str, list[Span]]] | None:
    """Track and events of the files with a keyword, and tracks and spans of the other keywords there.

    Returns None if no file has the keyword.
    """
    scored = {i: one for i, one in enumerate(results) if isinstance(one, ScoredStream)}
    chosen = [i for i, (_, annotations) in enumerate(files) if i in scored and annotations.get(keyword)]
    if not chosen:
        return None
    tracks = {word: [scored[i].tracks[word] for i in chosen] for word in keywords}
    # A single track keeps its exact times.
    offsets = [NO_OFFSET] if len(chosen) == 1 else join_offsets(tracks[keyword], GAP_S)
    joined = {word: some[0] if len(some) == 1 else join_tracks(some, GAP_S) for word, some in tracks.items()}
    events, other_spans = [], {other: list[Span]() for other in keywords if other != keyword}
    for i, offset, track in zip(chosen, offsets, tracks[keyword], strict=True):
        file, annotations = files[i]
        whole_s = track.duration_s - SILENCE_S + AFTER_S  # from the samples: a header may give no length
        for (start, given), spoken in annotations[keyword]:
            end = whole_s if given == math.inf else given
            if start >= track.duration_s:
                raise KwsError(f"{file}: lasts {track.duration_s:.1f} s, but {keyword!r} is annotated at {start:.1f} s")
            event = Segment(offset.shift(start), offset.shift(end), names[i], source=file.parent.name, stream=i)
            spoken_s = None if spoken is None else offset.shift(spoken)
            events.append(replace(event, spoken_s=spoken_s, offset_s=offset.start_s))
        for other, spans in other_spans.items():
            spans += [(offset.shift(start), offset.shift(end)) for (start, end), _ in annotations.get(other, ())]
    return joined.pop(keyword), events, joined, other_spans
