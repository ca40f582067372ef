"""What a person hears of the buffer: one HTML page with players, and the decisions that come back from it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.data.audio import flac
from kws.evaluation.report.html import encoded, head, player
from kws.replay.records import HASH

_MOST_BYTES = 50_000_000  # of a decisions file: room for 700 000 hashes

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
header { position: sticky; top: 0; background: #fff; border-bottom: 1px solid #ddd; padding: 0.5rem 0; z-index: 1; }
fieldset { border: 1px solid #ddd; margin: 1rem 0; padding: 0.5rem 1rem; scroll-margin-top: 9rem; }
fieldset:focus-within { border-color: #0072b2; }
fieldset:has(input:checked) { background: #f4f4f4; }
audio { width: 100%; height: 2.5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; margin: 0.5rem 0; }
dt { color: #666; }
dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; font-variant-numeric: tabular-nums; }
label { margin-right: 1.5rem; }
"""

# Holds no data: what it knows of the clips it reads from the attributes of the page.
_SCRIPT = """
"use strict";
const cards = [...document.querySelectorAll("[data-hash]")];
const count = document.getElementById("count");
const chosen = (value) =>
  cards.filter((card) => card.querySelector(`input[value=${value}]`).checked).map((card) => card.dataset.hash);
let unsaved = false;

function show() {
  const release = chosen("release").length, reject = chosen("reject").length;
  count.textContent =
    `${release + reject} of ${cards.length} decided: ${release} to release, ${reject} to reject`;
}

function save() {
  const text = JSON.stringify({ release: chosen("release"), reject: chosen("reject") }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "decisions.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  unsaved = false;
}

function decide(card, value) {
  for (const input of card.querySelectorAll("input")) input.checked = input.value === value;
  changed();
}

function changed() {
  unsaved = true;
  show();
}

function go(card) {
  if (!card) return;
  card.focus();
  card.scrollIntoView({ block: "nearest" });
}

document.addEventListener("change", changed);
document.addEventListener("click", (event) => {
  if (event.target.id === "save") save();
  if (event.target.matches("fieldset button")) decide(event.target.closest("[data-hash]"), "");
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const at = cards.indexOf(document.activeElement.closest("[data-hash]"));
  const card = cards[at];
  const keys = {
    j: () => go(cards[at + 1]),
    k: () => go(cards[at - 1]),
    p: () => { const player = card.querySelector("audio"); player.paused ? player.play() : player.pause(); },
    r: () => decide(card, "release"),
    x: () => decide(card, "reject"),
    u: () => decide(card, ""),
  };
  if (!Object.hasOwn(keys, event.key) || (!card && event.key !== "j")) return;
  event.preventDefault();
  keys[event.key]();
});
document.addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio")) if (player !== event.target) player.pause();
}, true);
window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
show();
"""

_HEADER = """<header><p><button type="button" id="save">save decisions</button>
<output id="count"></output></p>
<p>Release: it is not the keyword, train on it. Reject: it is, or is junk; never train on it.<br>
Keys: <kbd>j</kbd> next, <kbd>k</kbd> previous, <kbd>p</kbd> play, <kbd>r</kbd> release, <kbd>x</kbd> reject,
<kbd>u</kbd> undecided.</p><noscript>Decisions can be made only where scripts may run.</noscript></header>"""


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """A clip as the page shows it.

    Args:
        hash: the clip, 64 hexadecimal digits.
        pcm: its sound.
        sample_rate: Hz.
        keyword, kind: what it triggered, and how it was found.
        recording: name of the recording it was cut from.
        offset_s: where it begins there, in seconds.
        score: when it was found, 0 to 1; None where nothing had scored it.
        score_now: the last one since; None where there is none.
        text: what is said, where it is known.
        reason: why it is in quarantine.

    Shape: pcm int16 [T].
    """

    hash: str
    pcm: NDArray[np.int16]
    sample_rate: int
    keyword: str
    kind: str
    recording: str
    offset_s: float
    score: float | None
    score_now: float | None = None
    text: str = ""
    reason: str = ""


