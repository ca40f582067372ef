"""Google Speech Commands (Warden, 2018) by torchaudio: location of a copy, official splits, download."""

import os
import shutil
import tarfile
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from urllib.error import URLError

from kws.common.errors import KwsError
from kws.common.torchaudio_compat import torchaudio
from kws.data.folders import NOISE
from kws.data.manifest import Layout, Recording, Split, SplitBy, read


class Release(StrEnum):
    """A release of Speech Commands; the value is its folder."""

    v1 = "speech_commands_v0.01"
    v2 = "speech_commands_v0.02"


_LIST, _BELOW = "testing_list.txt", "SpeechCommands"
_SUBSETS = {Split.TRAIN: "training", Split.VALIDATION: "validation", Split.TEST: "testing"}


def recordings(root: Path, release: str, download: bool = False) -> list[Recording]:
    """Recordings of a release, each in its official split.

    The background noise is in no official split. It is put into train here.

    Args:
        root: a copy of the release, or the folder below which torchaudio keeps one.
        release: speech_commands_v0.01 or speech_commands_v0.02.
        download: download the release if it is missing.

    Raises:
        KwsError: the release is missing, incomplete, or cannot be downloaded.
    """
    folder = place(root.resolve(), release, download)
    found = read(folder, layout=Layout.speech_commands, split=SplitBy.column)
    splits = official(folder)
    spoken = {one.name for one in found if one.label != NOISE}
    if missing := sorted(splits.keys() - spoken):
        raise KwsError(f"{folder}: {len(missing)} files of its lists are missing, such as {missing[0]}")
    if strange := sorted(spoken - splits.keys()):
        raise KwsError(f"{folder}: {len(strange)} files are in none of its lists, such as {strange[0]}")
    return [replace(one, split=splits.get(one.name, Split.TRAIN), given=one.name in splits) for one in found]


def place(root: Path, release: str, download: bool) -> Path:
    """Folder of a release, downloaded if it is missing and `download` is set. Raises KwsError as `recordings`."""
    if (root / _LIST).is_file():
        return root
    kept = root / _BELOW / release
    if not kept.is_dir() and download:
        download_release(root, release)
    if not (kept / _LIST).is_file():
        hint = "" if download else "; data.download=true downloads it"
        raise KwsError(f"data.root={root}: no {release} there, nor in {_BELOW}/{release} below it{hint}")
    return kept


def official(folder: Path) -> dict[str, Split]:
    """Official split of each file below `folder`, from the data set class of torchaudio."""
    splits: dict[str, Split] = {}
    for split, subset in _SUBSETS.items():
        try:
            listed = torchaudio.datasets.SPEECHCOMMANDS(
                folder.parent, url=f"{folder.name}.tar.gz", folder_in_archive="", subset=subset
            )
            names = [listed.get_metadata(i)[0] for i in range(len(listed))]
        except (OSError, RuntimeError, ValueError) as error:
            raise KwsError(f"{folder}: its lists of files cannot be read ({error})") from error
        splits |= {Path(name).relative_to(folder.name).as_posix(): split for name in names}
    return splits


def download_release(root: Path, release: str) -> None:
    """Download a release into `root`, atomically."""
    draft, kept = root / f".{release}.part", root / _BELOW / release
    shutil.rmtree(draft / _BELOW, ignore_errors=True)  # incomplete after a killed download
    draft.mkdir(parents=True, exist_ok=True)
    try:
        torchaudio.datasets.SPEECHCOMMANDS(draft, url=release, download=True)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise KwsError(
            f"data.download=true: {release} cannot be downloaded ({reason}); without a network, "
            "data.root must name the folder of a copy"
        ) from error
    kept.parent.mkdir(exist_ok=True)
    os.replace(draft / _BELOW / release, kept)
    shutil.rmtree(draft)
