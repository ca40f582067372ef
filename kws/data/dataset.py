"""Roles of recordings: keywords, negatives, noise, and the pool that is only mined."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from kws.common.errors import KwsError
from kws.common.seeding import seed_of
from kws.common.settings import SettingError
from kws.data import manifest, speech_commands
from kws.data.audio_cache import Entry
from kws.data.manifest import Layout, Recording, Split, SplitBy, contains_phrase
from kws.data.speech_commands import Release


@dataclass
class DataConfig:
    """Recordings, and the split (train, validation, test) of each."""

    root: Annotated[str | None, Field(description="folder of the recordings")] = None
    manifest: Annotated[
        str | None,
        Field(description="CSV or JSONL with path, label, and if known speaker, text, source, part; null: in root"),
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
    noise_label: Annotated[str, Field(description="label of background noise")] = "noise"
    sample_rate: Annotated[int, Field(ge=8000, le=48000, description="Hz; everything is decoded to it")] = 16000
    max_undecodable: Annotated[
        float, Field(ge=0, le=1, description="share of recordings that may fail to decode; beyond it the command stops")
    ] = 0.1
    cache: Annotated[str, Field(description="folder for decoded audio")] = (
        "${oc.env:KWS_CACHE,${oc.env:HOME,.}/.cache/kws}"
    )

    def check(self) -> None:
        if self.download and self.release is None:
            raise SettingError("download", self.download, "must be false without a release, v1 or v2")


def recordings(data: DataConfig) -> list[Recording]:
    """The recordings of `data.root`, which must be given."""
    assert data.root is not None
    if data.release is not None:
        return speech_commands.recordings(Path(data.root), data.release.value, data.download)
    file = Path(data.manifest) if data.manifest else None
    if file is not None and file.is_file():
        file = file.resolve()  # else it is relative to the root
    return manifest.read(Path(data.root), file, data.layout, data.split_by, data.part_column)


@dataclass
class Selection:
    """Indexes of entries of the audio cache, by split."""

    keywords: list[str]
    positives: dict[Split, list[list[int]]] = field(default_factory=dict)  # one list per keyword
    speech: dict[Split, list[int]] = field(default_factory=dict)  # negatives; without the pool
    noise: dict[Split, list[int]] = field(default_factory=dict)
    pool: list[int] = field(default_factory=list)  # train negatives that are mined, never sampled as fresh negatives
    spoken: list[int] = field(default_factory=list)  # left out: their transcript or label contains a keyword


def same_word(label: str, keyword: str) -> bool:
    """Whether a label is a keyword, ignoring case; an underscore equals a space."""
    return label.replace("_", " ").casefold() == keyword.replace("_", " ").casefold()


def in_pool(recording: Recording, share: float) -> bool:
    """Whether a train recording is only mined, by a hash of its speaker, or of its name if the speaker is unknown."""
    return seed_of(0, "pool", recording.speaker or recording.name) % 10000 < share * 10000


def select(
    entries: Sequence[Entry],
    keywords: Sequence[str],
    noise_label: str,
    pool_share: float,
    needed: Sequence[Split] = (Split.TRAIN, Split.VALIDATION),
) -> Selection:
    """Assign each recording its role.

    Args:
        entries: entries of the audio cache.
        keywords: labels of the positives, in the order of the score columns.
        noise_label: label of background noise.
        pool_share: share of the train negatives that are only mined, 0 to 0.9.
        needed: splits that must hold each keyword and negatives.

    Raises:
        KwsError: a keyword has no recording, or there are no negatives, in one of those splits.
    """
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
        elif any(contains_phrase(f"{recording.label} {recording.text}", k) for k in keywords):
            chosen.spoken.append(index)
        elif split is Split.TRAIN and in_pool(recording, pool_share):
            chosen.pool.append(index)
        else:
            chosen.speech[split].append(index)
    labels = ", ".join(sorted({e.recording.label for e in entries}))
    for column, keyword in enumerate(keywords):
        for split in needed:
            if not chosen.positives[split][column]:
                raise KwsError(f"keyword={keyword}: no recording of it in the {split} split; labels there are {labels}")
    for split in needed:
        if not chosen.speech[split]:
            raise KwsError(f"data.root: no negative recording in the {split} split; labels are {labels}")
    return chosen
