"""Messages for words of a command line that are wrong, with what they should be. Imports no torch."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from kws.common import files
from kws.config.renamed import refusal
from kws.config.setting import Setting


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The most similar of the known words as a question in brackets; empty if none is similar."""
    near = get_close_matches(word, list(known), 1, cutoff)
    return f" (did you mean {near[0]}?)" if near else ""


def unknown(key: str, settings: Sequence[Setting]) -> str:
    """The message for an unknown setting: the most similar name, and all settings of its group."""
    if old := refusal(key):
        return old
    allowed = sorted({one.key for one in settings})
    parent, _, last = key.rpartition(".")
    if owners := [one.option for one in settings if one.key == key]:
        return f"{key}: no such setting with the selected {parent}; it belongs to {', '.join(owners)}"
    beside = sorted({k[len(parent) + 1 :].split(".")[0] for k in allowed if parent and k.startswith(parent + ".")})
    guess = did_you_mean(key, allowed, 0.7)
    if not guess and (tails := [k for k in allowed if k.rpartition(".")[2] == last]):
        guess = f" (did you mean {' or '.join(tails[:3])}?)"
    where = f"under {parent}: {', '.join(beside)}" if beside else ", ".join(sorted({k.split(".")[0] for k in allowed}))
    return f"{key}: no such setting{guess}; settings {where}"


def no_recordings(min_clips: int) -> str:
    """The message for a run that has neither recordings nor enough synthetic clips."""
    return (
        "data.root=DIR must be given: a folder of recordings with a manifest, or one folder a label; or "
        "recipe=from_text, which synthesises the keyword and negatives (data.synthetic.positives, .sentences: "
        f"at least {min_clips} each)"
    )


def no_option(group: str, option: str, options: Sequence[str]) -> str:
    """The message for an option that a group, or the recipes, do not have."""
    if old := refusal(f"{group}={option}"):
        return old
    file = ", or a file NAME.yaml" if group == "recipe" else ""
    what = "recipe" if group == "recipe" else "option"
    guess = did_you_mean(option, options)
    return f"{group}={option}: no such {what}{guess}; must be one of {', '.join(options)}{file}"


def malformed(word: str, settings: Sequence[Setting]) -> str:
    """The message for a word that Hydra cannot read. Texts and paths are quoted, so another type is expected."""
    key = word.partition("=")[0].lstrip("+")
    if (group := next((one for one in settings if one.key == key and one.is_group), None)) is not None:
        return no_option(key, word.partition("=")[2], group.choices)
    setting = next((one for one in settings if one.key == key), None)
    if setting is None and any(one.key.startswith(f"{key}.") for one in settings):
        return f"{word}: must be settings such as {{name: value}}"
    return unknown(key, settings) if setting is None else f"{word}: must be {setting.wanted}"


def no_such_path(key: str, value: str, description: str) -> str:
    """The message for a path that does not exist: a similar one that does, and what it must be."""
    meaning = re.sub(r"^[a-z]+(, [a-z]+)*: ", "", description.partition(";")[0])  # without the actions that read it
    return f"{key}={value}: no such file or folder{files.did_you_mean(Path(value))}; expected: {meaning}"
