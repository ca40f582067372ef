"""Any command as a synthesiser: it gets a text and writes an audio file."""

import re
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from kws.common.errors import KwsError, printable
from kws.confusables.synthesis.base import Synthesiser, Utterance
from kws.confusables.synthesis.espeak import plain
from kws.confusables.synthesis.voices import Voices, split_by_hash
from kws.data.audio import BadAudio, load, to_int16

PLACEHOLDERS = ("text", "voice", "wav", "rate", "pitch")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class Command(Synthesiser):
    """A command line as a list of arguments, run as it is: no shell reads it.

    `{text}`, `{voice}`, `{wav}` (the file to write, in any format that kws reads), `{rate}` (words per minute) and
    `{pitch}` (0 to 99) stand for their values within an argument. Equal utterances give equal bytes only where the
    command does so.

    Args:
        template: such as `("say", "-v", "{voice}", "-o", "{wav}", "{text}")`.
        names: the voices; each is a timbre of its own.
        timeout_s: longest time of an utterance, above 0.

    Raises:
        KwsError: the template lacks `{text}` or `{wav}`, or has another placeholder, or a voice is malformed.
    """

    template: tuple[str, ...]
    names: tuple[str, ...] = ("default",)
    timeout_s: float = 60.0
    name: ClassVar[str] = "command"
    batch_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        shown = list(self.template)
        used = [name for word in self.template for name in _PLACEHOLDER.findall(word)]
        if unknown := [name for name in used if name not in PLACEHOLDERS]:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise KwsError(f"command: {shown}: {{{unknown[0]}}} must be one of {known}")
        if missing := [name for name in ("text", "wav") if name not in used]:
            raise KwsError(f"command: {shown}: {{{missing[0]}}} is missing")
        if not self.template[0] or _PLACEHOLDER.search(self.template[0]):
            raise KwsError(f"command: {shown}: must begin with a program")
        if not self.names or len(set(self.names)) < len(self.names):
            raise KwsError(f"command: voices {list(self.names)}: must be one or more, each only once")
        for name in self.names:
            if not name.isprintable() or not name[:1].isalnum():
                raise KwsError(f"command: voice {name!r}: must begin with a letter or digit")
        if len(self.names) > 1 and "voice" not in used:
            raise KwsError(f"command: {shown}: {{voice}} is missing, and there are {len(self.names)} voices")
        if not self.timeout_s > 0:
            raise KwsError(f"command: timeout_s={self.timeout_s}: must be above 0")

    def voices(self) -> Voices:
        return split_by_hash({name: [name] for name in self.names})

    def describe(self, utterance: Utterance) -> str:
        values = {"voice": "{voice}", "rate": "{rate} wpm", "pitch": "pitch {pitch}"}
        used = [words for name, words in values.items() if f"{{{name}}}" in "".join(self.template)]
        return ", ".join([Path(self.template[0]).name, *(_filled(words, utterance, Path()) for words in used)])

    def identity(self, voices: Collection[str]) -> dict[str, object]:
        return {"synthesiser": self.name, "template": list(self.template)}

    def synthesise(self, utterances: Sequence[Utterance], sample_rate: int) -> Iterator[npt.NDArray[np.int16]]:
        """Run the command for each utterance; raises KwsError if it fails, times out or writes no sound."""
        for one in utterances:
            with tempfile.TemporaryDirectory() as folder:
                yield self._run(one, Path(folder), sample_rate)

    def _run(self, one: Utterance, folder: Path, sample_rate: int) -> npt.NDArray[np.int16]:
        wav, log = folder / "speech.wav", folder / "log.txt"
        words = [_filled(word, one, wav) for word in self.template]
        where = f"command: {self.template[0]} for {one.text!r}"
        try:
            with log.open("wb") as output:  # a pipe would stay open as long as any child of the command
                done = subprocess.run(
                    words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=self.timeout_s, check=False
                )
        except subprocess.TimeoutExpired:
            raise KwsError(f"{where}: timed out after {self.timeout_s:g} s") from None
        except OSError as error:
            raise KwsError(f"{where}: cannot be run ({error.strerror})") from error
        if done.returncode != 0:
            lines = log.read_text("utf-8", "replace").split("\n")
            last = next((printable(line.strip()) for line in reversed(lines) if line.strip()), "no message")
            raise KwsError(f"{where}: exit code {done.returncode} ({last[:200]})")
        if not wav.is_file():
            raise KwsError(f"{where}: wrote no file {{wav}}")
        try:
            return to_int16(load(wav, sample_rate))
        except BadAudio as error:
            raise KwsError(f"{where}: wrote a file that is not usable audio ({error.reason})") from error


def _filled(word: str, one: Utterance, wav: Path) -> str:
    """Fill in an argument. A text that begins with a sign gets a space before it, so that it is no option or file."""
    text = plain(one.text)
    if word.startswith("{text}") and not text[0].isalnum():
        text = f" {text}"
    values = {
        "text": text, "voice": one.voice, "wav": str(wav), "rate": str(one.rate_wpm), "pitch": str(one.pitch),
    }  # fmt: skip
    return _PLACEHOLDER.sub(lambda found: values[found[1]], word)
