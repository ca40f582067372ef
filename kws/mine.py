"""kws mine: the false triggers of any recordings, through a checkpoint, into a replay buffer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from kws import build, checkpoint, stream
from kws.audio import BadAudio, content_hash, load, sound_files, to_int16
from kws.cli import verb
from kws.config import paths, settings
from kws.console import Console
from kws.errors import KwsError
from kws.manifest import Part, says
from kws.replay.buffer import Buffer, Found, Kind, Limits, Source
from kws.replay.clip import train_only
from kws.replay.mine import choose, peaks, triggers
from kws.replay.rounds import embedded
from kws.replay.rounds import source as source_of
from kws.schema import MineConfig
from kws.seeding import numpy_generator

MOST = 10**7  # clips: as good as no limit


def run(cfg: DictConfig) -> None:
    """Stream `streams` through `checkpoint` and keep the false triggers in `buffer`."""
    s = settings(cfg, MineConfig)
    console = Console()
    build.threads(s.threads)
    model = checkpoint.read_model(Path(s.checkpoint))
    files = [file for place in paths(s.streams, "streams") for file in sound_files(place, "streams")]
    known = {}
    if s.data.root:
        s.data.sample_rate = model.recipe.sample_rate  # a sound is known by its samples at one rate
        for entry in build.store(s.data, console, build.recordings(s.data)).entries:
            known[entry.hash] = (source_of(entry), f"{entry.recording.label} {entry.recording.text}")
    known |= {one.hash: (one, "") for one in model.held_out}
    # All are heard before the first clip is kept: nothing is added beside an error, and one choice is made of all.
    heard = listen(s, model, known, files, console)
    rows = chosen_rows(s, model, heard)
    count, new, aside = 0, 0, 0
    suspect = suspect_from(s, model)
    limits = Limits(s.capacity or MOST)  # who mines by hand evicts nothing, unless told to
    with Buffer(Path(s.buffer), limits, model.recipe.sample_rate, s.overlap, s.cosine) as buffer:
        buffer.hold_out(one for one, _ in known.values() if one.part is not Part.TRAIN)
        buffer.admit(one.source for one in heard)
        for one, mine in zip(heard, rows, strict=True):
            found = embedded(false_triggers(s, model, one, mine), model.detector)
            added = buffer.add(found, suspect)
            count, new, aside = count + len(found), new + len(added.new), aside + len(added.quarantined)
        hours = sum(one.n_samples for one in heard) / model.recipe.sample_rate / 3600
        console.say(f"{count} false triggers in {hours:.2f} h, {new} of them new; {len(buffer)} clips in {s.buffer}")
        if aside:
            console.say(f"{aside} of them score like the keyword and are in quarantine: kws buffer review shows them")


@dataclass(frozen=True, eq=False)
class Heard:
    """A recording and its scores, float32 [rows, K], with as much silence before it as a clip is long."""

    file: Path
    source: Source
    text: str
    n_samples: int
    scores: np.ndarray


def listen(
    s: MineConfig,
    model: checkpoint.Model,
    known: Mapping[str, tuple[Source, str]],
    files: Sequence[Path],
    console: Console,
) -> list[Heard]:
    """Score every recording, once it is known to be one for training.

    What nobody knows is given for training by who mines it. `known` maps the hash of a sound to its recording and text:
    what is held out is refused under whatever name.
    """
    heard: list[Heard] = []
    bad: list[BadAudio] = []
    saying: list[str] = []
    with console.progress("Listening", len(files)) as tick:
        for number, file in enumerate(files):
            try:
                pcm = to_int16(load(file, model.recipe.sample_rate))
            except BadAudio as error:
                bad.append(error)
                continue
            hash_ = content_hash(pcm)
            source, text = known.get(hash_, (Source(hash_, str(file), Part.TRAIN), ""))
            train_only(source)
            if any(says(text, k) for k in model.recipe.labels):
                saying.append(source.name)  # a trigger there is no false one
                continue
            scores = stream.scores(model.detector, after_silence(pcm, model), model.recipe.sample_rate)
            heard.append(Heard(file, source, text, len(pcm), scores))
            tick(number + 1)
    if len(bad) > s.data.max_bad_share * len(files) or len(bad) == len(files):
        raise KwsError(
            f"streams: {len(bad)} of {len(files)} recordings do not decode, more than data.max_bad_share="
            f"{s.data.max_bad_share:g}; first {bad[0].name}: {bad[0].reason}"
        )
    if not heard:
        raise KwsError(f"streams: nothing to mine; {saying[0]}: its transcript or label holds the keyword")
    if saying:
        console.warn(f"left out, their transcript or label holds a keyword: {len(saying)} recordings")
    for broken in bad:
        console.warn(f"{broken.name}: not read: {broken.reason}")
    if bad:
        console.warn(f"{len(bad)} of {len(files)} recordings do not decode and are left out")
    return heard


def after_silence(pcm: np.ndarray, model: checkpoint.Model) -> np.ndarray:
    """Silence first, so that a clip cut near the recording's beginning scores as it did. Shape: int16 [clip_n + T]."""
    return np.concatenate([np.zeros(model.recipe.clip_n, np.int16), pcm])


