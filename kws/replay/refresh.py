"""Staleness: each round hears the buffer again; what is solved retires, what was forgotten comes back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kws.common.seeding import numpy_generator
from kws.detector.clip_scores import score_clips
from kws.detector.detector import Detector
from kws.replay.buffer import Buffer, BufferClip, Decision, State
from kws.replay.quarantine import suspicion

BLOCK = 512  # clips heard at once


@dataclass(frozen=True)
class Ageing:
    """When clips come and go as the model changes.

    Args:
        solved: an active clip that was drawn and scores below this retires, 0 to 1.
        forgotten: a retired clip that scores at least this comes back, at least `solved`.
        probe_n: how many retired clips a round hears again, drawn by lot: whoever forgets shows it there.
        seed: of the lots.
    """

    solved: float
    forgotten: float
    probe_n: int
    seed: int


@dataclass(frozen=True)
class Aged:
    """What a round made of the buffer: how many clips it heard, and how many went where."""

    heard: int
    retired: int
    returned: int
    quarantined: int
    released: int


def age(
    buffer: Buffer,
    detector: Detector,
    checkpoint: str,
    ageing: Ageing,
    suspect_from: Mapping[str, float],
    run: str,
    round_: int,
) -> Aged:
    """Hear the active, quarantined and rejected clips again, and a probe of the retired ones; keep scores, move clips.

    Args:
        buffer: whose clips.
        detector, checkpoint: as training stands now, and the hash of its weights.
        ageing: when clips come and go.
        suspect_from: by keyword, the score from which a clip is suspect; see `suspicion`.
        run, round_: for the record, and for the lots.
    """
    rows = buffer.rows(State.ACTIVE) + buffer.rows(State.QUARANTINED)
    kept = buffer.rows(State.RETIRED)
    retired = [r for r in kept if r.decision is not Decision.REJECTED and buffer.path(r.hash).exists()]
    rng = numpy_generator(ageing.seed, "probe", round_)
    rows += [retired[i] for i in sorted(rng.permutation(len(retired))[: ageing.probe_n])]
    # What a person rejected does not move, but its embedding must be of now to keep out what repeats it.
    rows += [r for r in kept if r.decision is Decision.REJECTED and buffer.path(r.hash).exists()]
    if not rows:
        return Aged(0, 0, 0, 0, 0)
    # A block at a time: the sound of a large buffer is gigabytes.
    blocks = [rows[i : i + BLOCK] for i in range(0, len(rows), BLOCK)]
    made = [score_clips(detector, [buffer.audio(row.hash) for row in block]) for block in blocks]
    heard, vectors = (np.concatenate(of) for of in zip(*made, strict=True))
    column = {keyword: i for i, keyword in enumerate(detector.labels)}
    # A keyword that this model does not know: whatever it triggers now.
    scores = [
        float(line[column[row.keyword]] if row.keyword in column else line.max())
        for row, line in zip(rows, heard, strict=True)
    ]
    moves = verdicts(rows, scores, ageing, suspect_from, detector.labels)
    hashes = [row.hash for row in rows]
    buffer.rescored(
        run, round_, checkpoint,
        dict(zip(hashes, scores, strict=True)), dict(zip(hashes, vectors, strict=True)), moves,
    )  # fmt: skip
    was = {row.hash: row.state for row in rows}
    way = [(was[clip], state) for clip, (state, _) in moves.items()]
    return Aged(
        len(rows),
        retired=sum(to is State.RETIRED for _, to in way),
        returned=way.count((State.RETIRED, State.ACTIVE)),
        quarantined=sum(to is State.QUARANTINED for _, to in way),
        released=way.count((State.QUARANTINED, State.ACTIVE)),
    )


def verdicts(
    rows: Sequence[BufferClip],
    scores: Sequence[float],
    ageing: Ageing,
    suspect_from: Mapping[str, float],
    keywords: Collection[str] = (),
) -> dict[str, tuple[State, str]]:
    """The clips whose state changes with their new scores, to what, and why; what a person decided stands.

    Suspicion is judged anew each round: what no longer scores like the keyword leaves the quarantine. A clip that was
    never drawn does not retire: what came in by lot, or for its nearness, may score low from the first.
    """
    moves = {}
    for row, score in zip(rows, scores, strict=True):
        if row.decision is Decision.REJECTED:
            continue
        why = suspicion(row.kind, row.keyword, row.text, score, suspect_from, keywords)
        if why and row.decision is Decision.NONE:
            if row.state is not State.QUARANTINED:
                moves[row.hash] = State.QUARANTINED, why
        elif row.state is State.QUARANTINED:
            moves[row.hash] = State.ACTIVE, f"scores {score:.3f} now"
        elif row.state is State.RETIRED and score >= ageing.forgotten:
            moves[row.hash] = State.ACTIVE, f"forgotten: scores {score:.3f} again"
        elif row.state is State.ACTIVE and score < ageing.solved and row.times_drawn:
            moves[row.hash] = State.RETIRED, f"solved: scores {score:.3f}"
    return moves
