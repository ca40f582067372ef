"""kws data: check recordings before anyone trains on them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from kws.commands import builders
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.files import refuse_overwriting, replacing
from kws.common.seeding import numpy_generator
from kws.common.settings import SettingError
from kws.common.text import plural
from kws.config.app import with_actions
from kws.config.compose import keywords, of_recipe
from kws.config.schema import DataCheckConfig
from kws.confusables.settings import SyntheticConfig
from kws.data import manifest
from kws.data.audio import to_float
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection, assign_roles, lost_files, manifest_file, present, read_recordings
from kws.data.division import Division
from kws.data.manifest import Recording, Split
from kws.data.names import same_word
from kws.data.positives import context, with_locations
from kws.data.sound_files import scan
from kws.detector import checkpoint
from kws.detector.checkpoint import Checkpoint
from kws.evaluation.calibration import ThresholdConfig, Unsupported
from kws.evaluation.data_checks import (
    bounds,
    cues,
    file_checks,
    keyword_checks,
    label_checks,
    score_checks,
    split_checks,
)
from kws.evaluation.data_checks.check_page import Gallery, Player, write_check
from kws.evaluation.data_checks.finding import Finding, Level, ordered
from kws.evaluation.data_checks.second_estimate import second_estimate
from kws.evaluation.results import write_json
from kws.evaluation.splits import negative_hours

SCORED_S = (2.0, 1.0)  # of a negative on the page: before and after its highest score


@dataclass
class Loaded:
    """What is checked.

    Args:
        listed: recordings of the manifest, also those without a file.
        notes: how it was read.
        store, division: audio, and the splits of all recordings.
        chosen: roles.
    """

    listed: list[Recording]
    notes: list[str]
    store: AudioCache
    division: Division
    chosen: Selection


def check(s: DataCheckConfig, console: Console) -> None:
    """Check the recordings, or write the bounds that were saved on the page into a copy of the manifest."""
    if not s.data.root:
        raise KwsError("data.root=DIR must be given: kws data check DIR")
    if s.bounds is not None:
        write_bounds(s, console)
        return
    builders.threads(s.threads)
    read = [Path(s.data.root), *([Path(s.checkpoint)] if s.checkpoint else [])]
    read += [Path(s.data.root) / file for file in [manifest_file(s.data)] if file is not None]
    refuse_overwriting({"json": s.json, "out": s.out}, read)
    words, model, synthetic = keywords(s.keyword), None, None
    if s.recipe is not None:
        synthetic = of_recipe(s.recipe, "data.synthetic", SyntheticConfig)
        s.threshold = over_recipe(s.threshold, of_recipe(s.recipe, "threshold", ThresholdConfig))
    if s.checkpoint is not None:
        model = checkpoint.read_model(Path(s.checkpoint))
        s.data.sample_rate = model.spec.sample_rate
    loaded = load(s, words, console)
    table = builders.split_table(loaded.store, loaded.chosen, s.data.noise_label)
    console.table(*table)
    found, galleries = check_sound(s, loaded, model, console)
    findings = [*check_files(s, loaded), *check_splits(s, loaded), *found]
    if s.recipe is not None and synthetic is not None:
        findings = split_checks.synthesised(findings, s.recipe, synthetic)
    findings = ordered(findings)
    show(findings, console)
    counts = {level: sum(one.level is level for one in findings) for level in Level}
    if s.json is not None:
        content = {"root": s.data.root, "keywords": words, "clean": not counts[Level.fault], "splits": table._asdict()}
        write_json(Path(s.json), content | {"findings": [one.as_json() for one in findings]})
    if s.out is not None:
        facts = {"folder": s.data.root, "keywords": ", ".join(words)}
        facts |= {"checkpoint": s.checkpoint} if s.checkpoint else {}
        title = f"Recordings of {', '.join(words)}"
        write_check(Path(s.out), title, facts, table, findings, galleries, loaded.store.sample_rate)
        console.say(f"page      {s.out}")
    console.say(", ".join(plural(n, level) for level, n in counts.items()))
    if counts[Level.fault]:
        sys.exit(1)


def over_recipe(own: ThresholdConfig, recipe: ThresholdConfig) -> ThresholdConfig:
    """The values of a recipe, but for those that the command line gives."""
    given = {word.lstrip("+").partition("=")[0] for word in HydraConfig.get().overrides.task}
    names = [one.name for one in fields(own) if given & {"threshold", f"threshold.{one.name}"}]
    return replace(recipe, **{name: getattr(own, name) for name in names})


def load(s: DataCheckConfig, words: Sequence[str], console: Console) -> Loaded:
    """Read the recordings as training does, whatever is missing or unreadable."""
    notes: list[str] = []
    listed = read_recordings(s.data, notes.append, words)
    lenient = replace(s.data, max_undecodable=1.0)
    store, division = builders.read_store(lenient, console, present(listed, 1.0), words)
    chosen = assign_roles(store.entries, words, s.data.noise_label, 0.0, s.data.transcript_match)
    chosen = with_locations(store, chosen, builders.longest_keywords(s.batch, s.stream))
    return Loaded(listed, notes, store, division, chosen)


def check_files(s: DataCheckConfig, loaded: Loaded) -> list[Finding]:
    """Findings on files, labels and transcripts."""
    assert s.data.root is not None
    words, noise, root = loaded.chosen.keywords, s.data.noise_label, Path(s.data.root)
    entries, listed = loaded.store.entries, loaded.listed
    roles = {label: next((k for k in words if same_word(label, k)), "") for label in {one.label for one in listed}}
    roles = {label: role for label, role in roles.items() if role} | {noise: noise}
    sounds = [(one.recording, one.hash) for one in loaded.division.entries]
    missing, others = lost_files(listed)
    files, strange = scan(root, s.data.allow_outside)
    return [
        *file_checks.notes(loaded.notes),
        *file_checks.missing(missing, len(listed)),
        *file_checks.need_ffmpeg(others, len(listed)),
        *file_checks.unlisted(root, files, listed),
        *file_checks.passed_over(strange),
        *file_checks.unreadable(loaded.store.bad),
        *file_checks.mended(loaded.store.faults),
        *file_checks.same_sound(sounds, roles, set(loaded.store.duplicates)),
        *label_checks.noise_labels(listed, words, noise),
        *label_checks.keyword_labels(listed, words, noise),
        *label_checks.overlapping(words),
        *label_checks.contain([entries[i].recording for i in loaded.chosen.ambiguous]),
        *label_checks.spoken([(entries[i].recording, form) for i, form in loaded.chosen.spoken.items()]),
    ]


def check_splits(s: DataCheckConfig, loaded: Loaded) -> list[Finding]:
    """Findings on the splits."""
    chosen = loaded.chosen
    counts = {
        word: {split: len(chosen.positives[split][column]) for split in Split}
        for column, word in enumerate(chosen.keywords)
    }
    refused = s.threshold.unsupported is Unsupported.refuse
    hours = negative_hours(loaded.store, chosen, Split.VALIDATION, s.stream)
    return [
        *split_checks.leaks(loaded.division.leaks),
        *split_checks.keywords_in_splits(counts),
        *split_checks.negatives_in_splits({split: len(chosen.speech[split]) for split in Split}),
        *split_checks.noise_in_splits({split: len(chosen.noise[split]) for split in Split}, s.data.noise_label),
        *split_checks.hours_for_rate(hours, builders.target(s.threshold), refused),
    ]


def check_sound(
    s: DataCheckConfig, loaded: Loaded, model: Checkpoint | None, console: Console
) -> tuple[list[Finding], list[Gallery]]:
    """Findings that listen to the recordings, and what the page plays."""
    store, chosen = loaded.store, loaded.chosen
    negatives = [i for split in Split for i in chosen.speech[split]]
    positives = [i for split in Split for column in chosen.positives[split] for i in column]
    columns = [] if model is None else columns_of(s, loaded, model)
    if model is not None:
        loaded = replace(loaded, chosen=second_estimate(store, chosen, model.detector, columns))
    found, galleries = check_keywords(s, loaded)
    found += cues.told_apart(*(described(store, some, console) for some in (positives, negatives)))
    if model is not None:
        scored, shown = check_scores(s, loaded, model, columns, negatives, console)
        found += scored
        galleries += shown
    return found, galleries


def check_keywords(s: DataCheckConfig, loaded: Loaded) -> tuple[list[Finding], list[Gallery]]:
    """Findings on where the keywords are, and players with bounds to drag."""
    store, chosen = loaded.store, loaded.chosen
    rate, names = store.sample_rate, [one.recording.name for one in store.entries]
    found = keyword_checks.doubtful(chosen.doubtful)
    notes = {one.index: one.reason for one in chosen.doubtful}
    positives = [i for split in Split for column in chosen.positives[split] for i in column]
    again = [i for i in positives if chosen.locations[i].again]
    found += keyword_checks.repeated([names[i] for i in again], len(positives))
    notes |= dict.fromkeys(again, "may hold the keyword more than once")
    for column, keyword in enumerate(chosen.keywords):
        own = [i for split in Split for i in chosen.positives[split][column]]
        seconds = {i: (chosen.locations[i].end - chosen.locations[i].start) / rate for i in own}
        odd = keyword_checks.lengths(keyword, {names[i]: length for i, length in seconds.items()})
        unusual = {case.name: one.check for one in odd for case in one.cases}
        notes |= {i: f"one of the {unusual[names[i]]}" for i in own if names[i] in unusual and i not in notes}
        found += odd
    shown = list(notes)[: s.limit]
    players = [keyword_player(store, chosen, i, notes[i]) for i in shown]
    text = "Listen, drag the bounds to the keyword, and save them."
    gallery = Gallery("Where the keyword is", text, players, len(notes) - len(shown), editable=True)
    return found, [gallery] if players else []


def keyword_player(store: AudioCache, chosen: Selection, i: int, note: str) -> Player:
    """The sound around a keyword, and its bounds."""
    recording, rate = store.entries[i].recording, store.sample_rate
    pcm, (first, last) = context(store, chosen, i)
    begins_s = (recording.offset_s or 0.0) + (chosen.locations[i].start - first) / rate
    bounds = begins_s + first / rate, begins_s + last / rate
    return Player(recording.name, f"{recording.label}, {recording.split}: {note}", pcm, begins_s, bounds)


def described(store: AudioCache, indexes: Sequence[int], console: Console) -> list[dict[str, float]]:
    """Features of recordings, of some of them where there are many."""
    chosen = numpy_generator(0, "check").permutation(indexes)[: cues.MOST].tolist()
    found = []
    with console.progress("Listening", len(chosen)) as tick:
        for n, i in enumerate(chosen, 1):
            found.append(cues.features(to_float(store.audio(i)), store.sample_rate))
            tick(n)
    return found


def columns_of(s: DataCheckConfig, loaded: Loaded, model: Checkpoint) -> list[int]:
    """Score column of each keyword in a checkpoint; raises KwsError where it lacks one."""
    words, labels = loaded.chosen.keywords, model.detector.labels
    columns = [next((k for k, one in enumerate(labels) if same_word(one, w)), -1) for w in words]
    if -1 in columns:
        raise KwsError(f"checkpoint={s.checkpoint}: must be of {', '.join(words)}, it is of {', '.join(labels)}")
    return columns


def check_scores(
    s: DataCheckConfig,
    loaded: Loaded,
    model: Checkpoint,
    columns: Sequence[int],
    negatives: Sequence[int],
    console: Console,
) -> tuple[list[Finding], list[Gallery]]:
    """Negatives that score like a keyword of the checkpoint."""
    store, detector = loaded.store, model.detector
    with console.progress("Scoring negatives", len(negatives)) as tick:
        scores, times = score_checks.peaks(detector, [store.audio(i) for i in negatives], tick)
    found, galleries = [], []
    for column in columns:
        name, threshold = detector.labels[column], detector.thresholds[column]
        own = zip(negatives, scores[:, column].tolist(), times[:, column].tolist(), strict=True)
        scored = sorted(own, key=lambda one: -one[1])
        found += score_checks.like_keyword(
            name, threshold, [(store.entries[i].recording.name, score, at) for i, score, at in scored]
        )
        above = [one for one in scored if one[1] >= threshold]
        shown = above[: s.limit]
        players = [score_player(store, i, score, at) for i, score, at in shown]
        title = f"Negatives that score like {name}"
        galleries.append(Gallery(title, score_checks.MEND, players, len(above) - len(shown)))
    return found, [one for one in galleries if one.players]


def score_player(store: AudioCache, i: int, score: float, at_s: float) -> Player:
    """The sound around the highest score of a negative."""
    recording, rate = store.entries[i].recording, store.sample_rate
    begins_s = max(0.0, at_s - SCORED_S[0])
    pcm = store.audio(i)[round(begins_s * rate) : round((at_s + SCORED_S[1]) * rate)]
    text = f": {recording.text}" if recording.text else ""
    note = f"{recording.label}, {recording.split}, score {score:.3f} at {at_s:.1f} s{text}"
    return Player(recording.name, note, pcm, begins_s)


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print the findings, one a line: faults and warnings on standard error."""
    for one in findings:
        line = f"{one.level:<8} {one}"
        if one.level is Level.note:
            console.say(line)
        else:
            console.warn(line)


def write_bounds(s: DataCheckConfig, console: Console) -> None:
    """Write the bounds that were saved on the page into a copy of the manifest."""
    assert s.bounds is not None
    assert s.data.root is not None
    if s.data.release is not None:
        raise SettingError("bounds", s.bounds, "must be null with data.release, which has no manifest")
    given, out, root = bounds.read_bounds(Path(s.bounds)), Path(s.manifest_out), Path(s.data.root)
    if out.exists():
        raise SettingError("manifest_out", s.manifest_out, "must be a new file, it exists already")
    file = manifest_file(s.data)
    d, words = s.data, keywords(s.keyword)
    _, _, rows = manifest.read_rows(
        root, file, d.layout, d.split_by, d.part_column, keywords=words, allow_outside=d.allow_outside
    )
    text = bounds.with_bounds(rows, read_recordings(d, keywords=words), given)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as target:
        target.write(text.encode("utf-8", "surrogateescape"))
    console.say(f"{len(given)} bounds in {out}, of {plural(len(rows), 'recording')}; data.manifest={out} reads them")


ACTIONS: Mapping[str, Callable[[DataCheckConfig, Console], None]] = {"check": check}

main = with_actions("data", ACTIONS)
