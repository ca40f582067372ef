import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.data import audio
from kws.data.audio_cache import AudioCache, pack
from kws.data.manifest import Recording, Split, read

RATE = 16000


def noise(seed: int, n_samples: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-20000, 20000, n_samples).astype(np.int16)


def recording(root: Path, name: str, pcm: np.ndarray | None, split: Split = Split.TRAIN) -> Recording:
    """An audio file of `pcm`, or a text file for None."""
    path = root / name
    if pcm is None:
        path.write_text("no sound")
    else:
        soundfile.write(path, pcm, RATE, subtype="PCM_16")
    return Recording(path, name, "cat", split)


def corpus(root: Path, n: int = 20) -> list[Recording]:
    return [recording(root, f"{i}.wav", noise(i, 500 + 100 * ((7 * i) % n))) for i in range(n)]


@pytest.fixture
def decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def load(path: Path, *_: object) -> np.ndarray:
        raise RuntimeError(f"decoded {path.name} again")

    monkeypatch.setattr(audio, "load", load)
    return monkeypatch


def names(store: AudioCache) -> list[str]:
    return [entry.recording.name for entry in store.entries]


def test_every_recording_in_order_sample_for_sample(tmp_path: Path) -> None:
    recordings = corpus(tmp_path)
    steps: list[tuple[int, int]] = []
    store = pack(recordings, tmp_path / "cache", progress=lambda done, total: steps.append((done, total)))
    assert [entry.recording for entry in store.entries] == recordings
    for i, entry in enumerate(store.entries):
        expected = noise(i, 500 + 100 * ((7 * i) % 20))
        assert np.array_equal(store.audio(i), expected)
        assert entry.n_samples == len(expected)
        assert entry.hash == audio.content_hash(expected)
        assert np.array_equal(store.pcm[entry.start : entry.start + entry.n_samples], expected)
    assert store.pcm.dtype == np.int16
    assert len(store.pcm) == sum(entry.n_samples for entry in store.entries)
    assert (store.bad, store.duplicates, store.sample_rate) == ({}, [], RATE)
    assert steps == [(i + 1, 20) for i in range(20)]


def test_another_rate_is_resampled_and_cached_apart(tmp_path: Path) -> None:
    recordings = corpus(tmp_path, 2)
    assert pack(recordings, tmp_path / "cache").entries[0].n_samples == 500
    assert pack(recordings, tmp_path / "cache", sample_rate=8000).entries[0].n_samples == 250
    assert len(list((tmp_path / "cache").glob("*.i16"))) == 2


