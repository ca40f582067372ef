"""Roles of recordings: keywords, negatives, noise, and the pool that is only mined."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from kws.common.errors import KwsError
from kws.common.seeding import seed_of
from kws.common.settings import INPUT, PATH, SettingError
from kws.common.text import plural
from kws.data import ffmpeg, manifest, overlap, speech_commands
from kws.data.audio_cache import Entry
from kws.data.division import balanced, enough, summed
from kws.data.keyword_location import Doubt, Location
from kws.data.manifest import Layout, Recording, Split, SplitBy
from kws.data.names import folded, same_word
from kws.data.sound_files import listed
from kws.data.speech_commands import Release
from kws.data.tables import Say, silent
from kws.data.transcripts import Match, form_in, forms_listed

_LABELS_SHOWN = 8  # in an error
# What people call background noise; asked about where no recording has the label of noise.
_NEARLY_NOISE = {"noise", "background", "backgrounds", "ambient", "ambience", "silence"}


@dataclass
class DataConfig:
    """Recordings, and the split (train, validation, test) of each."""

    root: Annotated[str | None, INPUT, Field(description="folder of the recordings")] = None
    manifest: Annotated[
        str | None,
        PATH,
        Field(
            description="CSV or JSONL: path, label, and if known speaker, text, source, part, start, end; null: in root"
        ),
    ] = None
    layout: Annotated[Layout, Field(description="form of root; folders: one a label; auto: by its files")] = Layout.auto
    split_by: Annotated[
        SplitBy, Field(description="column: part_column; hash: of speaker, else file name; auto: the column if there")
    ] = SplitBy.auto
    release: Annotated[
        Release | None, Field(description="release of Speech Commands at root, or where torchaudio keeps it below root")
    ] = None
    download: Annotated[bool, Field(description="fetch a missing release by torchaudio")] = False
    part_column: Annotated[str, Field(description="column of the manifest with the split")] = "part"
    allow_outside: Annotated[
        bool, Field(description="read a manifest with absolute paths, and follow links that lead out of root")
    ] = False
    transcript_match: Annotated[
        Match,
        Field(
            description="forms of a keyword that count in a transcript: word, with -s or -es; prefix, with any ending; "
            "anywhere, also within words"
        ),
    ] = Match.word
    noise_label: Annotated[str, Field(description="label of background noise")] = "noise"
    sample_rate: Annotated[int, Field(ge=8000, le=48000, description="Hz; everything is decoded to it")] = 16000
    max_undecodable: Annotated[
        float, Field(ge=0, le=1, description="share of recordings that may fail to decode; beyond it the command stops")
    ] = 0.1
    cache: Annotated[str, PATH, Field(description="folder for decoded audio")] = (
        "${home:${oc.env:KWS_CACHE,'~/.cache/kws'}}"
    )

    def check(self) -> None:
        if self.download and self.release is None:
            raise SettingError("download", self.download, "must be false without a release, v1 or v2")


def recordings(data: DataConfig, say: Say = silent, keywords: Sequence[str] = ()) -> list[Recording]:
    """The recordings of `data.root`, which must be given.

    Args:
        data: where they are.
        say: prints how the manifest was read, where that is not plain.
        keywords: of the run.

    Raises:
        KwsError: as `manifest.read`, or too many files are missing.
    """
    found = read_recordings(data, say, keywords)
    return found if data.release is not None else present(found, data.max_undecodable, say)


def read_recordings(data: DataConfig, say: Say = silent, keywords: Sequence[str] = ()) -> list[Recording]:
    """The same with those whose file is missing. Raises KwsError as `manifest.read`."""
    assert data.root is not None
    if data.release is not None:
        return speech_commands.recordings(Path(data.root), data.release.value, data.download)
    file = manifest_file(data)
    found = manifest.read(
        Path(data.root), file, data.layout, data.split_by, data.part_column, say, keywords, data.allow_outside
    )
    return with_noise_label(found, data.noise_label, say)


def extra_recordings(
    root: str | None, data: DataConfig, say: Say = silent, keywords: Sequence[str] = ()
) -> list[Recording]:
    """Recordings of another folder, all in the train split, whatever its manifest says.

    Args:
        root: folder with a manifest, or with a folder for each label; None for no recordings.
        data: label of the noise, share of the recordings that may be missing, whether paths may lead out of `root`.
        say, keywords: as in `recordings`.

    Raises:
        KwsError: as `recordings`.
    """
    if root is None:
        return []
    folder = Path(root)
    try:
        read = manifest.read(folder, say=say, keywords=keywords, allow_outside=data.allow_outside)
    except KwsError as error:  # the words of the reader are about the other folder
        raise KwsError(str(error).replace("data.root", "data.extra")) from error
    found = with_noise_label(read, data.noise_label, say)
    train = [replace(one, name=f"{folder.name}/{one.name}", split=Split.TRAIN, given=True) for one in found]
    return present(train, data.max_undecodable, say)


def manifest_file(data: DataConfig) -> Path | None:
    """The manifest that `data.manifest` names: absolute, or relative to the root where there is no such file here."""
    file = Path(data.manifest) if data.manifest else None
    return file.resolve() if file is not None and file.is_file() else file


def with_noise_label(found: Sequence[Recording], noise_label: str, say: Say = silent) -> list[Recording]:
    """The recordings with `noise_label` for a label that differs from it in case, blanks, `_`, `-` or Unicode form."""
    same = {one.label for one in found if one.label != noise_label and same_word(one.label, noise_label)}
    for label in sorted(same):
        say(f"label {label!r} is read as data.noise_label={noise_label}")
    return [replace(one, label=noise_label) if one.label in same else one for one in found]


def present(found: Sequence[Recording], max_undecodable: float, say: Say = silent) -> list[Recording]:
    """The recordings whose file exists, and can be decoded by soundfile or by ffmpeg where that is installed.

    Raises:
        KwsError: a larger share than `max_undecodable` is missing, or needs ffmpeg.
    """
    missing, others = lost_files(found)
    kinds = listed(Counter(one.path.suffix.lower() for one in others), "")
    for lost, reason, more in (
        (missing, "are missing", ""),
        (others, f"need ffmpeg, which is not on the path ({kinds})", f"; or convert each: {ffmpeg.CONVERT}"),
    ):
        text = f"{len(lost)} of {len(found)} recordings {reason}"
        names = ", ".join(one.name for one in lost[:3]) + ", ..." * (len(lost) > 3) + more
        if len(lost) > max_undecodable * len(found):
            raise KwsError(f"{text}, more than data.max_undecodable={max_undecodable:g}: {names}")
        if lost:
            say(f"{text} and are left out: {names}")
    out = {one.path for one in (*missing, *others)}
    return [one for one in found if one.path not in out]


def lost_files(found: Sequence[Recording]) -> tuple[list[Recording], list[Recording]]:
    """The recordings whose file is missing, and those that need ffmpeg where it is not installed."""
    missing = [one for one in found if not one.path.is_file()]
    others = [] if ffmpeg.installed() else [one for one in found if one.path.suffix.lower() in ffmpeg.EXTENSIONS]
    return missing, others


def nearly_noise(labels: Collection[str], keywords: Sequence[str], noise_label: str) -> list[str]:
    """Labels that probably mean background noise, sorted; as another label it counts as speech."""
    noise = folded(noise_label)
    return [
        label
        for label in sorted(labels)
        if label != noise_label and not any(same_word(label, keyword) for keyword in keywords)
        if noise in folded(label) or (noise_label not in labels and folded(label) in _NEARLY_NOISE)
    ]


def refuse_nearly_noise(labels: Collection[str], keywords: Sequence[str], noise_label: str) -> None:
    """Raise KwsError for a label that probably means background noise."""
    for label in nearly_noise(labels, keywords, noise_label):
        raise KwsError(
            f"label {label!r}: must be {noise_label!r} if it is background noise, else a name that does not "
            f"suggest it; data.noise_label={label} takes it for the noise"
        )


def refuse_two_roles(entries: Sequence[Entry], keywords: Sequence[str]) -> None:
    """Raise KwsError for the same sound under a keyword and under another label: it would be trained as both."""
    first: dict[str, Recording] = {}
    for entry in entries:
        one, other = entry.recording, first.setdefault(entry.hash, entry.recording)
        if same_word(one.label, other.label):
            continue
        if any(same_word(label, keyword) for label in (one.label, other.label) for keyword in keywords):
            raise KwsError(
                f"{other.name} and {one.name}: must have the same label or differ; they are the same sound, "
                f"filed as {other.label!r} and {one.label!r}"
            )


@dataclass
class Selection:
    """Indexes of entries of the audio cache, by split."""

    keywords: list[str]
    positives: dict[Split, list[list[int]]] = field(default_factory=dict)  # one list per keyword
    speech: dict[Split, list[int]] = field(default_factory=dict)  # negatives; without the pool
    noise: dict[Split, list[int]] = field(default_factory=dict)
    pool: list[int] = field(default_factory=list)  # train negatives that are mined, never sampled as fresh negatives
    spoken: dict[int, str] = field(default_factory=dict)  # left out: the form of a keyword in their transcript
    ambiguous: dict[int, str] = field(default_factory=dict)  # left out: their label contains a keyword; no transcript
    named: Counter[str] = field(default_factory=Counter)  # labels of negatives that begin with a keyword: clock_alarm
    locations: dict[int, Location] = field(default_factory=dict)  # of the keyword in each positive
    doubtful: list[Doubt] = field(default_factory=list)  # left out of the positives


def pooled(train: Sequence[Entry], share: float) -> list[bool]:
    """Which of the train negatives are only mined: by a hash of the speaker, or of the name if it is unknown.

    Where the hash leaves the pool or the fresh negatives too small, speakers are divided evenly, or recordings where
    there are too few. A single recording is never only mined.
    """
    if not share:
        return [False] * len(train)
    # The pieces of a long recording are divided like recordings.
    in_time = [one.whole and one.recording.offset_s is None for one in train]
    units = [(not cut and one.recording.speaker) or one.recording.name for cut, one in zip(in_time, train, strict=True)]
    weights, shares = [one.n_samples for one in train], {False: 1 - share, True: share}
    places = [int(seed_of(0, "pool", unit) % 10000 < share * 10000) for unit in units]
    for keys in (units, [one.recording.name for one in train]):
        if enough(weights, places, list(shares.values())):
            break
        even = balanced(summed(keys, weights), shares)
        places = [even[key] for key in keys]
    return [place == 1 for place in places]


def select(
    entries: Sequence[Entry],
    keywords: Sequence[str],
    noise_label: str,
    pool_share: float,
    needed: Sequence[Split] = (Split.TRAIN, Split.VALIDATION),
    match: Match = Match.word,
) -> Selection:
    """Assign each recording its role.

    Args:
        entries: entries of the audio cache.
        keywords: labels of the positives, in the order of the score columns.
        noise_label: label of background noise.
        pool_share: share of the train negatives that are only mined, 0 to 0.9.
        needed: splits that must hold each keyword and negatives.
        match: forms of a keyword that count in a transcript.

    Raises:
        KwsError: a keyword has no recording, or there are no negatives, in one of those splits; the same sound is filed
            under a keyword and under another label.
    """
    found = [entry.recording for entry in entries]
    refuse_nearly_noise({one.label for one in found}, keywords, noise_label)
    refuse_two_roles(entries, keywords)
    chosen = assign_roles(entries, keywords, noise_label, pool_share, match)
    for column, keyword in enumerate(keywords):
        for split in needed:
            if not chosen.positives[split][column]:
                raise KwsError(f"keyword={keyword}: no recording of it in the {split} split; {counted(found)}")
    for split in needed:
        if not chosen.speech[split]:
            raise KwsError(f"data.root: no negative recording in the {split} split; {counted(found)}")
    return chosen


def assign_roles(
    entries: Sequence[Entry], keywords: Sequence[str], noise_label: str, pool_share: float, match: Match = Match.word
) -> Selection:
    """Assign each recording its role as `select` does, whatever is missing."""
    chosen = Selection(list(keywords))
    for split in Split:
        chosen.positives[split] = [[] for _ in keywords]
        chosen.speech[split], chosen.noise[split] = [], []
    for index, entry in enumerate(entries):
        recording, split = entry.recording, entry.recording.split
        column = next((i for i, k in enumerate(keywords) if same_word(recording.label, k)), -1)
        if column >= 0:
            chosen.positives[split][column].append(index)
        elif recording.label == noise_label:
            chosen.noise[split].append(index)
        elif form := next(filter(None, (form_in(recording.text, k, match) for k in keywords)), ""):
            chosen.spoken[index] = form
        elif not recording.text and any(overlap.ambiguous(recording.label, k) for k in keywords):
            chosen.ambiguous[index] = recording.label
        else:
            chosen.speech[split].append(index)
            if not recording.text and any(overlap.named(recording.label, k) for k in keywords):
                chosen.named[recording.label] += 1
    train = chosen.speech[Split.TRAIN]
    mined = pooled([entries[i] for i in train], pool_share)
    chosen.pool = [i for i, only in zip(train, mined, strict=True) if only]
    chosen.speech[Split.TRAIN] = [i for i, only in zip(train, mined, strict=True) if not only]
    return chosen


def counted(found: Sequence[Recording]) -> str:
    """The number of recordings of the most frequent labels in each split."""
    counts: dict[str, Counter[Split]] = {}
    for one in found:
        counts.setdefault(one.label, Counter())[one.split] += 1
    order = sorted(counts, key=lambda label: (-counts[label].total(), label))
    texts = [f"{label}: {', '.join(f'{counts[label][s]} {s}' for s in Split)}" for label in order[:_LABELS_SHOWN]]
    return f"there are {'; '.join(texts) or 'none'}" + "; ..." * (len(order) > _LABELS_SHOWN)


def selection_lines(chosen: Selection) -> list[str]:
    """A line for each keyword that contains another, and for each reason for which recordings are no negatives."""
    lines = overlap.contained_lines(chosen.keywords)
    if spoken := chosen.spoken.values():
        lines.append(
            f"left out, their transcript contains a keyword: {plural(len(spoken), 'negative')} ({forms_listed(spoken)})"
        )
    if labels := chosen.ambiguous.values():
        lines.append(
            f"left out, their label contains a keyword and they have no transcript: {plural(len(labels), 'recording')} "
            f"({forms_listed(labels)}); a label such as not_{chosen.keywords[0]} makes them negatives"
        )
    if chosen.named:
        lines.append(
            f"negatives by a label that begins with a keyword: {plural(chosen.named.total(), 'recording')} "
            f"({forms_listed(chosen.named.elements())}); they must not say it"
        )
    return lines
