"""Speech Commands: the splits of torchaudio, copies, and atomic downloads."""

import shutil
import sys
import tarfile
from collections import Counter
from pathlib import Path
from urllib.error import URLError

import pytest

from kws.common.errors import KwsError
from kws.data import speech_commands
from kws.data.folders import NOISE
from kws.data.manifest import Layout, Split, SplitBy, hash_split, read
from tests.benchmarks import three_words
from tests.kill import Killed
from tests.speech_commands_folder import MELODIES, write_commands

RELEASE = "speech_commands_v0.02"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data") / RELEASE
    write_commands(made, 20)
    return made


def by_lists(folder: Path) -> dict[str, Split]:
    """Splits by the two lists, as the manifest reads them."""
    return {one.name: one.split for one in read(folder, layout=Layout.speech_commands, split=SplitBy.column)}


def test_splits_are_those_of_the_lists(folder):
    found = speech_commands.recordings(folder, RELEASE)
    assert {one.name: one.split for one in found} == by_lists(folder)
    assert Counter(one.label for one in found) == dict.fromkeys(MELODIES, 20) | {NOISE: 2}
    assert {one.split for one in found if one.label == NOISE} == {Split.TRAIN}
    assert {one.split for one in found} == set(Split)
    assert all(one.split is hash_split(one.speaker) for one in found if one.label != NOISE)


def test_real_recordings_have_equal_splits_by_torchaudio_and_by_the_lists(data, tmp_path):
    three_words.make(data, tmp_path / "words", 12)
    found = speech_commands.recordings(tmp_path / "words", "speech_commands_v0.01")
    assert {one.name: one.split for one in found} == by_lists(tmp_path / "words")
    spoken = Counter(one.label for one in found if one.label != NOISE)
    assert spoken == dict.fromkeys((*three_words.WORDS, *three_words.OTHERS, "sentence"), 12)
    # The speakers of the words have the splits of the folder of recordings.
    splits = {one.speaker: one.split for one in read(data) if one.label in three_words.WORDS}
    assert all(one.split is splits[one.speaker] for one in found if one.label in three_words.WORDS)


def test_a_copy_may_lie_where_torchaudio_keeps_it(folder, tmp_path):
    kept = tmp_path / "SpeechCommands" / RELEASE
    shutil.copytree(folder, kept)
    assert speech_commands.place(tmp_path, RELEASE, False) == kept
    assert speech_commands.place(kept, RELEASE, False) == kept
    with pytest.raises(KwsError, match=r"no speech_commands_v0\.01 there.*data\.download=true"):
        speech_commands.place(tmp_path, "speech_commands_v0.01", False)


def test_an_incomplete_copy_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "less")
    first = (folder / "testing_list.txt").read_text().splitlines()[0]
    (tmp_path / "less" / first).unlink()
    with pytest.raises(KwsError, match=f"1 files of its lists are missing, such as {first}"):
        speech_commands.recordings(tmp_path / "less", RELEASE)


def test_a_file_outside_the_lists_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "more")
    shutil.copy(folder / "up" / "00000000_nohash_0.wav", tmp_path / "more" / "up" / "mine.wav")
    with pytest.raises(KwsError, match=r"1 files are in none of its lists, such as up/mine\.wav"):
        speech_commands.recordings(tmp_path / "more", RELEASE)


def test_lists_that_torchaudio_cannot_read_are_one_error(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "odd")
    with (tmp_path / "odd" / "testing_list.txt").open("a") as file:
        file.write("up/no_speaker.wav\n")
    with pytest.raises(KwsError, match="its lists of files cannot be read"):
        speech_commands.recordings(tmp_path / "odd", RELEASE)


def archive(folder: Path, file: Path) -> None:
    """As the release is packed: its files at the top."""
    with tarfile.open(file, "w:gz") as tar:
        tar.add(folder, ".")


@pytest.fixture
def served(folder, tmp_path, monkeypatch):
    """torchaudio downloads the small folder; returns the addresses it asked for."""
    archive(folder, tmp_path / "served.tar.gz")
    asked = []

    def download(url: str, to: str, hash_prefix: str) -> None:
        asked.append(url)
        assert len(hash_prefix) == 64
        shutil.copy(tmp_path / "served.tar.gz", to)

    monkeypatch.setattr(sys.modules["torchaudio.datasets.speechcommands"], "download_url_to_file", download)
    return asked


def test_a_release_is_fetched_once(folder, served, tmp_path):
    root = tmp_path / "root"
    for _ in range(2):
        found = speech_commands.recordings(root, RELEASE, download=True)
        assert {one.name: one.split for one in found} == by_lists(folder)
    assert served == [f"http://download.tensorflow.org/data/{RELEASE}.tar.gz"]
    assert [p.name for p in root.iterdir()] == ["SpeechCommands"]


def test_a_kill_while_unpacking_leaves_no_incomplete_release(folder, served, tmp_path, monkeypatch):
    root, real, calls = tmp_path / "root", tarfile.TarFile.extract, 0

    def deadly(*args, **settings):
        nonlocal calls
        calls += 1
        if calls == 9:
            raise Killed
        return real(*args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extract", deadly)
        with pytest.raises(Killed):
            speech_commands.recordings(root, RELEASE, download=True)
    assert not (root / "SpeechCommands").exists()
    found = speech_commands.recordings(root, RELEASE, download=True)
    assert {one.name: one.split for one in found} == by_lists(folder)
    assert len(served) == 1, "what was downloaded is not asked for again"


def test_a_missing_network_is_one_line(cli, tmp_path, monkeypatch):
    def unreachable(*args, **settings):
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr(sys.modules["torchaudio.datasets.speechcommands"], "download_url_to_file", unreachable)
    words = ("train", "recipe=speech_commands/v2_12", f"data.root={tmp_path}", f"out={tmp_path}/run", "device=cpu")
    result = cli(*words, "data.download=true")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"{RELEASE} cannot be downloaded (Temporary failure in name resolution)" in result.err
    assert not (tmp_path / "run").exists()
    result = cli(*words)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"no {RELEASE} there" in result.err
    result = cli(*words, "data.release=null", "data.download=true")
    assert result.code == 2
    assert "data.download=true: must be false without a release" in result.err
