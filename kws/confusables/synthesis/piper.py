"""Piper voices that the user has: neural speech, one or many speakers a model."""

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

from kws.common.errors import KwsError, first_line, missing_extra
from kws.common.seeding import seed_of
from kws.confusables.synthesis.base import OWN_PACE_WPM, Synthesiser, Utterance
from kws.confusables.synthesis.espeak import phonemes_to_ipa, plain, resampled
from kws.confusables.synthesis.voices import Voices, split_by_hash
from kws.data.audio import to_int16


@dataclass(frozen=True)
class _Speaker:
    """A speaker: model, number within it (None where the model has one speaker), and name."""

    model: str
    id: int | None
    timbre: str


@dataclass(frozen=True)
class Piper(Synthesiser):
    """The voices of a folder: each `NAME.onnx` with its `NAME.onnx.json`, as they are published.

    A voice is `NAME`, or `NAME#SPEAKER` where a model has several. Speakers of one name are one person: voices are
    published at several qualities, and speakers are in several collections. Speakers are divided over the splits by a
    hash of their names. The pitch is the voice's own.

    Each loaded model keeps a generator of noise. A call of `synthesise` therefore loads the model anew, on one thread,
    with a seed made of all its utterances.

    Args:
        folder: of the voices.
        language: of espeak-ng's, in which phoneme strings are pronounced.
    """

    folder: Path
    language: str = "en-us"
    name: ClassVar[str] = "piper"
    speaks_phonemes: ClassVar[bool] = True

    @functools.cached_property
    def _configs(self) -> dict[str, dict[str, Any]]:
        models = sorted(path for path in self.folder.glob("*.onnx") if path.is_file())
        if not models:
            raise KwsError(f"{self.folder}: no Piper voice; must hold NAME.onnx and NAME.onnx.json")
        return {model.stem: _config(model.with_name(f"{model.name}.json")) for model in models}

    @functools.cached_property
    def _speakers(self) -> dict[str, _Speaker]:
        found = {}
        for model, config in self._configs.items():
            if config["num_speakers"] <= 1:
                pieces = model.split("-")  # en_US-lessac-medium: language, speaker, quality
                found[model] = _Speaker(model, None, pieces[1] if len(pieces) == 3 else model)
                continue
            ids = config.get("speaker_id_map") or {}
            for name, number in sorted(ids.items(), key=lambda item: item[1]):
                found[f"{model}#{name}"] = _Speaker(model, number, name)
            for number in sorted({*range(config["num_speakers"])} - {*ids.values()}):
                found[f"{model}#{number}"] = _Speaker(model, number, f"{model}#{number}")
        return found

    def voices(self) -> Voices:
        timbres: dict[str, list[str]] = {}
        for voice, speaker in self._speakers.items():
            timbres.setdefault(speaker.timbre, []).append(voice)
        return split_by_hash(timbres)

    def speaker(self, voice: str) -> str:
        return self._speakers[voice].timbre

    def model(self, voice: str) -> str:
        return self._speakers[voice].model

    def describe(self, utterance: Utterance) -> str:
        return f"{utterance.voice}, {utterance.rate_wpm} wpm"

    def identity(self, voices: Collection[str]) -> dict[str, object]:
        """The release of Piper, a hash of each model in use, and the language of phoneme strings."""
        hashes = {}
        for model in sorted({self.model(voice) for voice in voices}):
            for file in (f"{model}.onnx", f"{model}.onnx.json"):
                with (self.folder / file).open("rb") as content:
                    hashes[file] = hashlib.file_digest(content, "sha256").hexdigest()
        return {"synthesiser": self.name, "release": _packages()[2], "models": hashes, "language": self.language}

    def synthesise(self, utterances: Sequence[Utterance], sample_rate: int) -> Iterator[npt.NDArray[np.int16]]:
        """Synthesise utterances of one model; raises KwsError if it does not load or lacks a phoneme."""
        piper, onnxruntime, _ = _packages()
        model = self.model(utterances[0].voice)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        onnxruntime.set_seed(seed_of(0, "piper", *map(str, utterances)) % 2**31)
        file = self.folder / f"{model}.onnx"
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            voice = piper.PiperVoice(session=session, config=piper.PiperConfig.from_dict(self._configs[model]))
        except Exception as error:  # a damaged model raises errors of many kinds
            raise KwsError(f"{file}: not a Piper voice ({first_line(error)})") from error
        strings = [one.phonemes for one in utterances if one.phonemes]
        ipa = dict(zip(strings, phonemes_to_ipa(strings, self.language), strict=True))
        for one in utterances:
            try:
                pace = voice.config.length_scale * OWN_PACE_WPM / one.rate_wpm
                how = piper.SynthesisConfig(speaker_id=self._speakers[one.voice].id, length_scale=pace)
                chunks = list(voice.synthesize(_input(one, ipa.get(one.phonemes, ""), voice, file), how))
            except KwsError:
                raise
            except Exception as error:
                raise KwsError(f"{file}: cannot speak {one.phonemes or one.text!r} ({first_line(error)})") from error
            sounds = [np.zeros(0, np.float32), *(chunk.audio_float_array.reshape(-1) for chunk in chunks)]
            sound = np.concatenate(sounds)
            if not (np.isfinite(sound).all() and sound.any()):
                raise KwsError(f"{file}: is silent for {one.phonemes or one.text!r}")
            yield to_int16(resampled(sound, voice.config.sample_rate, sample_rate))


def _packages() -> tuple[Any, Any, str]:
    """piper, onnxruntime and the release of piper."""
    try:
        import onnxruntime
        import piper
    except ImportError as error:
        raise missing_extra("synth=piper", "piper") from error
    from importlib.metadata import version

    return piper, onnxruntime, version("piper-tts")


def _config(file: Path) -> dict[str, Any]:
    """The checked settings of a voice."""
    try:
        config = json.loads(file.read_text("utf-8"))
        speakers, ids = config["num_speakers"], config.get("speaker_id_map") or {}
        fits = type(speakers) is int and 0 <= speakers <= 100_000 and config["audio"]["sample_rate"] >= 8000
        fits &= all(name.isprintable() and type(i) is int and 0 <= i < max(1, speakers) for name, i in ids.items())
        fits &= isinstance(config["phoneme_id_map"], dict)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KwsError(f"{file}: not the settings of a Piper voice ({first_line(error)})") from error
    if not fits:
        raise KwsError(f"{file}: not the settings of a Piper voice")
    return dict(config)


def _input(one: Utterance, ipa: str, voice: Any, file: Path) -> str:
    """The input of Piper: a plain text, or IPA in brackets. Raises KwsError for a sound that Piper would skip."""
    shown = f"{file}: {one.phonemes or one.text!r}"
    reads_phones = voice.config.phoneme_type == "espeak"
    if one.phonemes and not reads_phones:
        raise KwsError(f"{shown}: this voice reads letters and speaks no phoneme strings")
    if one.phonemes:
        ipa = unicodedata.normalize("NFD", ipa)
        written, signs = f"[[{ipa}]]", {*ipa} - {" "}
        unknown = signs - ({*voice.config.phoneme_id_map} - {"[", "]"})
    else:
        written = plain(one.text).replace("[", " ")
        signs = {sign for sentence in voice.phonemize(written) for sign in sentence} if reads_phones else set()
        # Voices may do without punctuation, but not without sounds.
        unknown = {s for s in signs - {*voice.config.phoneme_id_map} if unicodedata.category(s[0])[0] in "LMN"}
    if unknown:
        raise KwsError(f"{shown}: this voice has no sound {min(unknown)!r}")
    return written
