"""Speech out of text: espeak-ng inside the process, in hundreds of English voices.

The library keeps state from one utterance to the next that none of its calls resets: where it stands in its
table of pitch flutter, in its count of glottal cycles, in its noise. So a freshly loaded copy says each
utterance, and the same text and voice are the same samples, whatever was said before. That holds only where
nothing else in the process has the same library loaded. 900 ms of speech takes 4 ms in all (measured).
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

from kws.common.errors import KwsError

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
_NAMES, _BOUNDARY = 0, 0xE000  # phonemes by espeak-ng's names; what is put between them, of the private use area
_COLOURS = (";", ":", "I^")  # names of what colours the phoneme before: palatal, long
_CRASHES = {"kl"}  # Greenlandic ends the process
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_one_at_a_time = threading.Lock()  # the library has one state for the whole process


@dataclass(frozen=True)
class Voice:
    """Who says it and how: a name out of `voices()`, words a minute in [80, 450], pitch in [0, 99]."""

    name: str
    rate_wpm: int = 175
    pitch: int = 50

    def __post_init__(self) -> None:
        for field, value, (low, high) in (
            ("rate_wpm", self.rate_wpm, RATES_WPM),
            ("pitch", self.pitch, PITCHES),
        ):
            if not low <= value <= high:
                raise KwsError(f"{field}: {value} is not in [{low}, {high}]")


@functools.cache
def _installation() -> tuple[str, Path]:
    """The shared library and its data folder."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise KwsError("speech synthesis needs the extra kws[speech]: pip install 'kws[speech]'") from error
    return espeakng_loader.get_library_path(), Path(espeakng_loader.get_data_path())


def accents() -> list[str]:
    """The English accents, sorted: `en` (Great Britain), `en-us`, `en-gb-scotland` and so on."""
    _, data = _installation()
    names = (path.name.lower() for path in (data / "lang").glob("*/en*"))
    # en-shaw reads the Shavian alphabet; of Latin letters it makes the very samples that `en` makes.
    return sorted(name for name in names if (name == "en" or name.startswith("en-")) and name != "en-shaw")


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
    """The 104 timbres that any accent can be spoken in, sorted: `f2`, `grandpa`, `whisper` and so on."""
    _, data = _installation()
    return sorted(path.name for path in (data / "voices" / "!v").iterdir() if path.is_file())


def voices() -> list[str]:
    """Every accent in every variant, sorted: `en-us+f2` and so on."""
    return sorted(voice for names in timbres().values() for voice in names)


def timbres() -> dict[str, list[str]]:
    """The voices of each variant, one in each accent: the same larynx throughout."""
    return {variant: [f"{accent}+{variant}" for accent in accents()] for variant in variants()}


@functools.cache
def _voice_names() -> frozenset[str]:
    return frozenset(voices())


@contextmanager
def _engine(voice: str) -> Iterator[ctypes.CDLL]:
    """espeak-ng as it is before it has said anything, speaking as `voice`."""
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


def plain(text: str) -> str:
    """`text` without control characters: some are commands to synthesisers. Refuses one with nothing to say."""
    plain = "".join(" " if unicodedata.category(char)[0] == "C" else char for char in text)
    if not any(char.isalnum() for char in plain):
        raise KwsError(f"text: {text!r} holds no letter or digit to say")
    return plain


def speak(text: str, voice: Voice, sample_rate: int = 16000) -> npt.NDArray[np.float32]:
    """Says `text` and returns the samples in [-1, 1], with the pauses that espeak-ng puts around it.

    The text is plain: markup (SSML) and phoneme input (`[[...]]`) are read out as characters, not obeyed.

    Args:
        text: what to say, with at least one letter or digit.
        voice: a name out of `voices()`, rate and pitch.
        sample_rate: of the result, in Hz; espeak-ng itself makes 22 050.

    Shape: [T].

    Raises KwsError for an unknown voice, a text with nothing to say, and where the extra is not installed.
    """
    return synthesised(plain(text), 0, voice, sample_rate)


def synthesised(text: str, flags: int, voice: Voice, sample_rate: int) -> npt.NDArray[np.float32]:
    """What espeak-ng makes of `text` under its `flags`: see `speak`, and `phones.speak_phones` for the other use."""
    if voice.name not in _voice_names():
        raise KwsError(
            f"voice: {voice.name!r} is none of kws.confusables.synthesis.espeak.voices(), such as 'en-us+f2'"
        )
    chunks: list[bytes] = []

    def keep(samples: int | None, n_samples: int, _events: int | None) -> int:
        if samples:
            chunks.append(ctypes.string_at(samples, 2 * n_samples))
        return 0

    callback = _SYNTH_CALLBACK(keep)
    encoded = text.encode()
    with _engine(voice.name) as library:
        library.espeak_SetSynthCallback(callback)
        library.espeak_SetParameter(_RATE, voice.rate_wpm, 0)
        library.espeak_SetParameter(_PITCH, voice.pitch, 0)
        done = _synthesise(library, encoded, _PLAIN_UTF8_TEXT | flags)
    pcm = np.frombuffer(b"".join(chunks), dtype=np.int16)
    if not done or not pcm.any():
        raise KwsError(f"text: espeak-ng says nothing for {text!r}")
    return resampled(pcm.astype(np.float32) / np.float32(32768), NATIVE_RATE, sample_rate)


