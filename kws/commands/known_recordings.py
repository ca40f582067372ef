"""Recordings that a detector knows from its training: figures on them say little about new recordings."""

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.data.audio import BadAudio, file_hash
from kws.data.manifest import Split
from kws.data.names import shown
from kws.detector.checkpoint import TRAINED_N, Checkpoint, read_model

MODEL = "model.pt"


def file_hashes(files: Sequence[Path], sample_rate: int, console: Console) -> dict[str, list[str]]:
    """Content hashes of recordings at a sample rate in Hz, by name. Those that do not decode are left out."""
    found = {}
    with console.progress("Comparing with the training", len(files)) as tick:
        for done, file in enumerate(files, 1):
            with contextlib.suppress(BadAudio):
                found[shown(str(file))] = [file_hash(file, sample_rate)]
            tick(done)
    return found


def warn_known(console: Console, detector: Path, hashes: Callable[[], Mapping[str, Collection[str]]]) -> None:
    """Warn of recordings that trained a detector, or that placed its threshold.

    They are known where the detector is a checkpoint, or lies beside the model.pt of its run.

    Args:
        console: prints the warning.
        detector: file of the detector.
        hashes: gives the content hashes of each recording, by name: its own, then that of the file which it is a part
            of; called only where the training is known.
    """
    model = _model(detector) or _model(detector.with_name(MODEL))
    if model is None:
        return
    held_out, found = {source.hash for source in model.held_out}, hashes()
    placed = {source.hash for source in model.held_out if source.split is Split.VALIDATION}
    # Other parts of the file of a held-out part may have trained.
    new = {name: own for name, own in found.items() if not held_out.intersection(own)}
    trained = [name for name, own in new.items() if any(one[:TRAINED_N] in model.trained_on for one in own if one)]
    placing = [name for name, own in found.items() if placed.intersection(own) and name not in trained]
    for what, names in (("trained it", trained), ("placed its threshold", placing)):
        if names:
            console.warn(
                f"{detector}: {len(names)} of the {len(found)} recordings {what}, such as {names[0]}; the figures on "
                "them say little about new recordings"
            )


def _model(file: Path) -> Checkpoint | None:
    try:
        return read_model(file)
    except KwsError:
        return None
