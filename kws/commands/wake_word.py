"""kws train task=wake_word: train with replayed hard negatives, calibrate, export and evaluate a detector."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from kws.commands import builders, speech
from kws.commands.initial_model import refuse_known
from kws.commands.speech import SyntheticClips
from kws.commands.training_run import Run, add_old_buffer, holding_out, name_quarantined
from kws.commands.wake_word_results import finish
from kws.commands.wake_word_run import WakeWord, fit
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.files import did_you_mean
from kws.common.text import plural
from kws.config.schema import TrainConfig
from kws.config.sweep import one_at_a_time
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection, extra_recordings, recordings, select, selection_lines
from kws.data.manifest import Recording, Split
from kws.data.positives import doubt_lines, with_locations
from kws.evaluation.calibration import Unsupported, require_hours
from kws.evaluation.results import Outcome
from kws.evaluation.splits import negative_hours
from kws.replay.buffer import INDEX, Buffer
from kws.replay.importing import into_buffer
from kws.replay.sources import sources_of


def train_wake_word(r: Run) -> tuple[list[Outcome], str]:
    """Train, calibrate on the validation split, export, report on the test split.

    Returns the outcomes there, and a warning where most of the split is synthetic.
    """
    s, console, dist = r.s, r.console, r.dist
    folder = Path(s.replay.buffer) if s.replay.buffer else r.out / "buffer"
    dist.on_main(lambda: refuse_missing_buffer(s, folder))
    w = with_recordings(r, folder)
    if not dist.is_main:
        fit(w, None, "")
        dist.leave()
        return [], ""
    if s.threshold.unsupported is Unsupported.refuse:  # now, not after hours of training
        hours = negative_hours(w.store, w.chosen, Split.VALIDATION, s.stream)
        require_hours(hours, builders.target(s.threshold))
    id_ = r.begin(w.store)
    describe(console, w.store, w.chosen, s.data.noise_label)
    shares, warning = speech.synthetic_shares(w.made, w.store, w.chosen, s.batch)
    for line in shares:
        console.say(line)
    if w.rooms is not None:
        console.say(f"rooms: {len(w.rooms)} of {s.augment.rooms}, for {s.augment.room_p:.0%} of the clips")
    begins = not (r.out / "state.pt").is_file()
    opened = partial(open_buffer, w)
    if s.init is not None and r.continues and begins and (copied := add_old_buffer(opened, folder, Path(s.init))):
        console.say(f"buffer: {plural(copied, 'clip')} of the run that trained {s.init}")
    with opened(w.store.sample_rate) as buffer:
        prepare(w, buffer, begins)
        weights, best = fit(w, buffer, id_)
        dist.leave()
        if not s.replay.buffer:  # another run may be about to replay a buffer that runs share
            buffer.purge()
        clips, hours = len(buffer), sum(row.n_samples for row in buffer.rows()) / w.store.sample_rate / 3600
    outcomes = finish(w, weights, best)
    if w.store.bad:
        console.warn(f"left out, no usable sound: {plural(len(w.store.bad), 'recording')}, named above")
    console.say(f"buffer    {folder}  ({plural(clips, 'clip')}, {60 * hours:.1f} min)")
    return outcomes, warning


def with_recordings(r: Run, folder: Path) -> WakeWord:
    """Read the recordings of a run, synthesise what it asks for, and choose the role of each clip.

    Args:
        r: the run.
        folder: of its replay buffer.
    """
    s, console, words, rooms = r.s, r.console, r.spec.labels, builders.rooms(r.s)
    real = recordings(s.data, console.warn, words) if s.data.root else []
    speech.require_labels(real, words, s, console)

    def load() -> tuple[SyntheticClips, AudioCache, Selection]:
        extra = extra_recordings(s.data.extra, s.data, console.warn, words)
        made, store = read_with_spliced(s, words, console, [*real, *synthesised.recordings()], extra, synthesised)
        if r.init is not None:
            refuse_known(r.init, store.entries)
        chosen = select(store.entries, words, s.data.noise_label, s.mining.pool_share, match=s.data.transcript_match)
        longest_s = builders.longest_keywords(s.batch, s.stream)
        return made, store, with_locations(store, chosen, longest_s, (Split.TRAIN, Split.VALIDATION))

    with one_at_a_time(Path(s.data.cache)):
        synthesised = r.dist.on_main(lambda: speech.synthesise(s, words, console, real))
        made, store, chosen = r.dist.main_first(load)
    return WakeWord(r, store, chosen, made, folder, rooms)


def read_with_spliced(
    s: TrainConfig,
    words: Sequence[str],
    console: Console,
    found: Sequence[Recording],
    extra: Sequence[Recording],
    made: SyntheticClips,
) -> tuple[SyntheticClips, AudioCache]:
    """Read recordings, and splice more for training from those that have the train split in the end.

    Args:
        s: settings.
        words: the keywords.
        console: shows the progress.
        found: recordings, with the synthetic ones of `made`.
        extra: more recordings for training, as in `builders.read_store`.
        made: the synthetic clips so far.
    """
    if not s.data.synthetic.spliced:
        return made, builders.store(s.data, console, found, words, extra=extra)
    from kws.commands.spliced import keyword_phones, splice

    keywords = keyword_phones(s, words)  # now, since reading may take minutes
    divided, _ = builders.read_store(s.data, console, found, words, extra=extra)
    folder, clips = splice(s, keywords, console, made, divided)
    # Spliced clips are extra ones, which change no split.
    return replace(made, spliced=folder), builders.store(s.data, console, found, words, extra=[*extra, *clips])


def open_buffer(w: WakeWord, rate: int) -> Buffer:
    """Open the replay buffer of a run, made for clips of a sample rate in Hz."""
    s = w.r.s
    return holding_out(Buffer(w.folder, s.replay, rate, s.replay, s.data.transcript_match), w.store)


def prepare(w: WakeWord, buffer: Buffer, begins: bool) -> None:
    """Add the synthetic confusables to the buffer where the run begins, and refuse now what may not be mined.

    Raises:
        LeakError: the run would mine a validation or test recording of a run that shares the buffer.
    """
    s, chosen = w.r.s, w.chosen
    name_quarantined(w.r.console, buffer, w.folder)
    if w.made.speech and s.data.synthetic.confusables and begins:
        added = into_buffer(buffer, w.made.speech)
        if added.new:
            w.r.console.say(f"buffer: {len(added.new)} synthetic confusables, {added.near} near-duplicates")
    # Recordings that may not be mined are refused now, not after the training before the first round.
    sources = [*chosen.pool, *chosen.noise[Split.TRAIN]]
    sources += chosen.speech[Split.TRAIN] if s.replay.batch_mining else []
    buffer.admit(source for i in sources for source in sources_of(w.store.entries[i]))


def refuse_missing_buffer(s: TrainConfig, folder: Path) -> None:
    """Raise KwsError if `replay.buffer` is not there: a run makes no buffer but its own, so that no typo passes."""
    if s.replay.buffer and not (folder / INDEX).is_file():
        guess = did_you_mean(folder)
        raise KwsError(
            f"replay.buffer={folder}: must be the folder of a replay buffer{guess}; kws mine and kws buffer import "
            "make one"
        )


def describe(console: Console, store: AudioCache, chosen: Selection, noise_label: str) -> None:
    """Print number and hours of the recordings of each split, and by what they were divided."""
    console.table(*builders.split_table(store, chosen, noise_label))
    for column, keyword in enumerate(chosen.keywords):
        own = (store.entries[i].recording.label for split in Split for i in chosen.positives[split][column])
        for label in sorted(set(own) - {keyword}):
            console.say(f"label {label!r} is read as keyword={keyword}")
    if not chosen.pool and len(chosen.speech[Split.TRAIN]) == 1:
        console.warn("nothing can be mined: train holds a single negative, which is used fresh")
    for line in selection_lines(chosen):
        console.warn(line)
    builders.warn_clean(console, chosen, Split.VALIDATION)
    if any(chosen.positives[Split.TEST]):
        builders.warn_clean(console, chosen, Split.TEST)
    for line in doubt_lines(chosen):
        console.warn(line)
