"""What the page of a run shows beside its results: whether replay helped, players, the hardest clips of the buffer."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from kws.common.errors import KwsError
from kws.common.text import plural
from kws.config.schema import TrainConfig
from kws.detector.detector import Detector
from kws.detector.streaming import score_tracks
from kws.evaluation.report.examples import Column, Cut, Example, Gallery, clock, galleries, placing_negatives
from kws.evaluation.report.page import Note
from kws.evaluation.scoring import DetectorScores
from kws.replay.buffer import Buffer
from kws.replay.records import BufferClip

EXAMPLES = 10  # of each kind: misses, false alarms, clips of the buffer


def replay_note(s: TrainConfig, overrides: Sequence[str], out: Path, shares: str, verdict: str) -> Note:
    """Whether replay helped, as far as one run knows, and the commands that would show it.

    Args:
        s, overrides: settings of the run, and its command line.
        out: the run folder.
        shares: which rows moved the net, see `gradient_shares`; empty where no clip was replayed.
        verdict: comparison with the model that the run started from; empty for a new model.
    """
    title, other = "Did replay help?", f"{out}-without-replay"
    compared = f" Compared with the model that it started from: {verdict}" if verdict else ""
    if not shares:
        return Note(title, f"This run replayed no clip of the buffer, so it shows nothing about replay.{compared}")
    given = [one for one in overrides if not one.startswith(("out=", "replay.share="))]
    place = [f"data.root={s.data.root}"] if s.data.root else ["positive=KEYWORDS/", "negative=RADIO/"]
    compare = ["kws", "evaluate", f"compare=[{out}/model.pt,{other}/model.pt]", *place, "report=replay.html"]
    return Note(
        title,
        f"Shares of the gradient since replay began: {shares}.{compared} One run cannot show what replay changes: "
        "train without it too, and compare both on the same streams. A difference may be chance, so the comparison "
        "gives p-values.",
        [shlex.join(["kws", "train", *given, "replay.share=0", f"out={other}"]), shlex.join(compare)],
    )


def players(
    detector: Detector,
    tested: DetectorScores | None,
    placed_on: DetectorScores,
    cuts: Sequence[Cut],
    buffer_folder: Path,
    refractory_s: float,
) -> list[Gallery]:
    """Misses and false alarms on the test split, the hardest clips of the buffer, the negatives that place thresholds.

    Args:
        detector: finished.
        tested: its scores on the test split, if there is one.
        placed_on: its scores on the validation split.
        cuts: the audio of the streams of both.
        buffer_folder: of the replay buffer.
        refractory_s: seconds of silence after each trigger.
    """
    rate = detector.sample_rate
    shown = galleries([tested], cuts[0], rate, refractory_s, EXAMPLES) if tested is not None else []
    with Buffer(buffer_folder) as buffer:
        shown += hardest_clips(buffer, detector)
    return shown + placing_negatives(placed_on, cuts[1], rate)


def hardest_clips(buffer: Buffer, detector: Detector, limit: int = EXAMPLES) -> list[Gallery]:
    """The active clips with the highest latest scores, scored by the finished detector: a gallery for each keyword.

    Args:
        buffer: of the run.
        detector: with its thresholds; it has the sample rate of the buffer.
        limit: most clips of all keywords together; a keyword has at least one.
    """
    made = []
    for column, keyword in enumerate(detector.labels):
        clips = [row for row in buffer.rows() if row.keyword == keyword]
        scored = [row for row in clips if row.score_now is not None or row.score is not None]
        hardest = sorted(scored, key=lambda row: (-row.hardness, row.hash))[: max(1, limit // len(detector.labels))]
        examples = [shown for row in hardest if (shown := _example(row, buffer, detector, column))]
        if examples:
            title = f"{keyword}: hardest clips of the replay buffer"
            made.append(Gallery(title, [Column("active clips", examples, len(clips))]))
    return made


def _example(row: BufferClip, buffer: Buffer, detector: Detector, column: int) -> Example | None:
    rate, keyword = buffer.sample_rate, detector.labels[column]
    try:
        pcm = buffer.audio(row.hash)
        track = score_tracks(detector, pcm, rate, detector.frame_s)[keyword]
    except KwsError:  # shorter than a row, or removed by another run that shares the buffer: no reason to fail now
        return None
    peak = int(track.scores.argmax())
    facts = [clock(max(0.0, row.offset_s)), row.source.name, row.kind.replace("_", " "), row.text]
    times = plural(row.times_drawn, "time")
    facts.append(f"scored {row.hardness:.3f} in the latest round, replayed {times}")
    return Example(
        "clip",
        ", ".join(filter(None, facts)),
        float(track.scores[peak]),
        pcm,
        rate,
        0.0,
        {"detector": (track.times, track.scores)},
        {"detector": detector.thresholds[column]},
        at_s=float(track.times[peak]),
    )
