"""Phones of the IPA as points in a space of articulatory features, read off the IPA chart.

A phone is a letter of the chart with its diacritics: `p`, `tʃ`, `ɔ̃`, `tʰ`. Stress is not part of a phone. The features
are multivalued as in ALINE (Kondrak, 2000). Their weights are our own, rounded; docs/confusables.md measures them.
"""

import functools
import re
import unicodedata

import numpy as np
import numpy.typing as npt

Phone = str
Phones = tuple[Phone, ...]

# The consonants of the IPA chart (2020): a row for each manner, a column for each place, voiceless and voiced.
_CONSONANTS = """
              labial  labiodental  dental  alveolar  postalv.  retroflex  palatal  velar  uvular  pharyngeal  glottal
stop          p b     . .          . .     t d       . .       ʈ ɖ        c ɟ      k ɡ    q ɢ     . .         ʔ .
implosive     . ɓ     . .          . .     . ɗ       . .       . .        . ʄ      . ɠ    . ʛ     . .         . .
click         ʘ .     . .          ǀ .     ǃ .       . .       . .        ǂ .      . .    . .     . .         . .
affricate     . .     . .          . .     . .       tʃ dʒ     . .        . .      . .    . .     . .         . .
fricative     ɸ β     f v          θ ð     . .       . .       . .        ç ʝ      x ɣ    χ ʁ     ħ ʕ         h ɦ
sibilant      . .     . .          . .     s z       ʃ ʒ       ʂ ʐ        ɕ ʑ      ɧ .    . .     . .         . .
lateral-frict . .     . .          . .     ɬ ɮ       . .       . .        . .      . .    . .     . .         . .
nasal         . m     . ɱ          . .     . n       . .       . ɳ        . ɲ      . ŋ    . ɴ     . .         . .
lateral       . .     . .          . .     . l       . .       . ɭ        . ʎ      . ʟ    . .     . .         . .
tap           . .     . ⱱ          . .     . ɾ       . .       . ɽ        . .      . .    . .     . .         . .
trill         . ʙ     . .          . .     . r       . .       . .        . .      . .    . ʀ     . .         . .
rhotic        . .     . .          . .     . ɹ       . .       . ɻ        . .      . .    . .     . .         . .
approximant   . .     . ʋ          . .     . .       . .       . .        . j      . ɰ    . .     . .         . .
rounded       . .     . .          . .     . .       . .       . .        . ɥ      ʍ w    . .     . .         . .
"""
# The vowels: a row for each height, from front over central to back, unrounded and rounded.
_VOWELS = """
            front  near-front  central  near-back  back
close       i y    . .         ɨ ʉ      . .        ɯ u
near-close  . .    ɪ ʏ         ᵻ .      . ʊ        . .
close-mid   e ø    . .         ɘ ɵ      . .        ɤ o
mid         . .    . .         ə .      . .        . .
open-mid    ɛ œ    . .         ɜ ɞ      . .        ʌ ɔ
near-open   æ .    . .         ɐ .      . .        . .
open        a ɶ    . .         . .      . .        ɑ ɒ
"""
_SONORITY = {"stop": 0, "implosive": 0, "click": 0, "affricate": 0.15, "fricative": 0.3, "sibilant": 0.3}
_SONORITY |= {"lateral-frict": 0.3, "tap": 0.3, "nasal": 0.55, "lateral": 0.65, "trill": 0.6}  # the rest 0.75
# Backness of the tongue; lips and glottis leave it in the middle.
_BACK = {"labial": 0.5, "labiodental": 0.4, "dental": 0.1, "alveolar": 0.2, "postalv.": 0.35, "retroflex": 0.45}
_BACK |= {"palatal": 0.4, "velar": 0.8, "uvular": 1, "pharyngeal": 1, "glottal": 0.5}
_BACK |= {"front": 0, "near-front": 0.2, "central": 0.5, "near-back": 0.8, "back": 1}
_OPEN = {"close": 0, "near-close": 0.2, "close-mid": 0.3, "mid": 0.5, "open-mid": 0.6, "near-open": 0.85, "open": 1}

# Weight of a difference of 1 in each feature.
WEIGHTS = {
    "syllabic": 0.2,
    "sonority": 0.4,
    "voice": 0.2,
    "nasal": 0.25,
    "lateral": 0.2,
    "rhotic": 0.25,
    "hiss": 0.25,
    "lips": 0.15,
    "back": 0.5,
    "open": 0.8,
    "long": 0.1,
    "breath": 0.15,  # aspirated 1, and against the stream below 0
    "colour": 0.2,  # palatalised 1, velarised -1
} | {f"tone {i}": 0.1 for i in range(1, 8)}
_MARKS: dict[str, dict[str, float]] = {
    "ː": {"long": 1},
    "ˑ": {"long": 0.5},
    "\u0303": {"nasal": 1},  # tilde
    "ʰ": {"breath": 1},
    "ʼ": {"breath": -1},
    "ʲ": {"colour": 1},
    "ˠ": {"colour": -1},
    "ˤ": {"colour": -1.5},
    "ʷ": {"lips": 1},
    "ᵝ": {"lips": 0.5},
    "˞": {"rhotic": 1},
    "\u0329": {"syllabic": 1},  # line below
    "\u032f": {"syllabic": 0},  # arch below
    "\u0325": {"voice": 0},  # ring below
    "\u030a": {"voice": 0},  # ring above
}
_MARKS |= {f"{i}": {f"tone {i}": 1} for i in range(1, 8)}  # espeak-ng numbers tones
_ALIASES = {"g": "ɡ", "ɫ": "lˠ", "ʦ": "ts", "ʣ": "dz", "ʧ": "tʃ", "ʤ": "dʒ", "ε": "ɛ", "Φ": "ɸ"}
_SILENCE = {"syllabic": 0.5, "sonority": 0.5, "voice": 0.5, "lips": 0.3, "back": 0.5, "open": 0.45}


