"""The Python interface, for notebooks and scripts: `import kws` offers the names of `__all__`.

A replay buffer is a folder that training, mining and `kws buffer` share:

>>> import kws
>>> from pathlib import Path
>>> with kws.ReplayBuffer(Path("runs/beep/buffer")) as buffer:
...     rows = buffer.rows()
>>> 0 < len(rows) <= 10
True
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.data.audio import to_int16
from kws.data.streams import Span, Stream
from kws.detector.files import open_detector
from kws.detector.streaming import ScoreTrack, StreamScorer
from kws.evaluation.annotations import read_annotations
from kws.evaluation.events import join_tracks
from kws.evaluation.operating_points import RATES, OperatingPoint, at_threshold, operating_points
from kws.evaluation.scoring import StreamSource, decoded, score_sources
from kws.evaluation.threshold_sweep import sweep
from kws.replay.buffer import Buffer as ReplayBuffer

__all__ = ["ReplayBuffer", "TrainedRun", "evaluate", "load_detector", "mine", "score", "train"]

Audio = str | PathLike[str] | NDArray[Any]  # a file, or samples at the detector's rate: int16, or floats in [-1, 1]


def load_detector(path: str | PathLike[str]) -> StreamScorer:
    """Load a detector from a checkpoint (model.pt) or an exported file (detector.pt), on the CPU.

    The detector scores a stream in chunks of any size: `detector(pcm)` takes float32 [n] in [-1, 1] and returns
    float32 [rows, K] in [0, 1]; `detector.reset()` starts a new stream.

    >>> detector = kws.load_detector("runs/beep/detector.pt")
    >>> detector.labels, detector.sample_rate
    (['beep'], 16000)

    Raises:
        KwsError: the file is neither.
    """
    return open_detector(Path(path))  # type: ignore[no-any-return]


def score(detector: StreamScorer, audio: Audio, chunk_s: float = 0.08) -> dict[str, ScoreTrack]:
    """Score a recording or a stream of any length from silence: a score track for each keyword.

    >>> tracks = kws.score(kws.load_detector("runs/beep/model.pt"), "radio.flac")
    >>> tracks["beep"].duration_s, bool(tracks["beep"].scores.max() <= 1)
    (3.0, True)

    Args:
        detector: of `load_detector`; it is reset first.
        audio: file, or samples [T] at the detector's sample rate, int16 or floats in [-1, 1].
        chunk_s: length of the audio chunks in seconds; a score row is known at the end of its chunk.

    Raises:
        KwsError: the file does not decode, or the audio is shorter than a score row.
    """
    source: Path | Stream
    if isinstance(audio, np.ndarray):
        pcm = audio if audio.dtype == np.int16 else to_int16(audio.astype(np.float32))
        source = Stream(pcm, [], [], detector.sample_rate)
    else:
        source = Path(audio)
    (result,) = score_sources(detector, [StreamSource(source, 0.0)], chunk_s)
    return decoded(result).tracks


def evaluate(
    positive: ScoreTrack | Audio,
    events: Sequence[Span] | str | PathLike[str],
    negatives: Sequence[ScoreTrack | Audio],
    detector: StreamScorer | None = None,
    keyword: str | None = None,
    rates: Sequence[float] = RATES,
    threshold: float | None = None,
    refractory_s: float = 1.0,
) -> list[OperatingPoint]:
    """Count misses and false alarms, with 95 % intervals, at thresholds for false-alarm rates or at a given threshold.

    >>> detector = kws.load_detector("runs/beep/model.pt")
    >>> points = kws.evaluate("beeps.flac", [(0.0, 1.5), (1.5, 3.0)], ["radio.flac"], detector)
    >>> [(p.wanted_fa_per_hour, p.events, p.false_alarms) for p in points][0]
    (0.0, 2, 0)
    >>> tracks = kws.score(detector, "beeps.flac"), kws.score(detector, "radio.flac")
    >>> (point,) = kws.evaluate(tracks[0]["beep"], [(0.0, 1.5)], [tracks[1]["beep"]], threshold=2.0)
    >>> point.misses, point.miss_low < 1 == point.miss_high
    (1, True)

    Args:
        positive: track of a stream with the keyword, or its audio.
        events: spans (start, end) within which a trigger is a hit, in seconds, or a file of annotations.
        negatives: tracks of streams without the keyword, or their audio; at least one.
        detector: scores audio; not needed for tracks.
        keyword: one of the detector's labels; its only one where None.
        rates: wanted false alarms per hour.
        threshold: count at this threshold alone, in place of `rates`.
        refractory_s: seconds of silence after each trigger, 0 or more.

    Raises:
        KwsError: no detector for audio, an unknown keyword, or no event.
    """
    if detector is not None and keyword is None and len(detector.labels) == 1:
        keyword = detector.labels[0]
    audio = any(not isinstance(one, ScoreTrack) for one in (positive, *negatives))
    if audio and (detector is None or keyword not in detector.labels):
        raise KwsError(f"keyword={keyword}: must be one of the labels of the detector, which audio needs")

    def track(given: ScoreTrack | Audio) -> ScoreTrack:
        if isinstance(given, ScoreTrack):
            return given
        assert detector is not None
        assert keyword is not None
        return score(detector, given)[keyword]

    if isinstance(events, str | PathLike):
        spans = [annotation.span for annotation in read_annotations(Path(events), keyword or "", required=False)]
    else:
        spans = _spans(events)
    if not spans:
        raise KwsError(f"events: must hold at least one event{f' of {keyword}' if keyword else ''}")
    with_keyword = sweep(track(positive), refractory_s, spans)
    without = sweep(join_tracks([track(one) for one in negatives]), refractory_s)
    if threshold is not None:
        return [at_threshold(with_keyword, without, threshold)]
    return operating_points(with_keyword, without, rates)


def _spans(events: Sequence[Span]) -> list[Span]:
    try:
        spans = [(float(start), float(end)) for start, end in events]
    except (TypeError, ValueError):
        raise KwsError("events: must be pairs (start, end) in seconds") from None
    for start, end in spans:
        if not start < end:
            raise KwsError(f"events: ({start:g}, {end:g}) must start before it ends")
    return spans


@dataclass(frozen=True)
class TrainedRun:
    """The folder of a finished run: model.pt, detector.pt, results.json, report.html and more."""

    folder: Path

    def detector(self) -> StreamScorer:
        """The exported detector, with calibrated thresholds."""
        return load_detector(self.folder / "detector.pt")

    def results(self) -> dict[str, Any]:
        """Content of results.json: operating points, intervals, groups and the DET curve of each keyword."""
        content: dict[str, Any] = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        return content


def train(recipe: str | None = None, **settings: Any) -> TrainedRun:
    """Train a detector, as `kws train` does. A killed run resumes with the same arguments, `out` included.

    >>> run = kws.train("tiny.yaml", out="runs/again", seed=0)
    Reading recordings...
    >>> run.folder.name, [outcome["keyword"] for outcome in run.results()["outcomes"]]
    ('again', ['beep'])

    Args:
        recipe: name of a recipe, or a YAML file.
        settings: settings by name; names with a dot as `**{"optim.steps": 1000}`.

    Raises:
        KwsError: a setting is unknown, missing or out of range.
    """
    from kws.commands.train import run
    from kws.config.app import composed
    from kws.config.sweep import place

    cfg = composed("train", _words({"recipe": recipe} | settings if recipe else settings))
    folder = place(cfg.out)
    run(cfg)
    return TrainedRun(folder)


def mine(checkpoint: str | PathLike[str], streams: Any, buffer: str | PathLike[str], **settings: Any) -> int:
    """Mine recordings without the keyword for false triggers, as `kws mine` does, and add them to a replay buffer.

    >>> added = kws.mine("runs/beep/model.pt", ["radio.flac"], "mined", min_score=0.01)
    Mining...
    >>> with kws.ReplayBuffer(Path("mined")) as buffer:
    ...     added == len(buffer.rows(None))
    True

    Args:
        checkpoint: the model.pt of a run.
        streams: a recording, a folder or a list of them.
        buffer: folder of the buffer, made if needed.
        settings: further settings of `kws mine`, by name.

    Returns:
        number of clips that are new in the buffer.

    Raises:
        KwsError: a setting is unknown or out of range, or too many recordings do not decode.
    """
    from kws.commands.mine import run
    from kws.config.app import composed
    from kws.config.compose import settings as checked
    from kws.config.schema import MineConfig

    words = _words({"checkpoint": checkpoint, "streams": streams, "buffer": buffer} | settings)
    return run(checked(composed("mine", words), MineConfig))


def _words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of a command line."""
    return [f"{key}={_word(value)}" for key, value in settings.items()]


def _word(value: Any) -> str:
    """A value in the override grammar of Hydra."""
    if isinstance(value, str | PathLike):
        text = str(value)
        plain = re.fullmatch(r"(?i:(?!(null|true|false|inf|nan)$)[a-z_][a-z0-9_./-]*)", text, re.ASCII)
        return text if plain else "'" + re.sub(r"\\(?=\\*('|$))|'", lambda found: "\\" + found[0], text) + "'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_word(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_word, value)) + "]"
    return json.dumps(value)
