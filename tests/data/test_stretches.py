"""Rows of a manifest that name stretches of long recordings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kws.commands import builders
from kws.commands.data import keyword_player
from kws.commands.mine import known_recordings
from kws.common.console import Console
from kws.common.errors import KwsError, LeakError
from kws.data.audio import content_hash, save_flac
from kws.data.audio_cache import AudioCache, Entry, pack
from kws.data.dataset import DataConfig, recordings, select
from kws.data.division import divide
from kws.data.manifest import Recording, Source, Split, hash_split, read
from kws.data.positives import with_locations
from kws.data.streams import StreamConfig
from kws.data.stretches import cut_out
from kws.data.transcripts import Match
from kws.evaluation.splits import negative_hours, positive_stream
from kws.replay.buffer import Buffer, Kind, NewClip
from kws.replay.sources import others_of, sources_of
from kws.training.hard_negatives import held_out_sources, with_keyword
from tests.data.test_manifest import touch, write_csv

RATE, LONG_S = 16000, 12
TRAIN, VALIDATION, TEST = Split
COUNT = np.arange(LONG_S * RATE) % 30000  # each sample shows its place
PCM = COUNT.astype(np.int16)


def entry(label: str, start_s: float | None, end_s: float | None, file: str = "a.wav", speaker: str = "") -> Entry:
    name = f"{file} ({start_s}-{end_s} s)"
    one = Recording(Path(file), name, label, hash_split(file), speaker, start_s=start_s, end_s=end_s)
    return Entry(one, f"hash of {file}", 0, len(PCM))


def cut(entries: Sequence[Entry], context_s: float = 10.0) -> list[tuple[float, float, float | None, float | None]]:
    """Begin and end of each entry in the file, and in it start and end of the keyword; seconds."""
    found = cut_out(entries, PCM, RATE, ["computer"], context_s)
    assert all(one.hash == content_hash(PCM[one.start :][: one.n_samples]) for one in found if one.whole)
    assert all(one.recording.offset_s == one.start / RATE for one in found if one.whole)
    return [
        (one.start / RATE, (one.start + one.n_samples) / RATE, one.recording.start_s, one.recording.end_s)
        for one in found
    ]


# ---- the manifest


def test_several_rows_name_stretches_of_one_file_all_in_one_split(tmp_path: Path) -> None:
    touch(tmp_path, "talk.wav")
    rows = ["computer,ann,0.5,1.2", 'speech,ben,3,"9,5"', "Computer,,1.2,1.9"]
    write_csv(tmp_path, "path,label,speaker,start,end", *(f"talk.wav,{row}" for row in rows))
    found = read(tmp_path)
    assert [(one.name, one.label, one.start_s, one.end_s) for one in found] == [
        ("talk.wav (0.500-1.200 s)", "computer", 0.5, 1.2),
        ("talk.wav (3.000-9.500 s)", "speech", 3.0, 9.5),
        ("talk.wav (1.200-1.900 s)", "Computer", 1.2, 1.9),
    ]
    assert {one.split for one in found} == {hash_split("ann")}, "that of the first row"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["computer,1,2,", "computer,,,"], r"csv:3: path='a\.wav' was given at manifest\.csv:2; rows of one file must"),
        (["computer,1,2,", "speech,3,,"], r"csv:3: .*must have start and end"),
        (["computer,1,2,", "speech,1.5,3,"], r"csv:3: start=1\.5: must not overlap manifest\.csv:2, which ends at 2"),
        (["speech,1,9,", "computer,3,4,"], r"csv:3: start=3: must not overlap manifest\.csv:2, which ends at 9"),
        (["speech,0,119,", "speech,1,120,"], r"csv:3: start=1: must not overlap manifest\.csv:2, which ends at 119"),
        (["speech,0,9,", "Speech,3,4,"], r"csv:3: start=3: must not overlap manifest\.csv:2, which ends at 9"),
        (["hey computer,0,9,", "computer,1,2,", "computer,1.5,3,"], r"csv:4: start=1\.5: must not overlap .*csv:3"),
        (["computer,1,2,", "computer,1,2,"], r"csv:3: start=1: must not overlap manifest\.csv:2"),
        (
            ["computer,1,2,train", "speech,3,4,test"],
            r"csv:3: test: must be train as at manifest\.csv:2, since it is the",
        ),
    ],
)
def test_rows_of_one_file_that_contradict_each_other_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    part = ",part" if rows[0][-1] != "," else ""
    write_csv(tmp_path, f"path,label,start,end{part}", *(f"a.wav,{row if part else row[:-1]}" for row in rows))
    with pytest.raises(KwsError, match=message):
        read(tmp_path)


def test_a_longer_keyword_may_hold_a_shorter_one(tmp_path: Path) -> None:
    write_csv(tmp_path, "path,label,start,end", "a.wav,hey computer,1,2", "a.wav,computer,1.4,2", "a.wav,speech,2,3")
    assert len(read(tmp_path)) == 3


# ---- stretches


def test_keywords_keep_the_sound_around_them_up_to_the_next_rows_and_others_are_cut_to_their_bounds() -> None:
    rows = [("computer", 1.0, 1.5), ("speech", 4.0, 6.5), ("Computer", 2.0, 2.5), ("noise", 7.0, 8.0)]
    entries = [entry(*row) for row in rows]
    assert cut(entries) == [(0, 2, 1, 1.5), (4, 6.5, None, None), (1.5, 4, 0.5, 1), (7, 8, None, None)]
    assert cut(entries, 0.0) == [(1, 1.5, None, None), (4, 6.5, None, None), (2, 2.5, None, None), (7, 8, None, None)]
    late = [entry("computer", 0.5, 1.0), entry("computer", 11.5, 12.0)]
    assert cut(late) == [(0, 11, 0.5, 1), (1.5, 12, 10, 10.5)], "at most 10 s"
    nested = [entry("hey computer", 3.0, 4.0), entry("computer", 3.5, 4.0)]
    assert cut(nested)[1] == (3, 12, 0.5, 1)


def test_the_only_row_of_a_file_stays_whole_if_it_is_a_keyword() -> None:
    assert cut([entry("computer", 1.0, 1.5), entry("computer", None, None, "b.wav")]) == [
        (0, 12, 1, 1.5), (0, 12, None, None)
    ]  # fmt: skip
    (negative,) = cut_out([replace(entry("speech", 3.0, None))], PCM, RATE, ["computer"], 10.0)
    assert (negative.start, negative.n_samples, negative.whole) == (3 * RATE, 9 * RATE, "hash of a.wav")
    assert negative.recording.name.endswith("(3.000-12.000 s)")
    with pytest.raises(KwsError, match=r"start and end must be within the recording, which lasts 12\.00 s"):
        cut([entry("speech", 11.0, 12.5)])


def test_all_stretches_of_a_file_are_in_one_split_whatever_divides_them() -> None:
    speakers = ["", "ann", "ben"]
    for with_speakers in (False, True):
        entries = []
        for n in range(7):
            speaker = speakers[n % 3] if with_speakers else ""
            rows = [("computer", 0.5, 1.0), ("computer", 2.0, 2.5), ("speech", 3.0, 3.5 + n), ("noise", 11.0, 12.0)]
            entries += [entry(label, a, b, f"{n}.wav", speaker and f"{speaker} {label}") for label, a, b in rows]
        found = divide(cut_out(entries, PCM, RATE, ["computer"], 10.0), PCM, RATE, ["computer"], "noise").entries
        splits: dict[str, set[Split]] = {}
        for one in found:
            splits.setdefault(one.whole, set()).add(one.recording.split)
        assert all(len(own) == 1 for own in splits.values())
        counts = Counter(one.recording.split for one in found)
        assert min(counts[split] for split in Split) >= 4


# ---- in a run


def melody(rng: np.random.Generator, hz: float, n: int) -> np.ndarray:
    return (9000 * np.sin(2 * np.pi * hz * np.arange(n) / RATE) + rng.normal(0, 20, n)).astype(np.int16)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[AudioCache, DataConfig]:
    """A long recording a split: three keywords, a sound between them that no row names, and a negative."""
    root = tmp_path_factory.mktemp("long")
    rng, rows = np.random.default_rng(0), []
    for split in Split:
        pcm = rng.normal(0, 20, LONG_S * RATE).astype(np.int16)
        for start_s, hz in ((1.0, 700), (3.0, 700), (5.0, 700), (2.0, 3000), (7.0, 1500)):
            pcm[round(start_s * RATE) :][: RATE // 2] = melody(rng, hz, RATE // 2)
        save_flac(root / f"{split}.flac", pcm, RATE)
        rows += [f"{split}.flac,computer,{split},{start},{start + 0.5}" for start in (1.0, 3.0, 5.0)]
        rows.append(f"{split}.flac,speech,{split},6.5,8.5")
    write_csv(root, "path,label,part,start,end", *rows)
    data = DataConfig(root=str(root), cache=str(root / "cache"))
    return builders.store(data, Console(), recordings(data), ["computer"]), data


def test_each_occurrence_is_a_positive_and_what_no_row_names_is_no_negative(
    loaded: tuple[AudioCache, DataConfig],
) -> None:
    store, _ = loaded
    chosen = with_locations(store, select(store.entries, ["computer"], "noise", 0.0), dict.fromkeys(Split, 1.2))
    for split in Split:
        assert len(chosen.positives[split][0]) == 3
        assert [store.entries[i].n_samples for i in chosen.speech[split]] == [2 * RATE]
        places = [
            store.entries[i].recording.offset_s + chosen.locations[i].start / RATE for i in chosen.positives[split][0]
        ]
        assert places == [1.0, 3.0, 5.0]
    stream = positive_stream(store, chosen, TEST, 0, StreamConfig(gap_s=0.0))
    for piece in stream.pieces:
        assert piece.keyword is not None
        first, last = piece.keyword
        assert last - first == RATE // 2
        spectrum = np.abs(np.fft.rfft(stream.pcm[first:last].astype(float)))
        assert int(spectrum.argmax()) * 2 == 700
    assert negative_hours(store, chosen, TEST, StreamConfig(negative_gap_s=0.0)) == pytest.approx(2 / 3600)
    player = keyword_player(store, chosen, chosen.positives[TEST][0][1], "")
    assert player.bounds == pytest.approx((3.0, 3.5)), "seconds of the file, as the manifest has them"


def test_the_content_hash_of_the_file_guards_leaks(loaded: tuple[AudioCache, DataConfig], tmp_path: Path) -> None:
    store, data = loaded
    root = Path(data.root or "")
    whole = {split: content_hash(pack(read_whole(root, split), tmp_path).audio(0)) for split in Split}
    held_out = {one.hash for one in held_out_sources(store)}
    assert {whole[VALIDATION], whole[TEST]} < held_out
    assert whole[TRAIN] not in held_out
    known = known_recordings(store.entries, ["computer"], Match.word)
    assert {split: known[hash_].source.split for split, hash_ in whole.items()} == {split: split for split in Split}
    assert known[whole[TRAIN]].label == "computer", "kws mine leaves out the file"


def test_a_buffer_refuses_stretches_of_a_file_that_it_holds_out_whatever_their_bounds(
    loaded: tuple[AudioCache, DataConfig], tmp_path: Path
) -> None:
    store, _ = loaded
    (negative,) = (one for one in store.entries if one.recording.split is TRAIN and one.recording.label == "speech")
    own, file = sources_of(negative)
    assert (own.hash, file.hash, file.name) == (negative.hash, negative.whole, "train.flac")
    clip = NewClip(PCM[:800], Kind.false_trigger, "computer", own, 0.0, 0.5, "weights", "run", 1)
    clip = replace(clip, mixed_with=others_of([negative], negative))
    assert clip.mixed_with == (file,)
    held_out = Source(file.hash, "another name.flac", TEST)
    with Buffer(tmp_path / "before") as buffer:
        buffer.hold_out([held_out])
        for add in (lambda: buffer.admit(sources_of(negative)), lambda: buffer.add([clip])):
            with pytest.raises(LeakError, match=r"train\.flac.*held out as the test recording"):
                add()
    with Buffer(tmp_path / "after") as buffer:
        buffer.add([clip])
        with pytest.raises(LeakError, match=r"another name\.flac"):
            buffer.hold_out([held_out])


def test_no_clip_of_a_file_with_a_keyword_is_replayed_but_those_of_its_negatives(
    loaded: tuple[AudioCache, DataConfig], tmp_path: Path
) -> None:
    store, _ = loaded
    chosen = select(store.entries, ["computer"], "noise", 0.0)
    kept_out = with_keyword(store.entries, chosen)
    words = [i for split in Split for i in chosen.positives[split][0]]
    (negative,) = (store.entries[i] for i in chosen.speech[TRAIN])
    wholes = {store.entries[i].whole for i in words}
    assert kept_out == {one: {negative.hash} if one == negative.whole else set() for one in kept_out}
    assert set(kept_out) == wholes | {store.entries[i].hash for i in words}
    own, file = sources_of(negative)
    mined = NewClip(PCM[:800], Kind.false_trigger, "computer", own, 0.0, 0.5, "weights", "run", 1, mixed_with=(file,))
    in_file = replace(mined, pcm=PCM[800:1600], source=file, mixed_with=())
    with Buffer(tmp_path) as buffer:
        buffer.add([mined, in_file])
        assert buffer.samplable(kept_out).hash == [content_hash(mined.pcm)]


def read_whole(root: Path, split: Split) -> list[Recording]:
    return [Recording(root / f"{split}.flac", f"{split}.flac", "speech", split)]


def test_a_copy_of_a_held_out_file_is_left_out_whatever_its_rows(loaded: tuple[AudioCache, DataConfig]) -> None:
    store, data = loaded
    root = Path(data.root or "")
    found = read(root)
    (root / "copy").mkdir(exist_ok=True)
    copy = (root / "copy" / "train.flac").resolve()
    copy.write_bytes((root / "test.flac").read_bytes())
    others = [
        Recording(copy, "copy 1", "computer", TRAIN, given=True, start_s=1.02, end_s=1.5),
        Recording(copy, "copy 2", "speech", TRAIN, given=True, start_s=6.6, end_s=8.4),
    ]
    again = builders.store(data, Console(), [*found, *others], ["computer"])
    assert again.duplicates == ["copy 1", "copy 2"]
    assert [one.recording.name for one in again.entries] == [one.recording.name for one in store.entries]
