"""A detector on files that a person gives: some in which keywords are said, with annotations, and some without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kws import listen
from kws.annotations import Marked
from kws.audio import BadAudio
from kws.detect import Track, join, offsets
from kws.errors import KwsError
from kws.heard import Hear, Heard, Passage, Tell, whole
from kws.listen import Listened
from kws.stream import Listener


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
    def takes(self) -> list[listen.Take]:
        """All of them to be heard, the positives first."""
        return [listen.take(file) for file in [*(file for file, _ in self.positives), *self.negatives]]


def evaluate_files(
    detector: Listener,
    words: Sequence[str],
    given: Given,
    takes: Sequence[listen.Take],
    chunk_s: float,
    max_bad_share: float,
    tell: Tell = lambda _: None,
    hear: Hear = listen.hear_all,
) -> tuple[dict[str, Heard], list[BadAudio]]:
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
        BadAudio: a positive file, or too many of the others, do not decode.
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
    heard = {}
    file_of = dict(enumerate(given.negatives, first))
    for word in words:
        track, events, others = _said(word, words, given, positives)
        if not events:
            continue
        tracks = [result.tracks[word] for _, result in good]
        negatives = [
            Passage(at, at + one.duration_s, takes_name(file_of[i]), "", file_of[i].parent.name, None, None, i, at)
            for (i, _), one, at in zip(good, tracks, offsets(tracks), strict=True)
        ]
        heard[word] = Heard(track, events, join(tracks), negatives, others)
    return heard, bad


def takes_name(file: Path) -> str:
    """What a file is called in tables: its name and folder."""
    return "/".join(file.parts[-2:])


def _said(
    word: str, words: Sequence[str], given: Given, positives: Sequence[Listened]
) -> tuple[Track, list[Passage], dict[str, Track]]:
    """Track and events of a word over the files that say it, and the tracks of the other words there."""
    saying = [i for i, (_, marks) in enumerate(given.positives) if marks.get(word)]
    if not saying:
        return positives[0].tracks[word], [], {}

    def track(keyword: str) -> Track:
        own = [positives[i].tracks[keyword] for i in saying]
        return own[0] if len(own) == 1 else join(own)  # a single one keeps its own time, to the last bit

    starts = [0.0] if len(saying) == 1 else offsets([positives[i].tracks[word] for i in saying])
    events = []
    for i, at in zip(saying, starts, strict=True):
        file, marks = given.positives[i]
        for (start, end), spoken in marks[word]:
            until = None if spoken is None else spoken + at
            name = takes_name(file)
            events.append(Passage(start + at, end + at, name, "", file.parent.name, None, until, i, at))
    return track(word), events, {other: track(other) for other in words if other != word}
