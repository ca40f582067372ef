"""kws mine: the false triggers of any recordings, and what is near the keyword in them, into a replay buffer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from kws.commands import builders
from kws.common.console import Console
from kws.common.errors import KwsError, LeakError
from kws.common.seeding import numpy_generator
from kws.config.app import verb
from kws.config.compose import paths, settings
from kws.config.schema import MineConfig
from kws.data.audio import BadAudio, content_hash, load, sound_files, to_int16
from kws.data.audio_cache import AudioCache
from kws.data.dataset import same_word
from kws.data.manifest import Source, Split, says
from kws.detector import checkpoint, streaming
from kws.detector.clip_scores import hear_clips
from kws.replay.buffer import Buffer, Kind, Limits, NewClip
from kws.replay.mining import Caps, Near, nearness, neighbour_rows, trigger_rows, triggers
from kws.replay.mining_rounds import embedded
from kws.replay.mining_rounds import source as source_of

MOST = 10**7  # clips: as good as no limit


def run(cfg: DictConfig) -> None:
    """Stream `streams` through `checkpoint` and keep what it wrongly fires at, or nearly, in `buffer`."""
    s = settings(cfg, MineConfig)
    console = Console()
    builders.threads(s.threads)
    model = checkpoint.read_model(Path(s.checkpoint))
    files = [file for place in paths(s.streams, "streams") for file in sound_files(place, "streams")]
    known: dict[str, tuple[Source, str, str]] = {}
    near = None
    if s.data.root:
        s.data.sample_rate = model.recipe.sample_rate  # a sound is known by its samples at one rate
        store = builders.store(s.data, console, builders.recordings(s.data))
        for entry in store.entries:
            known[entry.hash] = (source_of(entry), entry.recording.label, entry.recording.text)
        near = near_keywords(model, store) if s.neighbours else None
    elif s.neighbours:
        raise KwsError(f"neighbours={s.neighbours:g}: allowed is 0 without data.root=DIR, where the keywords are")
    known |= {one.hash: (one, "", "") for one in model.held_out}
    # All are heard before the first clip is kept: nothing is added beside an error, and one choice is made of all.
    heard = listen(model, recordings(s, model, known, files, console), near, console)
    wanted = chosen_rows(s, model, heard)
    count, new, near_n, aside = 0, 0, 0, 0
    suspect = suspect_from(s, model)
    limits = Limits(s.capacity or MOST)  # who mines by hand evicts nothing, unless told to
    with Buffer(Path(s.buffer), limits, model.recipe.sample_rate, s.overlap, s.cosine) as buffer:
        buffer.hold_out(one for one, *_ in known.values() if one.split is not Split.TRAIN)
        buffer.admit(one.source for one in heard)
        for number, one in enumerate(heard):
            found = embedded(as_clips(s, model, one, wanted, number), model.detector)
            added = buffer.add(found, suspect, model.recipe.labels)
            count, new = count + len(found), new + len(added.new)
            near_n, aside = near_n + added.near, aside + len(added.quarantined)
        hours = hours_of(model, heard)
        console.say(
            f"{count} clips found in {hours:.2f} h, {new} of them new, {near_n} repeat others nearly; "
            f"{len(buffer)} clips in {s.buffer}"
        )
        if aside:
            console.say(f"{aside} of them score like the keyword and are in quarantine: kws buffer review shows them")


@dataclass(frozen=True, eq=False)
class Heard:
    """A recording, its scores, float32 [rows, K], and how near each row is to the keywords, float32 [rows].

    It was heard after as much silence as a clip is long, whose own rows are left out.
    """

    file: Path
    source: Source
    text: str
    n_samples: int
    scores: np.ndarray
    near: np.ndarray


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to keep of all that was heard: whose they are and which, int64 [N] each."""

    kind: Kind
    column: int
    recording: NDArray[np.int64]
    row: NDArray[np.int64]


