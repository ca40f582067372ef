"""Time synthetic clips: python -m tests.benchmarks say [clips]."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kws.confusables.synthesis import espeak
from kws.confusables.synthesis.base import Espeak, Utterance
from kws.confusables.synthesis.corpus import words
from kws.confusables.synthesis.espeak import NATIVE_RATE, Voice, resampled, speak
from kws.confusables.synthesis.plan import Prompt, Role, plan_splits
from kws.confusables.synthesis.render import render
from kws.data.audio import save_flac, to_int16
from kws.data.manifest import CONFUSABLE

CLIPS, SAMPLE, WORKERS, RATE = 10_000, 400, 2, 16000
NOTE = """\
{n} clips by espeak-ng: the keyword "computer" and single words as confusables, half each, by the
same voices; {workers} processes, {cores} cores, load {load:.1f} at first. Mean ms a clip of {sample}, one process:"""


def each(work: Callable[[int], object], n: int) -> float:
    """Mean ms of a piece of work that gets its number."""
    begun = time.perf_counter()
    for number in range(n):
        work(number)
    return 1000 * (time.perf_counter() - begun) / n


def steps(folder: Path, some: list[Utterance]) -> None:
    """Where the time of a clip goes."""
    voices = [Voice(one.voice, one.rate_wpm, one.pitch) for one in some]
    speak("warm", voices[0], RATE)

    def load(i: int) -> None:
        with espeak._engine(voices[i].name):
            pass

    native = [speak(one.text, voice, NATIVE_RATE) for one, voice in zip(some, voices, strict=True)]
    sounds = [to_int16(resampled(sound, NATIVE_RATE, RATE)) for sound in native]
    loaded = each(load, len(some))
    both = each(lambda i: speak(some[i].text, voices[i], NATIVE_RATE), len(some))
    print(f"{loaded:8.2f}   to load espeak-ng anew")
    print(f"{both - loaded:8.2f}   to synthesise {sum(map(len, sounds)) / RATE / len(sounds):.2f} s")
    print(f"{each(lambda i: resampled(native[i], NATIVE_RATE, RATE), len(some)):8.2f}   to resample")
    written = each(lambda i: save_flac(folder / f"{i}.flac", sounds[i], RATE), len(some))
    print(f"{written:8.2f}   to write FLAC, to the disk")


def main(clips_n: float = CLIPS) -> None:
    """The steps of a clip, then a whole folder."""
    n = int(clips_n)
    roles = [
        Role("computer", [Prompt("computer", keyword="computer")], n // 2),
        Role(CONFUSABLE, [Prompt(word, keyword="computer") for word in words()], n - n // 2),
    ]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(NOTE.format(n=n, workers=WORKERS, cores=os.cpu_count(), load=load, sample=min(n, SAMPLE)))
    begun = time.perf_counter()
    planned = plan_splits(Espeak(), roles, 0)
    took = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        steps(Path(folder), planned[:: max(1, n // SAMPLE)][:SAMPLE])
        print(f"{took:8.2f}   s to plan {n} clips")
        begun = time.perf_counter()
        render(Path(folder) / "clips", Espeak(), planned, WORKERS)
        print(f"{time.perf_counter() - begun:8.1f}   s to synthesise them")
