"""Refresh: each round scores the buffer again, retires learned clips and brings forgotten ones back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from kws.common.seeding import numpy_generator
from kws.detector.clip_scores import score_clips
from kws.detector.detector import Detector
from kws.replay.buffer import Buffer, BufferClip, Decision, State
from kws.replay.quarantine import suspicion

BLOCK = 512  # clips scored at once


@dataclass
class RefreshConfig:
    """When clips retire as the model changes, and how retired ones come back."""

    retire_below: Annotated[
        float, Field(ge=0, le=1, description="retire clips that a round scores below this, once they were sampled")
    ] = 0.01
    recheck_retired: Annotated[
        int,
        Field(ge=0, le=10**6, description="retired clips scored again in a round; at mining.min_score they return"),
    ] = 50


@dataclass(frozen=True)
class Refreshed:
    """How many clips a round scored again, and how many changed their state."""

    scored: int
    retired: int
    returned: int
    quarantined: int
    released: int


def refresh(
    buffer: Buffer,
    detector: Detector,
    checkpoint: str,
    config: RefreshConfig,
    return_above: float,
    seed: int,
    suspect_from: Mapping[str, float],
    run: str,
    round_: int,
) -> Refreshed:
    """Score active, quarantined and rejected clips again, and a sample of the retired ones; keep scores, move clips.

    Args:
        buffer: holds the clips.
        detector, checkpoint: the model of this round, and the hash of its weights.
        config: when clips retire.
        return_above: score from which a retired clip becomes active again.
        seed: of the sample of retired clips.
        suspect_from: score from which a clip of a keyword is suspect; see `suspicion`.
        run, round_: for the record, and the round also for the sample.
    """
    rows = buffer.rows(State.active) + buffer.rows(State.quarantined)
    out = [row for row in buffer.rows(State.retired) if buffer.path(row.hash).exists()]
    retired = [row for row in out if row.decision is not Decision.rejected]
    rng = numpy_generator(seed, "probe", round_)
    rows += [retired[i] for i in sorted(rng.permutation(len(retired))[: config.recheck_retired])]
    # A rejected clip stays retired. Its embedding must be of this model to keep out its near-duplicates.
    rows += [row for row in out if row.decision is Decision.rejected]
    if not rows:
        return Refreshed(0, 0, 0, 0, 0)
    # A block at a time, since the audio of a large buffer is gigabytes.
    blocks = [rows[i : i + BLOCK] for i in range(0, len(rows), BLOCK)]
    scored = [score_clips(detector, [buffer.audio(row.hash) for row in block]) for block in blocks]
    by_keyword, vectors = (np.concatenate(parts) for parts in zip(*scored, strict=True))
    column = {keyword: i for i, keyword in enumerate(detector.labels)}
    # A clip of a keyword that this model does not know gets its highest score.
    scores = [
        float(line[column[row.keyword]] if row.keyword in column else line.max())
        for row, line in zip(rows, by_keyword, strict=True)
    ]
    moves = verdicts(rows, scores, config.retire_below, return_above, suspect_from, detector.labels)
    hashes = [row.hash for row in rows]
    buffer.rescored(
        run, round_, checkpoint,
        dict(zip(hashes, scores, strict=True)), dict(zip(hashes, vectors, strict=True)), moves,
    )  # fmt: skip
    before = {row.hash: row.state for row in rows}
    changes = [(before[clip], state) for clip, (state, _) in moves.items()]
    return Refreshed(
        len(rows),
        retired=sum(state is State.retired for _, state in changes),
        returned=changes.count((State.retired, State.active)),
        quarantined=sum(state is State.quarantined for _, state in changes),
        released=changes.count((State.quarantined, State.active)),
    )


def verdicts(
    rows: Sequence[BufferClip],
    scores: Sequence[float],
    retire_below: float,
    return_above: float,
    suspect_from: Mapping[str, float],
    keywords: Collection[str] = (),
) -> dict[str, tuple[State, str]]:
    """New state and reason of the clips that change their state with their new scores.

    A decision of a person stands. Suspicion is judged anew each round, so a clip that no longer scores like the keyword
    leaves the quarantine. A clip that was never sampled does not retire, since random clips and neighbours may score
    low from the first.
    """
    moves = {}
    for row, score in zip(rows, scores, strict=True):
        if row.decision is Decision.rejected:
            continue
        why = suspicion(row.kind, row.keyword, row.text, score, suspect_from, keywords)
        if why and row.decision is Decision.none:
            if row.state is not State.quarantined:
                moves[row.hash] = State.quarantined, why
        elif row.state is State.quarantined:
            moves[row.hash] = State.active, f"scores {score:.3f} now"
        elif row.state is State.retired and score >= return_above:
            moves[row.hash] = State.active, f"forgotten: scores {score:.3f} again"
        elif row.state is State.active and score < retire_below and row.times_drawn:
            moves[row.hash] = State.retired, f"solved: scores {score:.3f}"
    return moves
