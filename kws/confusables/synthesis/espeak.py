"""Text and phonemes to speech, and text to phonemes: espeak-ng inside the process, in hundreds of English voices.

The library keeps state between utterances that none of its calls resets: its position in the table of pitch
flutter, its count of glottal cycles, its noise. Each utterance is therefore synthesised by a freshly loaded copy.
The same text and voice then give the same samples, whatever was synthesised before. This holds only where
nothing else in the process has loaded the same library. 900 ms of speech takes 4 ms in all (measured).

A phoneme string, such as `[[k@mpj'u:t#3]]`, holds espeak-ng's own names of phonemes with their stress marks. It is
synthesised as it stands; text is read by its spelling.
"""

import ctypes
import functools
import itertools
import re
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kws.common.errors import KwsError, missing_extra

if sys.platform == "win32":
    from _ctypes import FreeLibrary as _unload
else:
    from _ctypes import dlclose as _unload

NATIVE_RATE = 22050
RATES_WPM = (80, 450)
PITCHES = (0, 99)

# speak_lib.h of espeak-ng 1.52
_SYNCHRONOUS, _DONT_EXIT, _UTF8, _PLAIN_UTF8_TEXT, _IPA, _RATE, _PITCH = 2, 0x8000, 1, 1, 2, 1, 3
_PHONEMES = 0x100  # [[...]] are phonemes
_PHONEME_STRING = re.compile(r"\[\[[^\[\]_\x00-\x1f]+\]\]")  # a _ begins pauses and commands
_NAMES, _BOUNDARY = 0, 0xE000  # phonemes by espeak-ng's names; the separator between them, of the private use area
_COLOURS = (";", ":", "I^")  # names of phonemes that only colour the one before: palatal, long
_CRASHES = {"kl"}  # Greenlandic ends the process
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_one_at_a_time = threading.Lock()  # the library has one state for the whole process


@dataclass(frozen=True)
class Voice:
    """A voice: a name out of `voices()`, words per minute in [80, 450], pitch in [0, 99]."""

    name: str
    rate_wpm: int = 175
    pitch: int = 50

    def __post_init__(self) -> None:
        for field, value, (low, high) in (("rate_wpm", self.rate_wpm, RATES_WPM), ("pitch", self.pitch, PITCHES)):
            if not low <= value <= high:
                raise KwsError(f"{field}={value}: must be between {low} and {high}")