def _chart() -> tuple[dict[Phone, dict[str, float]], dict[Phone, tuple[str, str]]]:
    """The features of each letter, and of the affricates of two; their rows and columns."""
    features: dict[Phone, dict[str, float]] = {}
    cells: dict[Phone, tuple[str, str]] = {}
    for chart in (_CONSONANTS, _VOWELS):
        places, *rows = (line.split() for line in chart.strip().splitlines())
        for manner, *letters in rows:
            vowel = manner in _OPEN
            for i, letter in enumerate(letters):
                place, second = places[i // 2], i % 2
                cells[letter] = manner, place
                features[letter] = {
                    "syllabic": vowel,
                    "sonority": 1 if vowel else _SONORITY.get(manner, 0.75),
                    "voice": vowel or second,
                    "nasal": manner == "nasal",
                    "lateral": manner.startswith("lateral"),
                    "rhotic": {"rhotic": 1, "trill": 1, "tap": 0.3}.get(manner, 0),
                    "hiss": {"s": 1, "z": 1}.get(letter, 0.5 if manner in ("sibilant", "affricate") else 0),
                    "lips": second if vowel else place.startswith("labi") or manner == "rounded",
                    "back": _BACK[place],
                    "open": _OPEN.get(manner, {"palatal": 0.1, "pharyngeal": 0.6}.get(place, 0.35)),
                    "breath": {"implosive": -1, "click": -2}.get(manner, 0),
                }
    del features["."]
    features["j"] |= {"back": 0, "open": 0}  # the glides begin where the vowels i, y and u are
    features["ɥ"] |= {"back": 0, "open": 0}
    features["w"] |= {"back": 1, "open": 0}
    features["ʁ"] |= {"rhotic": 0.5}
    for plain, rhotic in ("əɚ", "ɜɝ"):
        features[rhotic], cells[rhotic] = features[plain] | {"rhotic": 1}, cells[plain]
    return features, cells


LETTERS, _PLACE = _chart()
_MARK = f"[{''.join(_MARKS)}]"
_PHONE = re.compile(f"(?:{'|'.join(sorted(LETTERS, key=len, reverse=True))}){_MARK}*")
_PLAIN = {ord(alias): letter for alias, letter in _ALIASES.items()} | {0x361: None, 0x35C: None}  # without ties
_NO_LENGTH = {ord("ː"): None, ord("ˑ"): None}


def split_ipa(ipa: str, length: bool = True) -> Phones:
    """The phones of a transcription in IPA; stress, spaces, ties and unknown marks are ignored.

    Args:
        ipa: such as `həlˈoʊ`.
        length: whether long and short phones differ.
    """
    return tuple(_PHONE.findall(_plain(ipa) if length else _plain(ipa).translate(_NO_LENGTH)))


def unknown_letters(ipa: str) -> str:
    """The letters of a transcription that `split_ipa` ignores."""
    return "".join(c for c in _plain(ipa) if unicodedata.category(c) in ("Lu", "Ll", "Lo") and c not in LETTERS)


def _plain(ipa: str) -> str:
    """The transcription with one spelling of each letter, and diacritics as characters of their own."""
    return unicodedata.normalize("NFD", ipa).replace("c\u0327", "ç").translate(_PLAIN)


@functools.cache
def point(phone: Phone) -> npt.NDArray[np.float32]:
    """The point of a phone in the weighted space; `""` is silence. Shape: [features]."""
    letter = next((phone[:n] for n in (2, 1) if phone[:n] in LETTERS), "")
    features = dict(LETTERS[letter] if phone else _SILENCE)
    for mark in phone[len(letter) :]:
        features |= _MARKS[mark]
    return np.array([features.get(name, 0) * weight for name, weight in WEIGHTS.items()], np.float32)


def is_vowel(phone: Phone) -> bool:
    """Whether a phone can carry a syllable."""
    return bool(point(phone)[0])


def same_class(phone: Phone, other: Phone) -> bool:
    """Whether both are vowels, or consonants of one manner or one place."""
    if is_vowel(phone) or is_vowel(other):
        return is_vowel(phone) and is_vowel(other)
    return any(a == b for a, b in zip(_where(phone), _where(other), strict=True))


def _where(phone: Phone) -> tuple[str, str]:
    """Manner and place of the letter."""
    return next(_PLACE[phone[:n]] for n in (2, 1) if phone[:n] in _PLACE)
