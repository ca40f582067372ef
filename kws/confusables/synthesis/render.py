"""A plan becomes clips: said by several processes, to the same bytes however many they are and wherever it stopped."""

import csv
import hashlib
import io
import json
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple
from pathlib import Path

from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.confusables.synthesis.base import Synthesiser, Utterance
from kws.data.audio import save_flac

COLUMNS = ("path", "label", "speaker", "text", "part", "source", "keyword", "phones")
_DRAFT = re.compile(r".+\.[0-9a-f]{32}\.tmp")  # of `replacing`


def say(
    folder: Path,
    synthesiser: Synthesiser,
    utterances: Sequence[Utterance],
    workers: int = 2,
    sample_rate: int = 16000,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Path:
    """Say a plan into `folder` and return its `manifest.csv`; an interrupted call is gone on with.

    The same plan makes the same bytes, whatever the number of workers and however often it was interrupted. The
    manifest is written last. One call at a time may work on a folder.

    Args:
        folder: gets `<part>/<label>/<text>-<number>.flac`.
        synthesiser: that the plan was made with.
        utterances: of `plan.plan` or `plan.plan_parts`.
        workers: processes that synthesise, at least 1; 1 is this one. More import the main module, as processes do that
            are spawned: a script that calls this guards itself by `if __name__ == "__main__"`.
        sample_rate: of the clips, Hz.
        progress: called with (clips done, clips in all).

    Raises KwsError for a folder that holds something else, and where an utterance cannot be said.
    """
    if not utterances:
        raise KwsError("a plan without clips: nothing to say")
    rows = [astuple(one) for one in utterances]
    arguments = {
        **synthesiser.identity({one.voice for one in utterances}),
        "sample_rate": sample_rate,
        "clips": len(utterances),
        "plan": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }
    if is_complete(folder, arguments):
        return folder / MANIFEST
    begin(folder, arguments, (one.file for one in utterances))
    for draft in folder.rglob("*.tmp"):  # of a call that was killed
        if _DRAFT.fullmatch(draft.name):
            draft.unlink()
    chunks = [chunk for chunk in _chunks(synthesiser, utterances) if not all((folder / u.file).exists() for u in chunk)]
    done = len(utterances) - sum(map(len, chunks))
    progress(done, len(utterances))

    def tell(more: int) -> None:
        nonlocal done
        done += more
        progress(done, len(utterances))

    _say_all(folder, synthesiser, chunks, workers, sample_rate, tell)
    return finish(folder, COLUMNS, (_row(synthesiser, one) for one in utterances))


def _row(synthesiser: Synthesiser, one: Utterance) -> tuple[str, ...]:
    speaker = f"{synthesiser.name} {synthesiser.speaker(one.voice)}"
    source = f"{synthesiser.name} {synthesiser.manner(one)}"
    return one.file, one.label, speaker, one.text, one.split, source, one.keyword, one.phones


def _chunks(synthesiser: Synthesiser, utterances: Sequence[Utterance]) -> list[list[Utterance]]:
    """What is said in one go, model by model: it depends on the plan alone, since a model's noise runs through it."""
    by_model: dict[str, list[Utterance]] = {}
    for one in utterances:
        by_model.setdefault(synthesiser.model(one.voice), []).append(one)
    size = synthesiser.at_once
    return [some[i : i + size] for some in by_model.values() for i in range(0, len(some), size)]


def _say_chunk(folder: Path, synthesiser: Synthesiser, chunk: Sequence[Utterance], sample_rate: int) -> int:
    for one, pcm in zip(chunk, synthesiser.say(chunk, sample_rate), strict=True):
        save_flac(folder / one.file, pcm, sample_rate)
    return len(chunk)


def _say_all(
    folder: Path,
    synthesiser: Synthesiser,
    chunks: Sequence[Sequence[Utterance]],
    workers: int,
    sample_rate: int,
    tell: Callable[[int], None],
) -> None:
    if min(workers, len(chunks)) <= 1:
        for chunk in chunks:
            tell(_say_chunk(folder, synthesiser, chunk, sample_rate))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(chunks)), spawn, _worker) as pool:
        try:
            waiting = [pool.submit(_say_chunk, folder, synthesiser, chunk, sample_rate) for chunk in chunks]
            for future in as_completed(waiting):
                tell(future.result())
        except BrokenProcessPool as error:
            raise KwsError(
                f"{folder}: a process that synthesised was killed; the same call goes on from here"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _worker() -> None:
    """A process that leaves Ctrl-C to its parent, and does not outlive it: a killed parent tells no one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


MANIFEST, ARGUMENTS = "manifest.csv", "arguments.json"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


def is_complete(folder: Path, arguments: Mapping[str, object]) -> bool:
    """Whether the clips that these arguments make are all there; some or none may be, for `begin` to go on with.

    Raises KwsError for a folder that holds something else.
    """
    file, complete = folder / ARGUMENTS, (folder / MANIFEST).exists()
    if (complete or file.exists()) and not (file.exists() and file.read_bytes() == _encoded(arguments)):
        raise KwsError(f"{folder}: holds other recordings; name a new folder, or delete this one")
    return complete


def begin(folder: Path, arguments: Mapping[str, object], files: Iterable[str]) -> None:
    """Claim the folder for these arguments, and make the folders of its files."""
    for parent in sorted({(folder / file).parent for file in files}):
        parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder / ARGUMENTS) as target:
        target.write(_encoded(arguments))


def _encoded(arguments: Mapping[str, object]) -> bytes:
    return json.dumps(arguments, indent=1).encode()


def finish(folder: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write the manifest, the last of a folder, and return its path."""
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows([columns, *rows])
    with replacing(folder / MANIFEST) as target:
        target.write(table.getvalue().encode())
    return folder / MANIFEST


def plain_name(text: str) -> str:
    """`text` where it is a plain name, else what is plain of it and a hash: never a path."""
    plain = "".join(char if char in _PLAIN else "-" for char in text.lower())[:40]
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
