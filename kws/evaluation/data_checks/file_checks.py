"""Checks of the files: missing, passed over, unreadable, silent, and mended sound."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from kws.common.text import plural
from kws.data.ffmpeg import CONVERT
from kws.data.manifest import Recording
from kws.data.mending import TEXTS, Fault
from kws.evaluation.data_checks.finding import Case, Finding, Level

_SILENT = "silent"  # reason of a recording without sound
# Files that belong beside recordings.
_EXPECTED = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".md", ".html", ".yaml", ".yml", ".pdf", ".lab", ".textgrid")
_NOT_MENDED = {
    Fault.quiet: (Level.warning, "Record nearer to the microphone, or with more gain."),
    Fault.clipped: (Level.warning, "Record with less gain; a few may stay."),
}


def notes(lines: Sequence[str]) -> list[Finding]:
    """How the manifest was read, a note for each line that reading printed."""
    return [Finding("reading", Level.note, line) for line in lines]


def missing(gone: Sequence[Recording], n: int) -> list[Finding]:
    """Recordings of the manifest without a file, of `n` in all."""
    if not gone:
        return []
    text = f"{plural(len(gone), 'recording', n)} of the manifest {_have(len(gone))} no file"
    return [Finding("missing", Level.fault, text, "Add the files, or remove their lines.", named(gone))]


def need_ffmpeg(others: Sequence[Recording], n: int) -> list[Finding]:
    """Recordings, of `n` in all, that only ffmpeg reads, where it is not installed."""
    if not others:
        return []
    text = f"{plural(len(others), 'recording', n)} cannot be read without ffmpeg, which is not on the path"
    mend = f"Install ffmpeg, or convert each: {CONVERT}"
    return [Finding("needs ffmpeg", Level.fault, text, mend, named(others))]


def named(recordings: Sequence[Recording]) -> list[Case]:
    """The names of recordings."""
    return [Case(one.name) for one in recordings]


def unlisted(root: Path, files: Sequence[Path], listed: Sequence[Recording]) -> list[Finding]:
    """Recordings below the root that the manifest does not name."""
    known = {one.path for one in listed}
    others = [Case(path.relative_to(root).as_posix()) for path in files if path.resolve() not in known]
    if not others:
        return []
    text = f"{plural(len(others), 'recording')} below the folder {_are(len(others))} not in the manifest, and not used"
    return [Finding("unlisted", Level.note, text, "", others)]


def passed_over(others: Mapping[str, int]) -> list[Finding]:
    """Files below the root that are passed over because of their suffix.

    Args:
        others: number of files by suffix.
    """
    strange = {suffix: n for suffix, n in others.items() if suffix not in _EXPECTED}
    if not strange:
        return []
    total, kinds = sum(strange.values()), ", ".join(f"{n} {suffix}" for suffix, n in strange.items())
    text = f"{plural(total, 'file')} {_are(total)} passed over, by {_its(total)} suffix no sound: {kinds}"
    return [Finding("passed over", Level.note, text)]


def unreadable(bad: Mapping[str, str]) -> list[Finding]:
    """Recordings that cannot be decoded, and those without any sound.

    Args:
        bad: reason by name.
    """
    silent = [Case(name) for name, reason in bad.items() if reason == _SILENT]
    broken = [Case(name, reason) for name, reason in bad.items() if reason != _SILENT]
    found = []
    if broken:
        text = f"{plural(len(broken), 'recording')} cannot be read and {_are(len(broken))} left out"
        found.append(Finding("unreadable", Level.fault, text, "Export or copy them again, or remove them.", broken))
    if silent:
        text = f"{plural(len(silent), 'recording')} {_are(len(silent))} silent throughout and left out"
        mend = "Record them again; the microphone was off or muted."
        found.append(Finding("silent", Level.fault, text, mend, silent))
    return found


def mended(faults: Mapping[str, Sequence[Fault]]) -> list[Finding]:
    """Recordings whose sound has a fault: a note where it was mended, a warning where it was not.

    Args:
        faults: of each recording that has any, by name.
    """
    found = []
    for fault, what in TEXTS.items():
        if cases := [Case(name) for name, own in faults.items() if fault in own]:
            level, mend = _NOT_MENDED.get(fault, (Level.note, ""))
            found.append(Finding(fault, level, f"{plural(len(cases), 'recording')} {what}", mend, cases))
    return found


def same_sound(
    sounds: Sequence[tuple[Recording, str]], roles: Mapping[str, str], left_out: Collection[str]
) -> list[Finding]:
    """Recordings with the same sound: under different roles, in several splits, or twice in one.

    Args:
        sounds: recordings with the hash of their sound.
        roles: role by label, where recordings of another role are negatives.
        left_out: names of those that training leaves out, because a held-out recording has the same sound.
    """
    groups: dict[str, list[Recording]] = {}
    for one, hash_ in sounds:
        groups.setdefault(hash_, []).append(one)
    several = [group for group in groups.values() if len(group) > 1]
    torn = [g for g in several if len({roles.get(one.label, "negative") for one in g}) > 1]
    across = [g for g in several if g not in torn and any(one.name in left_out for one in g)]
    twice = [g for g in several if g not in torn and g not in across]
    found = []
    if torn:
        text = f"{plural(len(torn), 'sound')} {_are(len(torn))} filed under labels that exclude each other"
        found.append(Finding("labels differ", Level.fault, text, "Keep the right one of each.", _copies(torn)))
    if across:
        text = (
            f"{plural(len(across), 'sound')} {_are(len(across))} in several splits; copies nearer to train are left out"
        )
        found.append(Finding("copies in splits", Level.warning, text, "Remove the copies.", _copies(across)))
    if twice:
        text = f"{plural(len(twice), 'sound')} {_are(len(twice))} there more than once in one split, and count as often"
        found.append(Finding("copies", Level.warning, text, "Remove the copies.", _copies(twice)))
    return found


def _copies(groups: Sequence[Sequence[Recording]]) -> list[Case]:
    """The first of each group, with the others."""
    return [
        Case(
            first.name,
            f"{first.label}, {first.split}; also " + ", ".join(f"{o.name}: {o.label}, {o.split}" for o in rest),
        )
        for first, *rest in groups
    ]


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _its(n: int) -> str:
    return "its" if n == 1 else "their"


def _have(n: int) -> str:
    return "has" if n == 1 else "have"