def near_keywords(model: checkpoint.Checkpoint, store: AudioCache) -> Near:
    """How near a row is to any train recording of the model's keywords."""
    chosen = [
        i
        for i, entry in enumerate(store.entries)
        if entry.recording.split is Split.TRAIN
        and any(same_word(entry.recording.label, k) for k in model.recipe.labels)
    ]
    if not chosen:
        raise KwsError(
            f"data.root: no train recording of {', '.join(model.recipe.labels)}, whose neighbours are wanted"
        )
    return nearness(hear_clips(model.detector, [store.audio(i) for i in chosen])[1])


def recordings(
    s: MineConfig,
    model: checkpoint.Checkpoint,
    known: Mapping[str, tuple[Source, str, str]],
    files: Sequence[Path],
    console: Console,
) -> list[tuple[Path, Source, str]]:
    """The files that can be mined, with their recording and text: all are looked at before any is listened to.

    What nobody knows is given for training by who mines it. `known` maps the hash of a sound to its recording, label
    and text: what is held out is refused under whatever name.
    """
    found: list[tuple[Path, Source, str]] = []
    bad: list[BadAudio] = []
    saying, held_out = [], []
    with console.progress("Reading recordings", len(files)) as tick:
        for number, file in enumerate(files):
            try:
                hash_ = content_hash(to_int16(load(file, model.recipe.sample_rate)))
            except BadAudio as error:
                bad.append(error)
                continue
            source, label, text = known.get(hash_, (Source(hash_, str(file), Split.TRAIN), "", ""))
            if source.split is not Split.TRAIN:
                held_out.append(f"{source.name!r}, a {source.split} recording")
            elif any(says(f"{label} {text}", k) for k in model.recipe.labels):
                saying.append(source.name)  # a trigger there is no false one
            else:
                found.append((file, source, text))
            tick(number + 1)
    if held_out:
        more = f" and {len(held_out) - 3} more" if len(held_out) > 3 else ""
        raise LeakError(f"streams: {'; '.join(held_out[:3])}{more}: may not enter the replay buffer")
    if len(bad) > s.data.max_bad_share * len(files) or len(bad) == len(files):
        raise KwsError(
            f"streams: {len(bad)} of {len(files)} recordings do not decode, more than data.max_bad_share="
            f"{s.data.max_bad_share:g}; first {bad[0].name}: {bad[0].reason}"
        )
    if not found:
        raise KwsError(f"streams: nothing to mine; {saying[0]}: its transcript or label holds the keyword")
    if saying:
        console.warn(f"left out, their transcript or label holds a keyword: {len(saying)} recordings")
    for broken in bad:
        console.warn(f"{broken.name}: not read: {broken.reason}")
    if bad:
        console.warn(f"{len(bad)} of {len(files)} recordings do not decode and are left out")
    return found


def listen(
    model: checkpoint.Checkpoint, files: Sequence[tuple[Path, Source, str]], near: Near | None, console: Console
) -> list[Heard]:
    """Score every recording."""
    heard: list[Heard] = []
    of, lead = near or (lambda hidden: hidden[:, 0] * 0), silent_rows(model)
    with console.progress("Listening", len(files)) as tick:
        for file, source, text in files:
            pcm = to_int16(load(file, model.recipe.sample_rate))
            scores, nearest = streaming.heard(model.detector, after_silence(pcm, model), model.recipe.sample_rate, of)
            heard.append(Heard(file, source, text, len(pcm), scores[lead:], nearest[lead:]))
            tick(len(heard))
    return heard


def after_silence(pcm: np.ndarray, model: checkpoint.Checkpoint) -> np.ndarray:
    """Silence first, so that a clip cut near the recording's beginning scores as it did. Shape: int16 [clip_n + T]."""
    return np.concatenate([np.zeros(model.recipe.clip_n, np.int16), pcm])


def suspect_from(s: MineConfig, model: checkpoint.Checkpoint) -> dict[str, float]:
    """The score from which a clip is suspect, by keyword, of what held-out keywords scored when the run ended."""
    known = model.facts.get("positive_score")
    if s.quarantine is None or not isinstance(known, dict):
        return {}
    return {str(keyword): s.quarantine * score for keyword, score in known.items() if isinstance(score, float)}


