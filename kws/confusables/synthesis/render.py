"""Synthesise the clips of a plan into a folder.

The bytes depend neither on the number of processes nor on interruptions.
"""

import csv
import hashlib
import io
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple
from pathlib import Path

from kws.common.errors import KwsError
from kws.common.files import remove_drafts, replacing
from kws.confusables.synthesis.base import Synthesiser, Utterance
from kws.data.audio import save_flac

MANIFEST, ARGUMENTS = "manifest.csv", "arguments.json"
COLUMNS = ("path", "label", "speaker", "text", "part", "source", "keyword", "phonemes")


def render(
    folder: Path,
    synthesiser: Synthesiser,
    utterances: Sequence[Utterance],
    workers: int = 2,
    sample_rate: int = 16000,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Path:
    """Synthesise a plan into `folder` and return its `manifest.csv`; an interrupted call is resumed.

    The same plan gives the same bytes, whatever the number of workers and however often it was interrupted. The
    manifest is written last. One call at a time may work on a folder.

    Args:
        folder: gets `<split>/<label>/<text>-<number>.flac`.
        synthesiser: the one that the plan was made with.
        utterances: of `plan.plan` or `plan.plan_splits`.
        workers: processes that synthesise, at least 1; 1 is this one. More processes import the main module, as spawned
            processes do: a script that calls this needs `if __name__ == "__main__"`.
        sample_rate: of the clips, Hz.
        progress: called with (clips done, clips in all).

    Raises:
        KwsError: the folder holds other recordings, or an utterance cannot be synthesised.
    """
    if not utterances:
        raise KwsError("the plan has no clips")
    rows = [astuple(one) for one in utterances]
    arguments = {
        **synthesiser.identity({one.voice for one in utterances}),
        "sample_rate": sample_rate,
        "clips": len(utterances),
        "plan": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }
    encoded, manifest = json.dumps(arguments, indent=1).encode(), folder / MANIFEST
    claimed = (folder / ARGUMENTS).exists()
    if (claimed or manifest.exists()) and not (claimed and (folder / ARGUMENTS).read_bytes() == encoded):
        raise KwsError(f"{folder}: holds other recordings; name a new folder, or delete this one")
    if manifest.exists():
        return manifest
    for parent in sorted({(folder / one.file).parent for one in utterances}):
        parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder / ARGUMENTS) as target:
        target.write(encoded)
    for place in (folder, *{(folder / one.file).parent for one in utterances}):
        remove_drafts(place)
    chunks = [chunk for chunk in _chunks(synthesiser, utterances) if not all((folder / u.file).exists() for u in chunk)]
    done = len(utterances) - sum(map(len, chunks))
    progress(done, len(utterances))
    for more in _render_chunks(folder, synthesiser, chunks, workers, sample_rate):
        done += more
        progress(done, len(utterances))
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerow(COLUMNS)
    for one in utterances:
        speaker = f"{synthesiser.name} {synthesiser.speaker(one.voice)}"
        source = f"{synthesiser.name} {synthesiser.describe(one)}"
        row = (one.file, one.label, speaker, one.text, one.split, source, one.keyword, one.phonemes)
        csv.writer(table, lineterminator="\n").writerow(row)
    with replacing(manifest) as target:
        target.write(table.getvalue().encode())
    return manifest


def _chunks(synthesiser: Synthesiser, utterances: Sequence[Utterance]) -> list[list[Utterance]]:
    """The utterances of each call of the synthesiser, model by model.

    They depend on the plan alone, because the noise of a model depends on all utterances of a call.
    """
    by_model: dict[str, list[Utterance]] = {}
    for one in utterances:
        by_model.setdefault(synthesiser.model(one.voice), []).append(one)
    size = synthesiser.batch_size
    return [some[i : i + size] for some in by_model.values() for i in range(0, len(some), size)]


def _render_chunk(folder: Path, synthesiser: Synthesiser, chunk: Sequence[Utterance], sample_rate: int) -> int:
    for one, pcm in zip(chunk, synthesiser.synthesise(chunk, sample_rate), strict=True):
        save_flac(folder / one.file, pcm, sample_rate)
    return len(chunk)


def _render_chunks(
    folder: Path, synthesiser: Synthesiser, chunks: Sequence[Sequence[Utterance]], workers: int, sample_rate: int
) -> Iterator[int]:
    """Synthesise all chunks; yields the number of clips of each as it is done."""
    if min(workers, len(chunks)) <= 1:
        for chunk in chunks:
            yield _render_chunk(folder, synthesiser, chunk, sample_rate)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(chunks)), spawn, _worker) as pool:
        try:
            waiting = [pool.submit(_render_chunk, folder, synthesiser, chunk, sample_rate) for chunk in chunks]
            for future in as_completed(waiting):
                yield future.result()
        except BrokenProcessPool as error:
            raise KwsError(f"{folder}: a synthesis process was killed; the same call resumes") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _worker() -> None:
    """Ignore Ctrl-C and exit with the parent process, which could not stop its workers if it were killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
