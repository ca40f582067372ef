"""Clips for training that are spliced from transcribed speech: which speech, which words, and the folder of clips."""

import csv
import io
import itertools
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.common.files import plain_name, replacing
from kws.common.seeding import numpy_generator, seed_of
from kws.confusables.ipa import Phones
from kws.confusables.phone_alignment import CEPSTRA, HOP_S, PAUSE, STATES, Utterance, align, frames_of
from kws.confusables.synthesis.render import MANIFEST
from kws.confusables.synthesis.splicing import FEWEST_PHONES, SILENCE_S, Splicer, Spoken, framed
from kws.data.audio import save_flac, to_float, to_int16
from kws.data.manifest import Recording, Source, Split, SplitBy, read

NAME = "spliced"  # source of the clips, and how their folder begins
METHOD = 1  # raised where equal recordings would give other clips
COLUMNS = ("path", "label", "text", "part", "source", "made_of", "start", "end")
TRIES = 4  # attempts for each clip
MOST_S, OF_SPEAKER_S, LONGEST_S = 3 * 3600.0, 300.0, 30.0  # speech that is aligned: all, of a speaker, a recording
PHRASE_N = (12, 24)  # phones of a phrase
PHRASE_S = 3.0  # its longest

Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class TranscribedRecording:
    """A transcribed recording of the train split, its speaker, its words with their phones, and its sound.

    Shape: pcm int16 [T].
    """

    source: Source
    speaker: str
    words: Sequence[tuple[str, Phones]]
    pcm: NDArray[np.int16]

    def fits(self, sample_rate: int) -> bool:
        """Whether the sound is long enough for its transcript, with a frame for each state of a phone."""
        return len(self.pcm) / sample_rate >= HOP_S * (STATES * len(self.phones) + 3)

    @property
    def phones(self) -> list[str]:
        """All phones in order."""
        return [phone for _, phones in self.words for phone in phones]


@dataclass(frozen=True)
class Role:
    """Clips of one label.

    Args:
        label: of the clips.
        n: how many are wanted.
        texts: each with its phones, which are spliced in turn.
        longest_s: longest clip in seconds, without the silence around it.
        located: whether the manifest says where the word is.
    """

    label: str
    n: int
    texts: Sequence[tuple[str, Phones]]
    longest_s: float
    located: bool = False


