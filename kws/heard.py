"""What a detector made of the streams of a keyword, and what is known of the recordings in them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kws.audio import BadAudio
from kws.detect import Span, Track
from kws.listen import Listened, Result, Take
from kws.stream import Listener

Tell = Callable[[float], None]  # called with the seconds heard so far
Hear = Callable[[Listener, Sequence[Take], float, Tell], list[Result]]  # `listen.hear_all`, or a cluster's


@dataclass(frozen=True)
class Passage:
    """A stretch of a track and what is known of it: a keyword that is said there, or a negative recording.

    Args:
        start_s, end_s: of a keyword, within which a detector may answer; of a negative, where it lies. Seconds.
        name, speaker, source: of the recording; what is not known is empty.
        snr_db: above the noise, None where that is not known.
        spoken_s: when the keyword has been said, to measure the latency from; None where that is not known.
        take: which of the takes it lies in, and
        offset_s: where on the track that take begins, to find its sound.
    """

    start_s: float
    end_s: float
    name: str = ""
    speaker: str = ""
    source: str = ""
    snr_db: float | None = None
    spoken_s: float | None = None
    take: int = 0
    offset_s: float = 0.0

    @property
    def span(self) -> Span:
        """Its start and end."""
        return self.start_s, self.end_s


@dataclass(frozen=True)
class Heard:
    """What a detector made of one keyword's streams.

    Args:
        positive: its track where the keyword is said.
        events: each time that it is said.
        negative: its track where it is not.
        negatives: the recordings of those streams.
        others: the tracks of the detector's other keywords where this one is said, and
        answers: the spans there within which those are right to fire.
    """

    positive: Track
    events: list[Passage]
    negative: Track
    negatives: list[Passage] = field(default_factory=list)
    others: Mapping[str, Track] = field(default_factory=dict)
    answers: Mapping[str, Sequence[Span]] = field(default_factory=dict)

    @property
    def spans(self) -> list[Span]:
        """Within which each time may be answered."""
        return [event.span for event in self.events]


def whole(result: Result) -> Listened:
    """What was heard; raises the error where a file did not decode."""
    if isinstance(result, BadAudio):
        raise result
    return result
