"""A detector on files that a person gives: some in which keywords are said, with annotations, and some without."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kws.common.errors import KwsError
from kws.data.audio import BadAudio
from kws.data.streams import Span
from kws.detector.streaming import ScoreTrack, StreamScorer
from kws.evaluation import scoring
from kws.evaluation.annotations import Marked
from kws.evaluation.events import join, offsets
from kws.evaluation.scoring import Hear, KeywordScores, Listened, Passage, Tell, whole

APART_S = 200.0  # between files in which keywords are said: more than any silence and collar


@dataclass(frozen=True)
class Given:
    """The files of an evaluation.

    Args:
        positives: each file in which keywords are said, with when each keyword is.
        negatives: files in which none is.
    """

    positives: Sequence[tuple[Path, Mapping[str, Sequence[Marked]]]]
    negatives: Sequence[Path]

    @property
    def takes(self) -> list[scoring.Take]:
        """All of them to be heard, the positives first."""
        return [scoring.take(file) for file in [*(file for file, _ in self.positives), *self.negatives]]


def evaluate_files(
    detector: StreamScorer,
    words: Sequence[str],
    given: Given,
    takes: Sequence[scoring.Take],
    chunk_s: float,
    max_bad_share: float,
    tell: Tell = lambda _: None,
    hear: Hear = scoring.hear_all,
) -> tuple[dict[str, KeywordScores], list[BadAudio]]:
    """Run a detector over files.

    Args:
        detector: a `Detector` or an exported file.
        words: the keywords that count; one that is said nowhere is left out.
        given, takes: the files.
        chunk_s: a trigger counts from the end of the chunk of this length that brings it.
        max_bad_share: more negatives than this that do not decode are an error.
        tell: called with the seconds heard so far.
        hear: hears takes.

    Returns:
        what was heard of each keyword, and the negatives that did not decode.

    Raises:
        BadAudio: a positive file does not decode.
        KwsError: too many of the others do not, or a keyword is said after a file's end.
    """
    found = hear(detector, takes, chunk_s, tell)
    first = len(given.positives)
    positives = [whole(result) for result in found[:first]]
    bad = [result for result in found[first:] if isinstance(result, BadAudio)]
    if len(bad) > max_bad_share * len(given.negatives):
        raise KwsError(
            f"{len(bad)} of {len(given.negatives)} negative recordings do not decode, first {bad[0]}; "
            f"allowed is a share of data.max_bad_share={max_bad_share}"
        )
    good = [(i, result) for i, result in enumerate(found) if i >= first and isinstance(result, Listened)]
    heard: dict[str, KeywordScores] = {}
    names = shown([*(file for file, _ in given.positives), *given.negatives])
    times = None
    for word in words:
        tracks = [result.tracks[word] for _, result in good]
        negative = join(tracks, times=times)
        times = negative.times
        negatives = [
            Passage(at, at + one.duration_s, names[i], "", given.negatives[i - first].parent.name, None, None, i, at)
            for (i, _), one, at in zip(good, tracks, offsets(tracks), strict=True)
        ]
        if found_ := _said(word, words, given, positives, names):
            track, events, others, answers = found_
            heard[word] = KeywordScores(track, events, negative, negatives, others, answers)
    return heard, bad


def shown(files: Sequence[Path]) -> list[str]:
    """What files are called in tables: folder and name, or the whole path where that is no name of one alone."""
    short = ["/".join(file.parts[-2:]) for file in files]
    counts = Counter(short)
    return [name if counts[name] == 1 else file.as_posix() for name, file in zip(short, files, strict=True)]


def _said(
    word: str,
    words: Sequence[str],
    given: Given,
    positives: Sequence[Listened],
    names: Sequence[str],
) -> tuple[ScoreTrack, list[Passage], dict[str, ScoreTrack], dict[str, list[Span]]] | None:
    """Of the files that say a word: its track and events, and tracks and spans of the other words there.

    None where no file says it.
    """
    saying = [i for i, (_, marks) in enumerate(given.positives) if marks.get(word)]
    if not saying:
        return None
    gap_s = 0.0 if len(saying) == 1 else APART_S

    def track(keyword: str) -> ScoreTrack:
        own = [positives[i].tracks[keyword] for i in saying]
        return own[0] if len(own) == 1 else join(own, gap_s)  # a single one keeps its own time, to the last bit

    own = [positives[i].tracks[word] for i in saying]
    starts = [0.0] if len(saying) == 1 else offsets(own, gap_s)
    events, answers = [], {other: list[Span]() for other in words if other != word}
    for i, at, heard in zip(saying, starts, own, strict=True):
        file, marks = given.positives[i]
        for (start, end), spoken in marks[word]:
            if start >= heard.duration_s:
                raise KwsError(f"{file}: lasts {heard.duration_s:.1f} s, and {word!r} is said at {start:.1f} s of it")
            until = None if spoken is None else spoken + at
            events.append(Passage(start + at, end + at, names[i], "", file.parent.name, None, until, i, at))
        for other, spans in answers.items():
            spans += [(start + at, end + at) for (start, end), _ in marks.get(other, ())]
    return track(word), events, {other: track(other) for other in words if other != word}, answers
