"""kws review: a user marks what kws listen kept as keyword or false alarm, and both go back to training."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.text import plural
from kws.config.app import verb
from kws.config.deploy import ReviewConfig
from kws.replay.buffer import Buffer
from kws.replay.review import Card, read_decisions, write_cards
from kws.runs.lock import locked
from kws.runtime.kept import KeptClip, read_kept
from kws.runtime.reviewed import BUFFER, CHOICES, MANIFEST, Marks, fill_buffer, keyword_rows, write_keywords

PAGE = "review.html"


def run(s: ReviewConfig) -> None:
    """Write the page on which a user listens and marks, or sort the clips by the decisions saved on it."""
    console, folder = Console(), Path(s.dir)
    clips = read_kept(folder)
    if s.decisions is not None:
        sort(s, clips, console)
        return
    shown = clips[: s.limit]
    write_cards(folder / PAGE, "Did somebody say the keyword?", f"Folder: {folder}", list(map(card, shown)), CHOICES)
    console.say(f"{plural(len(shown), 'clip', len(clips))} to review in {folder / PAGE}")
    console.say(f"save your decisions there, then: kws review {quote(s.dir)} decisions=decisions.json out=REVIEWED")


def card(clip: KeptClip) -> Card:
    """A clip on the page."""
    known = clip.known
    shown = {
        "keyword": known.keyword,
        "detected": f"{known.at}, {'near miss' if known.near else 'trigger'} of {known.detector}",
        "score": f"{known.score:.4f}, threshold {known.threshold:.4f}",
        "in the clip": f"{clip.trigger_s:.2f} s of {len(clip.pcm) / clip.sample_rate:.2f} s",
        "file": clip.file.name,
    }
    return Card(clip.id, shown, lambda: (clip.pcm, clip.sample_rate))


def sort(s: ReviewConfig, clips: Sequence[KeptClip], console: Console) -> None:
    """Put confirmed keywords into the manifest of `out`, and false alarms into its buffer."""
    if s.out is None:
        raise KwsError("out=... must be given: a folder for the sorted clips, such as out=REVIEWED")
    marks, out, known = read_decisions(Path(str(s.decisions)), Marks), Path(s.out), {one.id: one for one in clips}
    lists: dict[str, list[str]] = marks.model_dump()
    if unknown := [one for own in lists.values() for one in own if one not in known]:
        raise KwsError(f"decisions={s.decisions}: clip {unknown[0]} is not in {s.dir}")
    keywords, alarms, unsure = ([known[one] for one in lists[choice.name]] for choice in CHOICES)
    with locked(out):
        rows = keyword_rows(out, keywords, [*alarms, *unsure])
        with Buffer(out / BUFFER, None, clips[0].sample_rate) as buffer:
            new, replayed = len(fill_buffer(buffer, alarms, [*keywords, *unsure]).new), len(buffer)
        write_keywords(out, keywords, rows)  # last: a clip that the buffer refuses leaves the manifest as it was
    undecided = len(clips) - sum(map(len, lists.values()))
    console.say(f"keywords: {len(keywords)}; {len(rows)} in {out / MANIFEST}")
    console.say(f"false alarms: {len(alarms)}, new: {new}; {replayed} in {out / BUFFER}")
    console.say(f"{len(unsure)} unsure and {undecided} undecided are left out")
    given = [f"data.extra={out}"] if rows else []
    words = " ".join(map(quote, [*given, f"replay.buffer={out / BUFFER}"]))
    console.say(f"train with them: kws train recipe=harden init=RUN/model.pt data.root=DIR {words} out=RUN2")


main = verb("review", run)
