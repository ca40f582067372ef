"""Clips that a person brings: recordings that are not the keyword, or sound like it."""

from collections.abc import Callable
from pathlib import Path

from kws.audio import BadAudio, content_hash, load, sound_files, to_int16
from kws.errors import KwsError
from kws.manifest import Part
from kws.replay.clip import Found, Kind, Source
from kws.replay.transfer import inside
from kws.replay.wire import LONGEST_S

RUN = "kws buffer import"


def brought(
    folder: Path,
    kind: Kind,
    keyword: str,
    text: str,
    sample_rate: int,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[Found], list[BadAudio]]:
    """Every recording of a folder as a clip, whole, and those that do not decode.

    Args:
        folder: searched through; a link that leads out of it is refused.
        kind: what they come in as.
        keyword: what they are not, though they may sound like it.
        text: what is said in all of them, where it is known.
        sample_rate: Hz of the buffer.
        progress: called after each recording with how many are done, and of how many.

    Raises:
        KwsError: no recording there, one that lies elsewhere, or one that is no clip but hours to be mined.
    """
    found, bad, files = [], [], sound_files(folder, "folder")
    for number, file in enumerate(files, 1):
        try:
            pcm = to_int16(load(inside(folder, file), sample_rate))
        except BadAudio as error:
            bad.append(error)
            continue
        if len(pcm) > LONGEST_S * sample_rate:
            raise KwsError(
                f"{file}: {len(pcm) / sample_rate:.0f} s long; a clip is at most {LONGEST_S} s, kws mine finds those"
            )
        source = Source(content_hash(pcm), file.relative_to(folder).as_posix(), Part.TRAIN)
        found.append(Found(pcm, kind, keyword, source, 0.0, None, "", RUN, 0, text))
        progress(number, len(files))
    return found, bad
