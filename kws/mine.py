"""kws mine: the false triggers of any recordings, through a checkpoint, into a replay buffer."""

from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from kws import build, checkpoint, stream
from kws.audio import EXTENSIONS, content_hash, load, to_int16
from kws.cli import verb
from kws.config import MineConfig, paths, settings
from kws.console import Console
from kws.detect import Track
from kws.errors import KwsError
from kws.manifest import Part, Recording, says
from kws.replay.buffer import Buffer, Found, Kind, Source
from kws.replay.mine import mining_threshold, triggers


def run(cfg: DictConfig) -> None:
    """Stream `streams` through `checkpoint` and keep the false triggers in `buffer`."""
    s = settings(cfg, MineConfig)
    console = Console()
    build.threads(s.threads)
    model = checkpoint.read_model(Path(s.checkpoint))
    files = sound_files(paths(s.streams, "streams"))
    rate = model.recipe.sample_rate
    listed = {r.path: r for r in build.recordings(s.data)} if s.data.root else {}
    known = {file: identify(file, listed.get(file.resolve()), rate) for file in files}
    for source, text in known.values():
        if any(says(text, k) for k in model.recipe.labels):
            raise KwsError(f"{source.name}: its transcript holds the keyword, so a trigger is no false one")
    with Buffer(Path(s.buffer), s.capacity, rate) as buffer:
        # All are known to be train recordings before the first is mined: nothing is added beside an error.
        buffer.admit(source for source, _ in known.values())
        heard_h, count, new = 0.0, 0, 0
        with console.progress("Listening", len(files)) as tick:
            for number, (file, (source, text)) in enumerate(known.items()):
                pcm = to_int16(load(file, rate))
                found = false_triggers(s, model, pcm, source, text)
                new += len(buffer.add(found).new)
                count += len(found)
                heard_h += len(pcm) / rate / 3600
                tick(number + 1, f"{count} found")
        console.say(f"{count} false triggers in {heard_h:.2f} h, {new} of them new; {len(buffer)} clips in {s.buffer}")


def identify(file: Path, recording: Recording | None, rate: int) -> tuple[Source, str]:
    """A recording as the buffer wants to know it, and its transcript.

    What no manifest lists is given for training by who mines it. The buffer still refuses sound that it knows as held
    out, under whatever name.
    """
    hash_ = content_hash(to_int16(load(file, rate)))
    if recording is None:
        return Source(hash_, str(file), Part.TRAIN), ""
    return Source(hash_, recording.name, recording.part), recording.text


def false_triggers(s: MineConfig, model: checkpoint.Model, pcm: np.ndarray, source: Source, text: str) -> list[Found]:
    """What one recording (int16 [T]) sets off."""
    detector, rate, clip_n = model.detector, model.recipe.sample_rate, model.recipe.clip_n
    row_n = detector.block_n
    post_n = min(round(s.post_s * rate), clip_n - detector.reach_n) // row_n * row_n
    # Silence before the recording, so that a clip cut near its beginning scores as it did.
    padded = np.concatenate([np.zeros(clip_n, np.int16), pcm])
    scores = stream.scores(detector, padded, rate)
    found = []
    for column, keyword in enumerate(detector.labels):
        mine = np.ascontiguousarray(scores[:, column])
        times = (np.arange(len(mine)) + 1) * row_n / rate
        track = Track(times, mine, len(padded) / rate)
        limit = mining_threshold(track, s.per_hour, s.min_score) if s.at_score is None else s.at_score
        for t in triggers(padded, mine, limit, clip_n, post_n, row_n, lambda _: 0, s.max_per_recording):
            found.append(
                Found(
                    pcm=t.pcm,
                    kind=Kind.FALSE_TRIGGER,
                    keyword=keyword,
                    source=source,
                    offset_s=(t.start - clip_n) / rate,
                    score=t.score,
                    checkpoint=model.hash,
                    run="kws mine",
                    round=0,
                    text=text,
                )
            )
    return found


def sound_files(places: list[Path]) -> list[Path]:
    """The recordings at these places, folders searched through; raises KwsError for a place that holds none."""
    files = []
    for place in places:
        inside = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.suffix.lower() in EXTENSIONS)
        if not inside:
            raise KwsError(f"streams={place}: no recording there; allowed is a sound file or a folder of them")
        files += inside
    return files


main = verb("mine", run)

if __name__ == "__main__":
    main()