@functools.cache
def _installation() -> tuple[str, Path]:
    """The shared library and its data folder."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise missing_extra("speech synthesis", "speech") from error
    return espeakng_loader.get_library_path(), Path(espeakng_loader.get_data_path())


def accents() -> list[str]:
    """The English accents, sorted: `en` (Great Britain), `en-us`, `en-gb-scotland` and so on."""
    # en-shaw reads the Shavian alphabet; from Latin letters it synthesises the very samples of `en`.
    return [name for name in languages() if name.split("-")[0] == "en" and name != "en-shaw"]


@functools.cache
def languages() -> tuple[str, ...]:
    """The languages that espeak-ng reads, sorted: `cmn`, `de`, `en-us`, `pt-br` and so on."""
    _, data = _installation()
    found = []
    for path in (data / "lang").rglob("*"):
        if path.is_file() and path.name not in _CRASHES:
            says = dict(line.split()[:2] for line in path.read_text("latin-1").splitlines() if len(line.split()) > 1)
            if (data / f"{says.get('dictionary', path.name.split('-')[0])}_dict").is_file():
                found.append(path.name.lower())
    return tuple(sorted(found))


def variants() -> list[str]:
    """The 104 timbres that every accent has, sorted: `f2`, `grandpa`, `whisper` and so on."""
    _, data = _installation()
    return sorted(path.name for path in (data / "voices" / "!v").iterdir() if path.is_file())


def timbres() -> dict[str, list[str]]:
    """The voices of each variant, one in each accent: the same larynx throughout."""
    return {variant: [f"{accent}+{variant}" for accent in accents()] for variant in variants()}


@functools.cache
def voices() -> frozenset[str]:
    """Every variant in every accent: `en-us+f2` and so on."""
    return frozenset(voice for names in timbres().values() for voice in names)


@contextmanager
def _engine(voice: str) -> Iterator[ctypes.CDLL]:
    """A freshly loaded espeak-ng with the voice or language `voice`."""
    library_path, data = _installation()
    with _one_at_a_time:
        try:
            library = ctypes.CDLL(library_path)
        except OSError as error:
            raise KwsError(f"{Path(library_path).name}: espeak-ng does not load: {error}") from error
        try:
            if library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT) != NATIVE_RATE:
                raise KwsError(f"{data.name}: espeak-ng does not start with this data folder")
            library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
            library.espeak_ng_SetRandSeed(1)
            # Breath is noise out of the C library's rand(), which outlives the copy of espeak-ng.
            if seed_c_library := getattr(library, "srand", None):
                seed_c_library(1)
            if library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise KwsError(f"voice: espeak-ng does not know {voice!r}")
            try:
                yield library
            finally:
                library.espeak_Terminate()
        finally:
            _unload(library._handle)


def is_phonemes(text: str) -> bool:
    """Whether a text is a phoneme string such as `[[k'at]]`."""
    return text.startswith("[[") and text.endswith("]]")


def plain(text: str) -> str:
    """`text` without control characters, some of which are commands to synthesisers.

    Raises:
        KwsError: the text has no letter or digit.
    """
    plain = "".join(" " if unicodedata.category(char)[0] == "C" else char for char in text)
    if not any(char.isalnum() for char in plain):
        raise KwsError(f"text: {text!r} holds no letter or digit to speak")
    return plain


def speak(text: str, voice: Voice, sample_rate: int = 16000) -> npt.NDArray[np.float32]:
    """Synthesise a text; returns samples in [-1, 1] with the pauses that espeak-ng puts around it.

    Markup (SSML) and phoneme strings in the text are read out as characters, not obeyed.

    Args:
        text: at least one letter or digit.
        voice: a name out of `voices()`, rate and pitch.
        sample_rate: of the result, in Hz; espeak-ng itself works at 22 050.

    Shape: returns [T].

    Raises:
        KwsError: the voice is unknown, the text has no letter or digit, or the extra is not installed.
    """
    return _synthesised(plain(text), 0, voice, sample_rate)


def speak_phonemes(string: str, voice: Voice, sample_rate: int = 16000) -> npt.NDArray[np.float32]:
    """Synthesise a phoneme string as `speak` does a text, in the accent of the voice.

    Raises:
        KwsError: it is no phoneme string, or contains a command or a pause of espeak-ng.
    """
    if not _PHONEME_STRING.fullmatch(string):
        raise KwsError(f"phonemes: {string!r} must be a phoneme string such as [[k'at]]")
    return _synthesised(string, _PHONEMES, voice, sample_rate)


def _synthesised(text: str, flags: int, voice: Voice, sample_rate: int) -> npt.NDArray[np.float32]:
    if voice.name not in voices():
        raise KwsError(f"voice={voice.name!r}: must be an English voice of espeak-ng, such as 'en-us+f2'")
    chunks: list[bytes] = []

    def keep(samples: int | None, n_samples: int, _events: int | None) -> int:
        if samples:
            chunks.append(ctypes.string_at(samples, 2 * n_samples))
        return 0

    callback = _SYNTH_CALLBACK(keep)
    with _engine(voice.name) as library:
        library.espeak_SetSynthCallback(callback)
        library.espeak_SetParameter(_RATE, voice.rate_wpm, 0)
        library.espeak_SetParameter(_PITCH, voice.pitch, 0)
        done = _synthesise(library, text.encode(), _PLAIN_UTF8_TEXT | flags)
    pcm = np.frombuffer(b"".join(chunks), dtype=np.int16)
    if not done or not pcm.any():
        raise KwsError(f"text: espeak-ng is silent for {text!r}")
    return resampled(pcm.astype(np.float32) / np.float32(32768), NATIVE_RATE, sample_rate)


def resampled(sound: npt.NDArray[np.float32], rate: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Resample `sound`; returns samples in [-1, 1].

    Shape: sound [T]; returns [T * sample_rate / rate].
    """
    if sample_rate == rate:
        return sound
    import librosa

    changed = librosa.resample(sound, orig_sr=rate, target_sr=sample_rate, res_type="soxr_hq")
    return np.asarray(np.clip(changed, -1, 1), dtype=np.float32)


def text_to_ipa(texts: Sequence[str], language: str = "en-us") -> list[str]:
    """The pronunciation of each text in `language`, one of `languages()`: IPA with stress marks and spaces.

    Raises:
        KwsError: the language is unknown, or a text has no letter or digit.
    """
    encoded = [plain(text).encode() for text in texts]
    with _reader(language) as read:
        return [read(text, _IPA) for text in encoded]


