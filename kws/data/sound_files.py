"""Files below a folder: one scan for all commands, and files whose name differs from the one that is given."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from kws.common.errors import KwsError
from kws.data.audio import EXTENSIONS
from kws.data.names import file_key

Listing = dict[Path, dict[str, list[str]]]  # names in a folder by their key, as far as it was read


def scan(root: Path, follow: bool = False) -> tuple[list[Path], Counter[str]]:
    """The recordings below a folder, sorted, and the number of other files by suffix.

    Hidden files are left out: `._name.wav` beside `name.wav` is what a Mac leaves, and holds no sound.

    Args:
        root: the folder.
        follow: follow links to folders.

    Raises:
        KwsError: a link to a folder, which is not followed.
    """
    found, others = list[Path](), Counter[str]()
    for path in sorted(_linked(root) if follow else root.rglob("*")):
        name = path.relative_to(root)
        if any(piece.startswith(".") for piece in name.parts):
            continue
        if path.is_dir():
            if path.is_symlink() and not follow:
                raise KwsError(
                    f"{name.as_posix()}: a link to a folder, which is not followed below {root}, unless in data.root "
                    "with data.allow_outside=true"
                )
        elif path.suffix.lower() in EXTENSIONS:
            found.append(path)
        else:
            others[path.suffix.lower() or path.name] += 1
    return found, others


def _linked(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files below a folder and below the folders that links in it lead to. Links back to a folder `above` end."""
    if (place := folder.resolve()) in above:
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _linked(path, above | {place})
        else:
            yield path


def sound_files(place: Path, key: str) -> list[Path]:
    """The recording `place`, or all recordings of that folder, sorted. Raises KwsError, naming `key`, if none is."""
    if place.is_file():
        return [place]
    found, others = scan(place)
    if not found:
        raise KwsError(
            f"{key}={place}: no recording there; must be an audio file or a folder of them" + listed(others, "; found ")
        )
    return found


def listed(others: Counter[str], before: str) -> str:
    """The counts of files by suffix, the five most frequent, after the text `before`; empty if there are none."""
    return before + ", ".join(f"{n} {suffix}" for suffix, n in others.most_common(5)) if others else ""


def on_disk(root: Path, name: PurePosixPath, read: Listing) -> PurePosixPath | None:
    """The only file below `root` with this name but for case and Unicode form.

    Args:
        root: the folder.
        name: path below it.
        read: what earlier calls read, kept by the caller.

    Returns:
        its path below `root`; None if there is no such file.

    Raises:
        KwsError: there are several.
    """
    found = PurePosixPath()
    for piece in name.parts:
        folder = root / found
        if folder not in read:
            read[folder] = {}
            for path in folder.iterdir() if folder.is_dir() else ():
                read[folder].setdefault(file_key(path.name), []).append(path.name)
        alike = read[folder].get(file_key(piece), [])
        if len(alike) > 1 and piece not in alike:
            raise KwsError(f"{name}: may be any of {', '.join(map(repr, sorted(alike)))}")
        if not alike:
            return None
        found /= piece if piece in alike else alike[0]
    return found


def place_of(root: Path, given: str, where: str, listing: Listing, allow_outside: bool) -> tuple[Path, PurePosixPath]:
    """The file of a path of the manifest, and its path below the root.

    It must be below the root unless `allow_outside`, because a manifest may come from anywhere. Where there is no such
    file, `\\` is read as `/`, and the file may differ from the name in case and Unicode form.
    """
    name = PurePosixPath(given)
    try:
        if not (root / name).exists():
            if "\\" in given:
                name = PurePosixPath(given.replace("\\", "/"))
            top = Path("/") if name.is_absolute() else root
            if ".." not in name.parts and (allow_outside or top == root):
                found = on_disk(top, name.relative_to("/") if name.is_absolute() else name, listing)
                name = name if found is None else PurePosixPath(top / found) if name.is_absolute() else found
        path = (root / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise KwsError(f"{where}: path={given!r}: must be a path ({error})") from error
    except KwsError as error:
        raise KwsError(f"{where}: path={given!r}: {error}") from error
    if PureWindowsPath(given).drive:
        raise KwsError(f"{where}: path={given!r}: must be relative to data.root")
    if not allow_outside:
        fault = "relative to" if name.is_absolute() else "" if path.is_relative_to(root) else "below"
        if fault:
            raise KwsError(f"{where}: path={given!r}: must be {fault} data.root, unless data.allow_outside=true")
    return path, name