def write_review(path: Path, clips: Sequence[Card], title: str, buffer: str) -> None:
    """Write the page on which a person hears clips and decides: no file beside it, nothing fetched, names stay text.

    Args:
        path: where to; its folder exists. An older page is replaced at once or not at all.
        clips: shown with the highest latest score first, those without a score last.
        title: heading.
        buffer: the buffer they are of, as people know it.

    Raises:
        OSError: the disk is full or fails.
    """
    with replacing(path) as file:

        def write(text: str) -> None:
            file.write(encoded(text))

        write(head(title, _STYLE, _SCRIPT) + f"<p>Buffer: {escape(buffer)}</p>")
        write(_HEADER if clips else "<p>There is nothing to review.</p>")
        for clip in sorted(clips, key=_hardness, reverse=True):
            write(_card(clip))
        write(f"<script>{_SCRIPT}</script></body></html>\n" if clips else "</body></html>\n")


def _hardness(clip: Card) -> float:
    latest = clip.score if clip.score_now is None else clip.score_now
    return -1.0 if latest is None else latest


def _card(clip: Card) -> str:
    facts = {
        "keyword": clip.keyword,
        "kind": clip.kind,
        "recording": clip.recording,
        "offset": f"{clip.offset_s:.2f} s",
        "length": f"{len(clip.pcm) / clip.sample_rate:.2f} s",
        "text": clip.text,
        "score found": "" if clip.score is None else f"{clip.score:.4f}",
        "score now": "" if clip.score_now is None else f"{clip.score_now:.4f}",
        "reason": clip.reason,
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(value) or '-'}</dd>" for name, value in facts.items())
    clip_hash = escape(clip.hash)
    # A browser that brings old choices back on reload would lay them to other clips if the page changed meanwhile.
    radios = "".join(
        f'<label><input type="radio" name="{clip_hash}" value="{value}" autocomplete="off"> {value}</label>'
        for value in ("release", "reject")
    )
    return (
        f'<fieldset data-hash="{clip_hash}" tabindex="-1"><legend><code>{escape(clip.hash[:12])}</code></legend>'
        f"{player(flac(clip.pcm, clip.sample_rate))}"
        f'<dl>{rows}</dl>{radios}<button type="button">undecided</button></fieldset>\n'
    )


def read_decisions(path: Path) -> tuple[list[str], list[str]]:
    """What a person decided on the page: hashes of the clips to release, and of those to reject.

    Args:
        path: JSON, {"release": [hashes], "reject": [hashes]} and nothing else.

    Raises:
        KwsError: no such file, above 50 MB, or anything else in it; a clip both released and rejected.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise KwsError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > _MOST_BYTES:
        raise KwsError(f"{path}: above {_MOST_BYTES // 10**6} MB, a file of decisions expected")
    try:
        decisions = json.loads(content, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise KwsError(f"{path}: not JSON ({error})") from error
    if not isinstance(decisions, dict) or decisions.keys() != {"release", "reject"}:
        raise KwsError(f'{path}: an object with exactly the keys "release" and "reject" expected')
    for key, clips in decisions.items():
        if not isinstance(clips, list):
            raise KwsError(f"{path}: {key}: a list of hashes expected")
        for clip in clips:
            if not isinstance(clip, str) or not HASH.fullmatch(clip):
                raise KwsError(f"{path}: {key}: {str(clip)[:80]!r}, 64 hexadecimal digits expected")
    release, reject = decisions["release"], decisions["reject"]
    if both := set(release) & set(reject):
        raise KwsError(f"{path}: clip {min(both)} is both released and rejected")
    return release, reject


def _once(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON; the last of two equal keys must not hide the first."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key[:80]!r} twice")
        found[key] = value
    return found