def suspect_from(s: MineConfig, model: checkpoint.Model) -> dict[str, float]:
    """The score from which a clip is suspect, by keyword, of what held-out keywords scored when the run ended."""
    known = model.facts.get("positive_score")
    if s.quarantine is None or not isinstance(known, dict):
        return {}
    return {str(keyword): s.quarantine * score for keyword, score in known.items() if isinstance(score, float)}


def chosen_rows(s: MineConfig, model: checkpoint.Model, heard: Sequence[Heard]) -> list[list[NDArray[np.int64]]]:
    """The rows to keep of each recording and keyword: what scores enough, in all hours together no more than wanted."""
    apart_n = model.recipe.clip_n // model.detector.block_n // 2
    hours = sum(one.n_samples for one in heard) / model.recipe.sample_rate / 3600
    kept: list[list[NDArray[np.int64]]] = [[] for _ in heard]
    for column in range(len(model.recipe.labels)):
        tracks = [np.ascontiguousarray(one.scores[:, column]) for one in heard]
        lowest = s.min_score if s.at_score is None else s.at_score
        rows = [peaks(track, lowest, apart_n) for track in tracks]
        place = np.concatenate([np.full(len(r), i) for i, r in enumerate(rows)])
        scores = np.concatenate([track[r] for track, r in zip(tracks, rows, strict=True)])
        wanted_n = len(scores) if s.at_score is not None else math.ceil(s.per_hour * hours)
        best = choose(scores, wanted_n, lowest, s.bands, numpy_generator(0, "mine", column))
        every = np.concatenate(rows)
        for i in range(len(heard)):
            kept[i].append(every[best[place[best] == i]])
    return kept


def false_triggers(
    s: MineConfig, model: checkpoint.Model, heard: Heard, rows: Sequence[NDArray[np.int64]]
) -> list[Found]:
    """Rows of one recording, for each keyword, as clips."""
    if not any(map(len, rows)):
        return []
    rate, clip_n, row_n = model.recipe.sample_rate, model.recipe.clip_n, model.detector.block_n
    post_n = min(round(s.post_s * rate), clip_n - model.detector.reach_n) // row_n * row_n
    pcm = after_silence(to_int16(load(heard.file, rate)), model)
    return [
        Found(
            pcm=t.pcm,
            kind=Kind.FALSE_TRIGGER,
            keyword=keyword,
            source=heard.source,
            offset_s=(t.start - clip_n) / rate,
            score=t.score,
            checkpoint=model.hash,
            run="kws mine",
            round=0,
            text=heard.text,
        )
        for column, keyword in enumerate(model.recipe.labels)
        for t in triggers(
            pcm, heard.scores[:, column], rows[column], clip_n, post_n, row_n, lambda _: 0, s.max_per_recording
        )
    ]


main = verb("mine", run)

if __name__ == "__main__":
    main()