def text_to_phonemes(texts: Sequence[str], language: str = "en-us") -> list[list[tuple[str, str]]]:
    """The pronunciation of each text, phoneme by phoneme: espeak-ng's name of each beside its IPA.

    Stress marks stand before a vowel in both; (" ", " ") separates words. The list is empty where names and IPA
    cannot be aligned.
    """
    encoded = [plain(text).encode() for text in texts]
    with _reader(language) as read:
        return [_aligned(*(read(text, mode | _BOUNDARY << 8) for mode in (_NAMES, _IPA))) for text in encoded]


def phonemes_to_ipa(strings: Sequence[str], language: str = "en-us") -> list[str]:
    """The pronunciation of phoneme strings in `language`: IPA as `text_to_ipa` gives it, with the same stress.

    A language pronounces the phonemes of its dialects in its own way, and skips names that it does not have.
    """
    _check_language(language)
    c_library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    c_library.fopen.restype, c_library.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p] * 2
    c_library.fclose.argtypes = [ctypes.c_void_p]
    stop = _SYNTH_CALLBACK(lambda *_: 1)  # phonemes are traced before there is sound, and no sound is needed
    with tempfile.TemporaryDirectory() as folder, _engine(language) as library:
        trace = Path(folder) / "phonemes"
        if not (file := c_library.fopen(str(trace).encode(), b"w")):
            raise KwsError(f"{trace}: cannot be written")
        library.espeak_SetSynthCallback(stop)
        library.espeak_SetPhonemeTrace.argtypes = [ctypes.c_int, ctypes.c_void_p]
        library.espeak_SetPhonemeTrace(_IPA, file)
        for text in strings:
            _synthesise(library, text.encode(), _PLAIN_UTF8_TEXT | _PHONEMES)
        library.espeak_SetPhonemeTrace(0, None)
        c_library.fclose(file)
        lines = trace.read_text("utf-8").split("\n")[:-1]
    if len(lines) != len(strings):
        raise KwsError(f"espeak-ng wrote {len(lines)} pronunciations for {len(strings)} phoneme strings")
    return lines


def _synthesise(library: ctypes.CDLL, text: bytes, flags: int) -> bool:
    """Call espeak_Synth; returns whether it succeeded."""
    library.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, *[ctypes.c_uint] * 4, *[ctypes.c_void_p] * 2]
    return bool(library.espeak_Synth(text, len(text) + 1, 0, 0, 0, flags, None, None) == 0)


def _check_language(language: str) -> None:
    if language not in languages():
        raise KwsError(f"language={language!r}: must be one of espeak-ng's: {', '.join(languages())}")


@contextmanager
def _reader(language: str) -> Iterator[Callable[[bytes, int], str]]:
    """Converts text in a language to phonemes, in one of espeak-ng's modes."""
    _check_language(language)
    with _engine(language) as library:
        read_clause = library.espeak_TextToPhonemes
        read_clause.restype = ctypes.c_char_p
        read_clause.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]

        def read(text: bytes, mode: int) -> str:
            rest, clauses = ctypes.c_char_p(text), []
            while rest.value is not None:  # a call reads up to the next clause and moves `rest` there
                clauses.append(read_clause(ctypes.byref(rest), _UTF8, mode).decode())
            # (en) and (de) mark a word that is read as in another language
            whole = " ".join(clauses)
            return " ".join((re.sub(r"\([a-z-]+\)", "", whole) if "(" in whole else whole).split())

        yield read


def _aligned(names: str, ipa: str) -> list[tuple[str, str]]:
    """The name of each phoneme beside its IPA."""
    boundary = chr(_BOUNDARY)
    words: list[list[tuple[str, str]]] = []
    nothing: list[str] = []
    sounds = [word.split(boundary) for word in ipa.split()]
    named = [word.split(boundary) for word in names.split()]
    if len(named) != len(sounds):  # pauses are words by name alone
        named = [word for word in named if not all(name.startswith("_") for name in word)]
    for one, other in itertools.zip_longest(named, sounds, fillvalue=nothing):
        name, sound = one, other
        if len(name) != len(sound):  # a phoneme that only colours the one before it has a name and no IPA of its own
            name, sound = [], [piece for piece in other if piece]
            for piece in one:
                if piece.startswith(_COLOURS) and name:
                    name[-1] += piece
                elif not piece.startswith(("_", "@-")):
                    name.append(piece)
        if len(name) != len(sound):
            return []
        words.append([(a, b) for a, b in zip(name, sound, strict=True) if a])
    return [pair for i, word in enumerate(words) for pair in ([(" ", " ")] * (i > 0) + word)]
