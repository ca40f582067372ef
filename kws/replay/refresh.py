"""Refresh: each round scores the buffer again, retires learned clips and reactivates forgotten ones."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kws.common.seeding import numpy_generator
from kws.data.transcripts import Match
from kws.detector.clip_scores import score_clips
from kws.detector.detector import Detector
from kws.replay.buffer import Buffer, BufferClip, Decision, State
from kws.replay.quarantine import suspicion

BLOCK = 512  # clips in memory, since the audio of a large buffer takes gigabytes


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
    """Number of clips that a round scored again, and of those that changed their state."""

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
    """Score active, quarantined and rejected clips again, and a sample of the retired ones; store scores and states.

    Args:
        buffer: holds the clips.
        detector, checkpoint: model of this round, and the hash of its weights.
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
    # A rejected clip stays retired. Its near-duplicates are found by an embedding of this model.
    rows += [row for row in out if row.decision is Decision.rejected]
    scores: list[float] = []
    embeddings: dict[str, NDArray[np.float32]] = {}
    for at in range(0, len(rows), BLOCK):
        block = rows[at : at + BLOCK]
        by_keyword, vectors = score_clips(detector, [buffer.audio(row.hash) for row in block])
        embeddings |= zip((row.hash for row in block), vectors, strict=True)
        for row, line in zip(block, by_keyword, strict=True):
            # A clip of a keyword that this model does not know gets its highest score.
            known = row.keyword in detector.labels
            scores.append(float(line[detector.labels.index(row.keyword)] if known else line.max()))
    moves = verdicts(rows, scores, config.retire_below, return_above, suspect_from, detector.labels, buffer.match)
    by_hash = {row.hash: score for row, score in zip(rows, scores, strict=True)}
    if rows:
        buffer.rescored(run, round_, checkpoint, by_hash, embeddings, moves)
    changes = [(row.state, moves[row.hash][0]) for row in rows if row.hash in moves]
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
    match: Match = Match.word,
) -> dict[str, tuple[State, str]]:
    """New state and reason of the clips that change their state with their new scores.

    A decision of a user stands. A clip that no longer scores like the keyword leaves the quarantine. A clip that was
    never sampled does not retire, since random clips and neighbours may score low from the start.
    """
    moves = {}
    for row, score in zip(rows, scores, strict=True):
        if row.decision is Decision.rejected:
            continue
        why = suspicion(row.kind, row.keyword, row.text, score, suspect_from, keywords, match)
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