def resampled(sound: npt.NDArray[np.float32], rate: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """`sound` at another rate, in [-1, 1].

    Shape: sound [T]; returns [T * sample_rate / rate].
    """
    if sample_rate == rate:
        return sound
    import librosa

    changed = librosa.resample(sound, orig_sr=rate, target_sr=sample_rate, res_type="soxr_hq")
    return np.asarray(np.clip(changed, -1, 1), dtype=np.float32)


def phonemes(texts: Sequence[str], language: str = "en-us") -> list[str]:
    """How each of `texts` is pronounced in `language`, one of `languages()`: IPA with stress marks and spaces.

    Raises KwsError for an unknown language or a text with nothing to say.
    """
    return read_out(texts, language, _IPA)


def read_out(texts: Sequence[str], language: str, mode: int) -> list[str]:
    """The phonemes of each of `texts` as espeak-ng writes them in a `mode` of espeak_TextToPhonemes; see `phonemes`."""
    encoded = [plain(text).encode() for text in texts]
    with _reader(language) as read:
        return [read(text, mode) for text in encoded]


def transcribe(texts: Sequence[str], language: str = "en-us") -> list[list[tuple[str, str]]]:
    """The same phoneme by phoneme: espeak-ng's name of each, which it speaks from, beside its IPA.

    Stress marks stand before a vowel in both; (" ", " ") parts words. Where names and IPA cannot be told which
    belongs to which, the list is empty.
    """
    encoded = [plain(text).encode() for text in texts]
    with _reader(language) as read:
        return [_aligned(*(read(text, mode | _BOUNDARY << 8) for mode in (_NAMES, _IPA))) for text in encoded]


def pronounced(strings: Sequence[str], language: str = "en-us") -> list[str]:
    """How espeak-ng says strings of its names for phonemes, such as `[[k'at]]`, in `language`: IPA as of `phonemes`.

    A language says the phonemes of its dialects in its own way. Names that it does not have are passed over.
    """
    _known(language)
    c_library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    c_library.fopen.restype, c_library.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p] * 2
    c_library.fclose.argtypes = [ctypes.c_void_p]
    stop = _SYNTH_CALLBACK(lambda *_: 1)  # the phonemes are traced before there is sound, and none is needed
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
        raise KwsError(f"espeak-ng says {len(lines)} lines of phonemes for {len(strings)} strings of them")
    return lines


def _synthesise(library: ctypes.CDLL, text: bytes, flags: int) -> bool:
    """Whether it went well."""
    library.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, *[ctypes.c_uint] * 4, *[ctypes.c_void_p] * 2]
    return bool(library.espeak_Synth(text, len(text) + 1, 0, 0, 0, flags, None, None) == 0)


def _known(language: str) -> None:
    if language not in languages():
        raise KwsError(f"language: {language!r} is none of espeak-ng's: {', '.join(languages())}")


@contextmanager
def _reader(language: str) -> Iterator[Callable[[bytes, int], str]]:
    """Reads text in a language into phonemes, in one of espeak-ng's modes."""
    _known(language)
    with _engine(language) as library:
        read_clause = library.espeak_TextToPhonemes
        read_clause.restype = ctypes.c_char_p
        read_clause.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]

        def read(text: bytes, mode: int) -> str:
            rest, clauses = ctypes.c_char_p(text), []
            while rest.value is not None:  # a call reads up to the next clause and moves `rest` there
                clauses.append(read_clause(ctypes.byref(rest), _UTF8, mode).decode())
            # (en) and (de) say that a word is read as in another language
            whole = " ".join(clauses)
            return " ".join((re.sub(r"\([a-z-]+\)", "", whole) if "(" in whole else whole).split())

        yield read


def _aligned(names: str, ipa: str) -> list[tuple[str, str]]:
    """Each phoneme's name beside its IPA."""
    boundary = chr(_BOUNDARY)
    words: list[list[tuple[str, str]]] = []
    nothing: list[str] = []
    sounds = [word.split(boundary) for word in ipa.split()]
    named = [word.split(boundary) for word in names.split()]
    if len(named) != len(sounds):  # pauses are words by name alone
        named = [word for word in named if not all(name.startswith("_") for name in word)]
    for one, other in itertools.zip_longest(named, sounds, fillvalue=nothing):
        name, sound = one, other
        if len(name) != len(sound):  # what only colours the phoneme before it has a name and no place of its own
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
