"""Recordings in folders, as people and other trainers lay them out: label and split by the names of the folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kws.common.errors import KwsError
from kws.common.text import plural
from kws.data.names import folded, shown
from kws.data.sound_files import listed, scan
from kws.data.tables import SPLITS, Row, Say

NOISE = "noise"
_NOISE_FOLDER = "_background_noise_"
_TABLES = (".csv", ".tsv", ".jsonl")
KEYWORD = ""  # in place of a label: the keyword of the run

# Folders that belong together: label and split of their recordings. The split "" is that of the folder around it.
Layout = Mapping[str, tuple[str, str]]
PRECISE: Layout = {"wake-word": (KEYWORD, ""), "not-wake-word": ("not-wake-word", "")}
OPENWAKEWORD: Layout = {
    "positive_train": (KEYWORD, "train"),
    "negative_train": ("negative", "train"),
    "positive_test": (KEYWORD, "test"),
    "negative_test": ("negative", "test"),
}


def has_all(root: Path, layout: Layout) -> bool:
    """Whether a folder holds all folders of a layout."""
    return {folded(name) for name in layout} <= {folded(path.name) for path in root.iterdir() if path.is_dir()}


def folder_rows(
    root: Path, layout: Layout, keywords: Sequence[str], part_column: str, say: Say, follow: bool
) -> list[Row]:
    """All audio files below the root, without hidden ones, labelled by the first folder of their path.

    A folder that is named like a split, such as `test/`, and holds folders of the same names as those beside it, is
    that split: its folders are the labels. Where there is one, recordings outside of it are train. Recordings straight
    in the root are the keyword, where the run has one and no folder is named like it.

    Args:
        root: the folder.
        layout: folders with a meaning of their own; empty for none.
        keywords: of the run; the one keyword is the label of the folders for it.
        part_column: column of the rows for the split.
        say: prints what is not plain.
        follow: links to folders are followed.

    Raises:
        KwsError: a recording in no folder that may not be the keyword, the folder of a label within that of another, or
            several keywords where the layout has one.
    """
    files, _ = scan(root, follow)
    names = [path.relative_to(root) for path in files]
    splits = _split_folders([name.parts[:-1] for name in names])
    known = {folded(name): place for name, place in layout.items()}
    labels = {folded(name.parts[0]) for name in names if len(name.parts) > 1} - set(splits)
    loose = sum(len(name.parts) == 1 for name in names)
    one = keywords[0] if len(keywords) == 1 and folded(keywords[0]) not in labels else None
    if loose and one is not None:
        say(f"{plural(loose, 'recording')} straight in data.root, read as keyword={one}")
    rows, given = [], bool(splits)
    for name in names:
        folders, split = name.parts[:-1], ""
        if folders and (split := splits.get(folded(folders[0]), "")):
            folders = folders[1:]
        if not folders and (split or one is None):
            raise KwsError(f"{name}: must lie in the folder of its label, <label>/{name}")
        # A folder of a known layout may hold any others, but those of the layout.
        within = labels if not folders or folded(folders[0]) not in known else set(known)
        if len(folders) > 1 and folded(folders[1]) in within - {folded(folders[0])}:
            top, inner = map(shown, folders[:2])
            raise KwsError(
                f"{top}/{inner}/: must not lie in the folder of label {top!r}, since {inner!r} is a label too; a "
                "manifest.csv with the columns path, label and part says which is meant"
            )
        top = shown(folders[0]) if folders else one or ""
        label, of_layout = known.get(folded(top), (top, ""))
        if label == KEYWORD:
            label = _one_keyword(keywords, top)
        elif folders and folders[0] == _NOISE_FOLDER:
            label = NOISE
        given = given or bool(of_layout)
        speaker, separator, _ = name.stem.partition("_nohash_")  # file names of Speech Commands
        fields = {"path": name.as_posix(), "label": label, "speaker": shown(speaker) if separator else ""}
        rows.append((name.as_posix(), fields | {part_column: split or of_layout or "train"}))
    for top in dict.fromkeys(name.parts[0] for name in names):
        if folded(top) in splits:
            say(f"{shown(top)}/: read as the {splits[folded(top)]} split, with a folder a label")
    _say_passed_over(root, files, say, follow)
    return rows if given else [(where, {k: v for k, v in row.items() if k != part_column}) for where, row in rows]


def _split_folders(folders: Sequence[Sequence[str]]) -> dict[str, str]:
    """Folders at the top that are splits, by folded name.

    Args:
        folders: path of the folder of each recording.
    """
    inner: dict[str, set[str]] = {}  # folded names of the folders in each folder at the top; "" for a recording
    for path in folders:
        top, within, *_ = (*map(folded, path), "", "")
        inner.setdefault(top, set()).add(within)
    maybe = {top: SPLITS[top] for top, within in inner.items() if top in SPLITS and "" not in within}

    def labels_beside(top: str) -> set[str]:
        others = (inner[other] if other in maybe else {other} for other in inner if other != top)
        return set().union(*others)

    return {top: split for top, split in maybe.items() if inner[top] & labels_beside(top)}


def _one_keyword(keywords: Sequence[str], folder: str) -> str:
    """The label of the folder for the keyword. Raises KwsError if there are several keywords."""
    if len(keywords) > 1:
        raise KwsError(
            f"{folder}/: must be for one keyword, not for {', '.join(keywords)}; data.layout=folders reads a folder "
            "for each"
        )
    return keywords[0] if keywords else folder


def _say_passed_over(root: Path, files: Sequence[Path], say: Say, follow: bool) -> None:
    for path in sorted(root.iterdir()):
        if path.suffix.lower() in _TABLES:
            say(f"{path.name}: not read; data.manifest={path.name} reads it")
        elif path.is_dir() and not path.name.startswith(".") and not any(f.is_relative_to(path) for f in files):
            say(f"{path.name}/: no recording in it" + listed(scan(path, follow)[1], ", but "))
