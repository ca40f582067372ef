"""Google Speech Commands (Warden, 2018) as torchaudio keeps it: where a copy lies, its parts, how it is fetched."""

import os
import shutil
import tarfile
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from urllib.error import URLError

from kws.common.errors import KwsError
from kws.common.torchaudio_compat import torchaudio
from kws.data.manifest import NOISE, Layout, Recording, Split, SplitBy, read


class Release(StrEnum):
    """A release of Speech Commands; the value is its folder."""

    v1 = "speech_commands_v0.01"
    v2 = "speech_commands_v0.02"


_LIST, _BELOW = "testing_list.txt", "SpeechCommands"
_SUBSETS = {Split.TRAIN: "training", Split.VALIDATION: "validation", Split.TEST: "testing"}


def recordings(root: Path, release: str, download: bool = False) -> list[Recording]:
    """The recordings of a release, each in the part that torchaudio's data set puts it in.

    The background noise is in no part of the release: here it is the train part's.

    Args:
        root: a copy of the release, or the folder that has one below it where torchaudio keeps it.
        release: speech_commands_v0.01 or speech_commands_v0.02.
        download: fetch it where it is not there.

    Raises:
        KwsError: it is not there, cannot be fetched, or is not whole.
    """
    folder = place(root.resolve(), release, download)
    found = read(folder, layout=Layout.speech_commands, split=SplitBy.column)
    splits = official(folder)
    said = {one.name for one in found if one.label != NOISE}
    if missing := sorted(splits.keys() - said):
        raise KwsError(f"{folder}: {len(missing)} files of its lists are not there, such as {missing[0]}")
    if strange := sorted(said - splits.keys()):
        raise KwsError(f"{folder}: {len(strange)} files are no recordings of Speech Commands, such as {strange[0]}")
    return [replace(one, split=splits.get(one.name, Split.TRAIN)) for one in found]


def place(root: Path, release: str, download: bool) -> Path:
    """The folder of a release, fetched if it is not there and `download`; raises KwsError as `recordings`."""
    if (root / _LIST).is_file():
        return root
    kept = root / _BELOW / release
    if not kept.is_dir() and download:
        fetch(root, release)
    if not (kept / _LIST).is_file():
        hint = "" if download else "; data.download=true fetches it, where there is a network"
        raise KwsError(f"data.root={root}: no {release} there, nor in {_BELOW}/{release} below it{hint}")
    return kept


def official(folder: Path) -> dict[str, Split]:
    """The part of each file below `folder`, as torchaudio's data set has it."""
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


def fetch(root: Path, release: str) -> None:
    """Have torchaudio download a release into `root`, whole or not at all."""
    draft, kept = root / f".{release}.part", root / _BELOW / release
    shutil.rmtree(draft / _BELOW, ignore_errors=True)  # what a kill left half unpacked
    draft.mkdir(parents=True, exist_ok=True)
    try:
        torchaudio.datasets.SPEECHCOMMANDS(draft, url=release, download=True)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise KwsError(
            f"data.download=true: {release} cannot be fetched ({reason}); where there is no network, data.root names "
            "the folder of a copy"
        ) from error
    kept.parent.mkdir(exist_ok=True)
    os.replace(draft / _BELOW / release, kept)
    shutil.rmtree(draft)
