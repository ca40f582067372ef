"""Recordings that a detector knows from its training: figures on them say little about new recordings."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.data.audio import BadAudio, file_hash
from kws.data.manifest import Split
from kws.data.names import shown
from kws.detector.checkpoint import TRAINED_N, read_model

MODEL = "model.pt"


def file_hashes(files: Sequence[Path], sample_rate: int) -> dict[str, list[str]]:
    """Content hashes of recordings at a sample rate in Hz, by name. Those that do not decode are left out."""
    found = {}
    for file in files:
        try:
            found[shown(str(file))] = [file_hash(file, sample_rate)]
        except BadAudio:
            continue
    return found


def warn_known(console: Console, detector: Path, hashes: Callable[[], Mapping[str, Collection[str]]]) -> None:
    """Warn of recordings that trained a detector, or that placed its threshold.

    They are known where the detector is the model.pt of a run, or lies beside it.

    Args:
        console: prints the warning.
        detector: file of the detector.
        hashes: gives the content hashes of each recording, by name; called only where the training is known.
    """
    try:
        model = read_model(detector if detector.name == MODEL else detector.with_name(MODEL))
    except KwsError:
        return
    placed, found = {source.hash for source in model.held_out if source.split is Split.VALIDATION}, hashes()
    trained = [name for name, own in found.items() if any(one[:TRAINED_N] in model.trained_on for one in own if one)]
    placing = [name for name, own in found.items() if placed.intersection(own) and name not in trained]
    for what, names in (("trained it", trained), ("placed its threshold", placing)):
        if names:
            console.warn(
                f"{detector}: {len(names)} of the {len(found)} recordings {what}, such as {names[0]}; the figures on "
                "them say little about new recordings"
            )