def test_second_call_decodes_only_what_was_unusable(tmp_path: Path, decodes_nothing: pytest.MonkeyPatch) -> None:
    recordings = [*corpus(tmp_path), recording(tmp_path, "bad.wav", None)]
    with pytest.raises(RuntimeError, match="again"):
        pack(recordings, tmp_path / "cache")
    decodes_nothing.undo()
    first = pack(recordings, tmp_path / "cache")
    decoded = counted(decodes_nothing)
    second = pack(recordings, tmp_path / "cache")
    assert decoded == ["bad.wav"], "it may be readable by now, as with ffmpeg"
    assert isinstance(second.pcm, np.memmap)
    assert (second.entries, second.bad) == (first.entries, first.bad)
    assert np.array_equal(second.pcm, first.pcm)
    assert list(second.bad) == ["bad.wav"]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded from now on."""
    decoded, load = list[str](), audio.load
    monkeypatch.setattr(audio, "load", lambda path, *others: decoded.append(path.name) or load(path, *others))
    return decoded


def test_one_more_recording_is_one_more_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings, cache = corpus(tmp_path, 10), tmp_path / "cache"
    pack(recordings[:4], cache)
    decoded = counted(monkeypatch)
    for n in range(5, 11):
        store = pack(recordings[:n], cache)
        assert decoded[n - 5 :] == [f"{n - 1}.wav"]
        for i, entry in enumerate(store.entries):
            assert np.array_equal(store.audio(i), noise(i, entry.n_samples))
    size = sum(path.stat().st_size for path in cache.glob("*.i16"))
    assert size == 2 * sum(entry.n_samples for entry in store.entries), "no second copy"
    store = pack(recordings[3:1:-1], cache)
    assert [np.array_equal(store.audio(k), noise(i, len(store.audio(k)))) for k, i in enumerate((3, 2))] == [True, True]
    assert len(decoded) == 6


def test_what_is_gone_changed_or_unused_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings, cache = corpus(tmp_path, 10), tmp_path / "cache"
    (cache).mkdir()
    (cache / f"{'a' * 64}.i16").write_bytes(b"an earlier version")
    first = pack(recordings[:8], cache)
    assert len(list(cache.iterdir())) == 2
    mapped = np.array(first.audio(7))
    for gone in recordings[:4]:
        gone.path.unlink()
    decoded = counted(monkeypatch)
    store = pack(recordings[4:9], cache)
    assert decoded == ["8.wav"]
    (samples,) = cache.glob("*.i16")
    assert samples.stat().st_size == 2 * sum(entry.n_samples for entry in store.entries)
    for i, entry in enumerate(store.entries):
        assert np.array_equal(store.audio(i), noise(i + 4, entry.n_samples))
    assert np.array_equal(first.audio(7), mapped), "who has mapped the old file keeps it"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 40 * 24 * 3600)
    store = pack(recordings[9:], cache)
    assert samples.with_name(next(cache.glob("*.i16")).name).stat().st_size == 2 * len(store.audio(0))


def test_a_cache_that_cannot_be_written_is_refused_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/cache")):
        with pytest.raises(KwsError, match=rf"^data\.cache={place}: must be a folder that can be written \("):
            pack(corpus(tmp_path, 1), place)


def test_labels_and_splits_change_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = corpus(tmp_path, 4)
    pack(recordings, tmp_path / "cache")
    monkeypatch.setattr(audio, "load", None)
    changed = [replace(r, label="dog", split=Split.TEST, text="a dog") for r in recordings]
    store = pack(changed, tmp_path / "cache")
    assert [entry.recording for entry in store.entries] == changed
    assert np.array_equal(store.audio(3), noise(3, store.entries[3].n_samples))


def test_a_changed_file_is_decoded_again(tmp_path: Path) -> None:
    recordings = corpus(tmp_path, 3)
    pack(recordings, tmp_path / "cache")
    before = recordings[1].path.stat()
    recording(tmp_path, "1.wav", noise(99, (before.st_size - 44) // 2))
    os.utime(recordings[1].path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert recordings[1].path.stat().st_size == before.st_size
    store = pack(recordings, tmp_path / "cache")
    assert np.array_equal(store.audio(1), noise(99, store.entries[1].n_samples))


def test_a_missing_file_is_decoded_once_it_exists(tmp_path: Path) -> None:
    recordings = corpus(tmp_path, 3)
    (tmp_path / "1.wav").rename(tmp_path / "away")
    assert pack(recordings, tmp_path / "cache", max_undecodable=0.5).bad == {"1.wav": "no such file"}
    (tmp_path / "away").rename(tmp_path / "1.wav")
    assert pack(recordings, tmp_path / "cache").bad == {}


def test_undecodable_files_do_not_shift_the_others(tmp_path: Path) -> None:
    recordings = corpus(tmp_path)
    recordings[5] = recording(tmp_path, "5.wav", None)
    recordings[0] = recording(tmp_path, "0.wav", np.zeros(0, np.int16))
    store = pack(recordings, tmp_path / "cache")  # 2 of 20 are data.max_undecodable
    assert list(store.bad) == ["0.wav", "5.wav"]
    assert store.bad["0.wav"] == "empty"
    assert "not recognised" in store.bad["5.wav"]
    assert len(store.entries) == 18
    for i, entry in enumerate(store.entries):
        seed = int(entry.recording.path.stem)
        assert np.array_equal(store.audio(i), noise(seed, entry.n_samples))


def test_too_many_undecodable_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = corpus(tmp_path)
    for i in (3, 5, 7, 11):
        recordings[i] = recording(tmp_path, f"{i}.wav", None)
    message = (
        r"4 of 20 recordings \(20\.0%\) have no usable sound, more than data\.max_undecodable=0\.1: "
        r"3\.wav \(.*not recognised\), 5\.wav \(.*\), 7\.wav \(.*\), \.\.\.$"
    )
    with pytest.raises(KwsError, match=message):
        pack(recordings, tmp_path / "cache")
    decoded = counted(monkeypatch)  # the cache serves a call with a higher limit
    assert len(pack(recordings, tmp_path / "cache", max_undecodable=0.2).bad) == 4
    assert len(decoded) == 4


def test_all_files_may_be_undecodable(tmp_path: Path) -> None:
    store = pack([recording(tmp_path, "a.wav", None)], tmp_path / "cache", max_undecodable=1.0)
    assert (store.entries, len(store.pcm), len(store.bad)) == ([], 0, 1)


def test_audio_of_a_held_out_split_is_not_in_train(tmp_path: Path) -> None:
    same, other = noise(1, 800), noise(2, 800)
    recordings = [
        recording(tmp_path, "train.flac", same, Split.TRAIN),
        recording(tmp_path, "validation.wav", same, Split.VALIDATION),
        recording(tmp_path, "test.aiff", same, Split.TEST),
        recording(tmp_path, "test again.wav", same, Split.TEST),
        recording(tmp_path, "other.wav", other, Split.TRAIN),
        recording(tmp_path, "other again.flac", other, Split.TRAIN),
    ]
    store = pack(recordings, tmp_path / "cache")
    assert names(store) == ["test.aiff", "test again.wav", "other.wav", "other again.flac"]
    assert store.duplicates == ["train.flac", "validation.wav"]
    assert np.array_equal(store.audio(0), same)
    assert np.array_equal(store.audio(3), other)
    # splits are not cached: as train recordings all are kept
    store = pack([replace(r, split=Split.TRAIN) for r in recordings], tmp_path / "cache")
    assert (len(store.entries), store.duplicates) == (6, [])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(list(Split))), min_size=1, max_size=12))
def test_no_audio_is_in_two_splits_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, sampled: list[tuple[int, Split]]
) -> None:
    root = tmp_path_factory.mktemp("corpus")
    recordings = [recording(root, f"{i}.wav", noise(seed, 8), split) for i, (seed, split) in enumerate(sampled)]
    store = pack(recordings, root / "cache")
    splits: dict[str, set[Split]] = {}
    for entry in store.entries:
        splits.setdefault(entry.hash, set()).add(entry.recording.split)
    assert all(len(held) == 1 for held in splits.values())
    assert len(splits) == len({seed for seed, _ in sampled})
    assert sorted(names(store) + store.duplicates) == sorted(r.name for r in recordings)


def test_a_killed_run_leaves_a_good_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = corpus(tmp_path)
    real_load = audio.load

    def killed_at_the_12th(path: Path, *others: Any) -> np.ndarray:
        if path.stem == "12":
            raise KeyboardInterrupt
        return real_load(path, *others)

    with monkeypatch.context() as patched:
        patched.setattr(audio, "load", killed_at_the_12th)
        with pytest.raises(KeyboardInterrupt):
            pack(recordings, tmp_path / "cache")
    store = pack(recordings, tmp_path / "cache")
    for i, entry in enumerate(store.entries):
        assert np.array_equal(store.audio(i), noise(i, entry.n_samples))
    assert len(store.pcm) == sum(entry.n_samples for entry in store.entries)


@pytest.mark.parametrize("damage", ["index gone", "index cut", "index of another kind", "sound cut", "sound gone"])
def test_a_damaged_cache_is_written_again(tmp_path: Path, damage: str) -> None:
    recordings = corpus(tmp_path, 4)
    cache = tmp_path / "cache"
    whole = np.array(pack(recordings, cache).pcm)
    (index,), (sound,) = cache.glob("*.sqlite"), cache.glob("*.i16")
    if damage == "index gone":
        index.unlink()
    elif damage == "index cut":
        index.write_bytes(index.read_bytes()[:-20])
    elif damage == "index of another kind":
        index.write_text("no index" * 100)
    elif damage == "sound cut":
        sound.write_bytes(sound.read_bytes()[:-2])
    else:
        sound.unlink()
    assert np.array_equal(pack(recordings, cache).pcm, whole)
    assert len(list(cache.iterdir())) == 2, "nothing is left of the damaged one"


def test_files_of_a_user_in_the_folder_stay(tmp_path: Path) -> None:
    recordings, cache = corpus(tmp_path), tmp_path / "cache"
    (cache / "16000-takes").mkdir(parents=True)
    mine = [cache / name for name in ("16000-my-voice.wav", "16000.wav", "16000-takes/a.wav", "notes.txt")]
    for path in mine:
        path.write_text("mine")
    pack(recordings[:10], cache)
    pack(recordings, cache)
    next(cache.glob("*.sqlite")).write_text("no index" * 100)
    pack(recordings, cache)
    assert [path.read_text() for path in mine] == ["mine"] * 4


def test_torch_takes_a_view_and_the_file_cannot_be_changed_through_it(tmp_path: Path) -> None:
    recordings = corpus(tmp_path, 2)
    store = pack(recordings, tmp_path / "cache")
    view = torch.from_numpy(store.audio(1))  # a warning about read-only memory would be an error here
    view.zero_()
    assert np.array_equal(pack(recordings, tmp_path / "cache").audio(1), noise(1, len(view)))


def test_real_recordings(tmp_path: Path) -> None:
    if "KWS_DATA" not in os.environ:
        pytest.skip("KWS_DATA does not name the folder of real recordings")
    root = Path(os.environ["KWS_DATA"])
    some = [r for r in read(root) if r.label in {"alexa", "noise"}][::20]
    corrupt = [Recording(root / "corrupt" / n, f"corrupt/{n}", "alexa", Split.TRAIN) for n in ("126.flac", "142.flac")]
    store = pack(some + corrupt, tmp_path / "cache")
    assert list(store.bad) == ["corrupt/126.flac", "corrupt/142.flac"]
    assert all("flac decoder" in reason for reason in store.bad.values())
    for i, entry in enumerate(store.entries):
        expected = soundfile.read(entry.recording.path, dtype="int16")[0]
        assert np.array_equal(store.audio(i), expected)