def choose_speech(speech: Sequence[TranscribedRecording], sample_rate: int, seed: int) -> list[TranscribedRecording]:
    """The recordings that are aligned: of whole speakers, those with enough phones for a voice first, at random.

    All of them must fit. Three hours are taken at most, five minutes of a speaker, and no recording above 30 s; none
    where no speaker has enough phones.
    """
    of_speaker: dict[str, list[TranscribedRecording]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    for one in sorted(speech, key=lambda one: seed_of(seed, NAME, one.source.hash)):
        own_s = len(one.pcm) / sample_rate
        if own_s <= LONGEST_S and seconds[one.speaker] + own_s <= OF_SPEAKER_S:
            of_speaker[one.speaker].append(one)
            seconds[one.speaker] += own_s
    phones = {speaker: sum(len(one.phones) for one in some) for speaker, some in of_speaker.items()}
    if max(phones.values(), default=0) < FEWEST_PHONES:
        return []
    chosen, total_s = list[TranscribedRecording](), 0.0
    for speaker in sorted(of_speaker, key=lambda one: (phones[one] < FEWEST_PHONES, seed_of(seed, NAME, one))):
        if total_s + seconds[speaker] <= MOST_S:
            chosen += of_speaker[speaker]
            total_s += seconds[speaker]
    return chosen


def phrases(
    speech: Sequence[TranscribedRecording], keywords: Sequence[Phones], n: int, seed: int
) -> list[tuple[str, Phones]]:
    """Phrases of random words of the transcripts, with their phones: 12 to 24, and no keyword among them.

    Args:
        speech: whose words are used.
        keywords: pronunciations of all keywords, two phones or more each.
        n: clips of phrases that are wanted; up to four times as many phrases are drawn.
        seed: of the choice.
    """
    vocabulary = sorted({word for one in speech for word in one.words})
    rng, made = numpy_generator(seed, NAME, "phrases"), list[tuple[str, Phones]]()
    for _ in range(TRIES * n):
        words = list[tuple[str, Phones]]()
        while sum(len(phones) for _, phones in words) < PHRASE_N[0]:
            words.append(vocabulary[rng.integers(len(vocabulary))])
        phones = tuple(itertools.chain.from_iterable(phones for _, phones in words))
        if len(phones) <= PHRASE_N[1] and not any(contains(phones, keyword) for keyword in keywords):
            made.append((" ".join(word for word, _ in words), phones))
    return made


def contains(phones: Phones, keyword: Phones) -> bool:
    """Whether a keyword of two phones or more is among phones from its first to its last."""
    return any(phones[i : i + len(keyword)] == keyword for i in range(len(phones) - len(keyword) + 1))


def identity(speech: Sequence[TranscribedRecording], roles: Sequence[Role], sample_rate: int, seed: int) -> str:
    """Name of the folder of clips: equal arguments give equal clips."""
    described = (f"{one.source} {one.speaker} {one.words}" for one in speech)
    return f"{NAME}-{seed_of(seed, METHOD, sample_rate, *map(str, roles), *described):016x}"


def phone_numbers(speech: Sequence[TranscribedRecording]) -> dict[str, int]:
    """A number for each phone of the transcripts, from 1 up. 0 is the pause."""
    return {phone: i for i, phone in enumerate(sorted({p for one in speech for p in one.phones}), PAUSE + 1)}


def aligned(
    speech: Sequence[TranscribedRecording], numbers: Mapping[str, int], sample_rate: int, progress: Progress
) -> list[Spoken]:
    """The recordings with the places of their phones, in order.

    Args:
        speech: of `choose_speech`, one or more.
        numbers: of `phone_numbers`.
        sample_rate: Hz.
        progress: called with the rounds that are done, of `phone_alignment.ROUNDS`.
    """
    utterances = [
        Utterance(
            frames_of(to_float(one.pcm), sample_rate),
            [[numbers[phone] for phone in phones] for _, phones in one.words],
        )
        for one in speech
    ]
    placed = align(utterances, len(numbers) + 1, progress)
    return [
        Spoken(one.speaker, one.pcm, utterance.frames[:, :CEPSTRA].numpy().copy(), phones)
        for one, utterance, phones in zip(speech, utterances, placed, strict=True)
    ]


def write_clips(
    folder: Path,
    speech: Sequence[TranscribedRecording],
    spoken: Sequence[Spoken],
    numbers: Mapping[str, int],
    roles: Sequence[Role],
    sample_rate: int,
    seed: int,
    progress: Progress,
) -> None:
    """Splice the clips of all roles into a new folder with a manifest, which appears when it is whole.

    A role gets fewer clips than it asks for, or none, where the speech lacks a phone or words become too long.

    Args:
        folder: to make; one call at a time may work on it.
        speech, spoken: recordings, and the same of `aligned`.
        numbers: of `phone_numbers`.
        roles: what is wanted.
        sample_rate: Hz.
        seed: of all choices.
        progress: called with the number of clips so far.
    """
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # that of a call that was killed
    draft.mkdir(parents=True)
    splicer, rows = Splicer(spoken, sample_rate), list[tuple[object, ...]]()
    for role in roles:
        texts = [(text, [numbers[p] for p in phones]) for text, phones in role.texts if {*phones} <= {*numbers}]
        texts = [(text, phones) for text, phones in texts if len(phones) > 1]
        rng, n = numpy_generator(seed, NAME, role.label), 0
        for text, phones in itertools.islice(itertools.cycle(texts), TRIES * role.n):
            if n == role.n:
                break
            if (made := splicer.word(phones, role.longest_s, rng)) is None:
                continue
            sound, pieces = made
            file = f"{plain_name(role.label)}/{len(rows):05d}.flac"
            (draft / file).parent.mkdir(exist_ok=True)
            save_flac(draft / file, to_int16(framed(sound, sample_rate, rng)), sample_rate)
            end_s = SILENCE_S + len(sound) / sample_rate
            bounds = (f"{SILENCE_S:.4f}", f"{end_s:.4f}") if role.located else ("", "")
            made_of = json.dumps([(speech[i].source.hash, speech[i].source.name) for i in pieces])
            rows.append((file, role.label, text, Split.TRAIN, NAME, made_of, *bounds))
            n += 1
            progress(len(rows))
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows([COLUMNS, *rows])
    with replacing(draft / MANIFEST) as target:
        target.write(table.getvalue().encode())
    os.replace(draft, folder)


def clips(folder: Path) -> list[Recording]:
    """The clips in a folder of `write_clips`, named with it, and the recordings that each is made of.

    Raises:
        KwsError: the manifest is damaged.
    """
    try:
        with (folder / MANIFEST).open(newline="", encoding="utf-8") as file:
            made_of = {row["path"]: json.loads(row["made_of"]) for row in csv.DictReader(file)}
        if not made_of and (folder / MANIFEST).stat().st_size:
            return []
        return [
            replace(
                one,
                name=f"{folder.name}/{one.name}",
                split=Split.TRAIN,
                made_of=tuple(Source(hash_, name, Split.TRAIN) for hash_, name in made_of[one.name]),
            )
            for one in read(folder, split=SplitBy.column)
        ]
    except (OSError, ValueError, KeyError, TypeError, KwsError) as error:
        raise KwsError(f"{folder}: its manifest is damaged; delete the folder to splice the clips again") from error