def silent_rows(model: checkpoint.Checkpoint) -> int:
    """Rows of the silence before a recording."""
    return model.recipe.clip_n // model.detector.block_n


def hours_of(model: checkpoint.Checkpoint, heard: Sequence[Heard]) -> float:
    """How long the recordings are in all."""
    return sum(one.n_samples for one in heard) / model.recipe.sample_rate / 3600


def chosen_rows(s: MineConfig, model: checkpoint.Checkpoint, heard: Sequence[Heard]) -> list[Rows]:
    """Of all recordings together what scores enough or lies near enough, in all hours no more than wanted."""
    apart_n = model.recipe.clip_n // model.detector.block_n // 2  # half a clip
    lengths = np.array([len(one.scores) for one in heard])
    starts = np.cumsum([0, *(lengths[:-1] + apart_n)])  # so far apart that no recording's peak hides another's

    def joined(tracks: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.pad(track, (0, apart_n), constant_values=-2.0) for track in tracks])

    def sources_at(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        number = np.searchsorted(starts, rows, side="right") - 1
        return np.where(rows < starts[number] + lengths[number], number, -1)

    def laid_out(kind: Kind, column: int, rows: NDArray[np.int64]) -> Rows:
        number = sources_at(rows)
        return Rows(kind, column, number, rows - starts[number])

    hours, found = hours_of(model, heard), []
    # A cap a recording is one for each hour of it that has begun: a day of radio is one recording too.
    begun = [max(1, math.ceil(one.n_samples / model.recipe.sample_rate / 3600)) for one in heard]
    columns = range(len(model.recipe.labels))
    lowest = s.min_score if s.at_score is None else s.at_score
    for c in columns:
        track = joined([one.scores[:, c] for one in heard])
        wanted_n, reserve = math.ceil(s.per_hour * hours), s.reserve
        if s.at_score is not None:
            wanted_n, reserve = len(track), 0.0  # whatever scores enough
        rng, caps = numpy_generator(0, "mine", c), Caps(s.max_per_recording, begun)
        rows = trigger_rows(track, sources_at, wanted_n, reserve, lowest, s.bands, apart_n, caps, rng)
        found.append(laid_out(Kind.FALSE_TRIGGER, c, rows))
    if s.neighbours:
        nearness, caps = joined([one.near for one in heard]), Caps(s.max_per_recording, begun)
        rows = neighbour_rows(nearness, sources_at, math.ceil(s.neighbours * hours), apart_n, caps)
        best = np.stack([joined([one.scores[:, c] for one in heard]) for c in columns])[:, rows].argmax(0)
        found += [laid_out(Kind.NEIGHBOUR, c, rows[best == c]) for c in columns]
    return found


def as_clips(
    s: MineConfig, model: checkpoint.Checkpoint, heard: Heard, wanted: Sequence[Rows], number: int
) -> list[NewClip]:
    """The rows that are wanted of one recording, the one of this number, as clips."""
    mine = [(w, w.row[w.recording == number]) for w in wanted]
    if not any(len(rows) for _, rows in mine):
        return []
    rate, clip_n, row_n = model.recipe.sample_rate, model.recipe.clip_n, model.detector.block_n
    post_n = min(round(s.post_s * rate), clip_n - model.detector.reach_n) // row_n * row_n
    pcm, lead = after_silence(to_int16(load(heard.file, rate)), model), silent_rows(model)
    return [
        NewClip(
            pcm=t.pcm,
            kind=w.kind,
            keyword=model.recipe.labels[w.column],
            source=heard.source,
            offset_s=(t.start - clip_n) / rate,
            score=t.score,
            checkpoint=model.hash,
            run="kws mine",
            round=0,
            text=heard.text,
        )
        for w, rows in mine
        for t in triggers(
            pcm, np.pad(heard.scores[:, w.column], (lead, 0)), rows + lead, clip_n, post_n, row_n, lambda _: 0
        )
    ]


main = verb("mine", run)

if __name__ == "__main__":
    main()
