"""Piper voices that a person has: neural speech, many speakers to a model."""

import functools
import hashlib
import json
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from kws.common.errors import KwsError
from kws.common.seeding import seed_of
from kws.confusables.synthesis.base import OWN_PACE_WPM, Utterance
from kws.confusables.synthesis.espeak import plain, resampled
from kws.confusables.synthesis.mnemonics import spelt
from kws.confusables.synthesis.voices import Voices, by_name
from kws.data.audio import to_int16


@dataclass(frozen=True)
class _Speaker:
    """Who speaks: model, number within it (None where it has one speaker), and whom to people."""

    model: str
    id: int | None
    timbre: str


@dataclass(frozen=True)
class Piper:
    """The voices of a folder: each `NAME.onnx` with its `NAME.onnx.json`, as they are published.

    A voice is `NAME`, or `NAME#SPEAKER` where a model has several. Speakers of one name are one person: voices are
    published at several qualities, and speakers are in several collections.

    Piper draws its noise from a generator that each loaded model keeps. So a call of `say` loads the model anew, from a
    seed made of all its utterances, on one thread.

    Args:
        folder: of the voices.
    """

    folder: Path
    name: ClassVar[str] = "piper"
    says_phones: ClassVar[bool] = True
    at_once: ClassVar[int] = 50

    @functools.cached_property
    def _configs(self) -> dict[str, dict[str, Any]]:
        models = sorted(path for path in self.folder.glob("*.onnx") if path.is_file())
        if not models:
            raise KwsError(f"{self.folder}: no Piper voice there, NAME.onnx and NAME.onnx.json expected")
        return {model.stem: _config(model.with_name(f"{model.name}.json")) for model in models}

    @functools.cached_property
    def _speakers(self) -> dict[str, _Speaker]:
        found = {}
        for model, config in self._configs.items():
            if config["num_speakers"] <= 1:
                pieces = model.split("-")  # en_US-lessac-medium: language, who, quality
                found[model] = _Speaker(model, None, pieces[1] if len(pieces) == 3 else model)
                continue
            ids = config.get("speaker_id_map") or {}
            for who, number in sorted(ids.items(), key=lambda item: item[1]):
                found[f"{model}#{who}"] = _Speaker(model, number, who)
            for number in sorted({*range(config["num_speakers"])} - {*ids.values()}):
                found[f"{model}#{number}"] = _Speaker(model, number, f"{model}#{number}")
        return found

    def voices(self) -> Voices:
        """All speakers of all models, divided by their names."""
        timbres: dict[str, list[str]] = {}
        for voice, speaker in self._speakers.items():
            timbres.setdefault(speaker.timbre, []).append(voice)
        return by_name(timbres)

    def speaker(self, voice: str) -> str:
        """The person."""
        return self._speakers[voice].timbre

    def model(self, voice: str) -> str:
        """The model's name."""
        return self._speakers[voice].model

    def manner(self, utterance: Utterance) -> str:
        """Voice and rate; pitch is as the voice has it."""
        return f"{utterance.voice}, {utterance.rate_wpm} wpm"

    def identity(self, voices: Collection[str]) -> dict[str, object]:
        """The release of Piper, and the content of each model in use."""
        hashes = {}
        for model in sorted({self.model(voice) for voice in voices}):
            for file in (f"{model}.onnx", f"{model}.onnx.json"):
                with (self.folder / file).open("rb") as content:
                    hashes[file] = hashlib.file_digest(content, "sha256").hexdigest()
        return {"synthesiser": self.name, "release": _packages()[2], "models": hashes}

    def say(self, utterances: Sequence[Utterance], sample_rate: int) -> Iterator[npt.NDArray[np.int16]]:
        """See `Synthesiser`; raises KwsError for a model that does not load, and for phones that it has not."""
        piper, onnxruntime, _ = _packages()
        model = self.model(utterances[0].voice)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        onnxruntime.set_seed(seed_of(0, "piper", *map(str, utterances)) % 2**31)
        file = self.folder / f"{model}.onnx"
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            voice = piper.PiperVoice(session=session, config=piper.PiperConfig.from_dict(self._configs[model]))
        except Exception as error:  # what a damaged model makes of the runtime is no closed list
            raise KwsError(f"{file}: not a Piper voice ({_first_line(error)})") from error
        for one in utterances:
            try:
                pace = voice.config.length_scale * OWN_PACE_WPM / one.rate_wpm
                how = piper.SynthesisConfig(speaker_id=self._speakers[one.voice].id, length_scale=pace)
                chunks = list(voice.synthesize(_written(one, voice, file), how))
            except KwsError:
                raise
            except Exception as error:
                raise KwsError(f"{file}: cannot say {one.phones or one.text!r} ({_first_line(error)})") from error
            sounds = [np.zeros(0, np.float32), *(chunk.audio_float_array.reshape(-1) for chunk in chunks)]
            sound = np.concatenate(sounds)
            if not (np.isfinite(sound).all() and sound.any()):
                raise KwsError(f"{file}: says nothing for {one.phones or one.text!r}")
            yield to_int16(resampled(sound, voice.config.sample_rate, sample_rate))


def _packages() -> tuple[Any, Any, str]:
    """piper, onnxruntime and the release of piper."""
    try:
        import onnxruntime
        import piper
    except ImportError as error:
        raise KwsError("Piper voices need the extra kws[piper]: pip install 'kws[piper]'") from error
    from importlib.metadata import version

    return piper, onnxruntime, version("piper-tts")


def _config(file: Path) -> dict[str, Any]:
    """The settings of a voice, as far as they are needed here, checked."""
    try:
        config = json.loads(file.read_text("utf-8"))
        speakers, ids = config["num_speakers"], config.get("speaker_id_map") or {}
        fits = type(speakers) is int and 0 <= speakers <= 100_000 and config["audio"]["sample_rate"] >= 8000
        fits &= all(who.isprintable() and type(i) is int and 0 <= i < max(1, speakers) for who, i in ids.items())
        fits &= isinstance(config["phoneme_id_map"], dict)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KwsError(f"{file}: not the settings of a Piper voice ({_first_line(error)})") from error
    if not fits:
        raise KwsError(f"{file}: not the settings of a Piper voice")
    return dict(config)


def _written(one: Utterance, voice: Any, file: Path) -> str:
    """What Piper reads: a plain text, or phones in the brackets that it obeys. What it would leave out is an error."""
    shown = f"{file}: {one.phones or one.text!r}"
    reads_phones = voice.config.phoneme_type == "espeak"
    if one.phones and not reads_phones:
        raise KwsError(f"{shown}: this voice reads letters, it says no phones")
    if one.phones:
        written, signs = f"[[{spelt(one.phones)}]]", {*spelt(one.phones)} - {" "}
        unknown = signs - ({*voice.config.phoneme_id_map} - {"[", "]"})
    else:
        written = plain(one.text).replace("[", " ")
        signs = {sign for sentence in voice.phonemize(written) for sign in sentence} if reads_phones else set()
        # Voices may do without punctuation, but not without sounds.
        unknown = {s for s in signs - {*voice.config.phoneme_id_map} if unicodedata.category(s[0])[0] in "LMN"}
    if unknown:
        raise KwsError(f"{shown}: this voice has no sound {min(unknown)!r}")
    return written


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n") or [""])[0][:200] or type(error).__name__
