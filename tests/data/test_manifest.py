import functools
import importlib.util
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.data.manifest import Layout, Recording, Split, SplitBy, hash_split, read
from kws.data.transcripts import contains_phrase


def data_folder() -> Path:
    if "KWS_DATA" not in os.environ:
        pytest.skip("KWS_DATA does not name the folder of real recordings")
    return Path(os.environ["KWS_DATA"]).resolve()


def write_csv(root: Path, *lines: str) -> Path:
    path = root / "manifest.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


# ---- splits


@functools.cache
def referee_part() -> Callable[[str], str]:
    script = data_folder().parent / "referee" / "make_streams.py"
    if not script.is_file():
        pytest.skip("no referee beside KWS_DATA")
    spec = importlib.util.spec_from_file_location("make_streams", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.part


def test_hash_split_known_answers() -> None:
    # int(sha256(b"part:" + name).hexdigest(), 16) % 100 is 48, 73 and 79; the borders 60 and 75
    assert [hash_split(name) for name in "aec"] == [Split.TRAIN, Split.VALIDATION, Split.TEST]
    counts = Counter(hash_split(str(i)) for i in range(4000))
    assert [counts[split] / 4000 for split in Split] == pytest.approx([0.6, 0.15, 0.25], abs=0.03)


@given(st.text())
def test_hash_split_agrees_with_the_referee(name: str) -> None:
    assert hash_split(name) == referee_part()(name)


# ---- csv


def test_csv_fields_order_and_hashed_splits(tmp_path: Path) -> None:
    write_csv(
        tmp_path,
        "path,duration_s,label,speaker,text,source",
        'b/2.flac,1.0,alexa,,"alexa, stop",crowd',
        "a/1.flac,2.5,speech,ann,hello,libri",
    )
    assert read(tmp_path) == [
        Recording(tmp_path.resolve() / "b/2.flac", "b/2.flac", "alexa", hash_split("2"), "", "alexa, stop", "crowd"),
        Recording(tmp_path.resolve() / "a/1.flac", "a/1.flac", "speech", hash_split("ann"), "ann", "hello", "libri"),
    ]


def test_only_path_and_label_are_required(tmp_path: Path) -> None:
    write_csv(tmp_path, "label,path", "cat,x.wav")
    (recording,) = read(tmp_path)
    assert (recording.label, recording.speaker, recording.text) == ("cat", "", "")


def test_spreadsheet_csv_with_mark_and_unicode(tmp_path: Path) -> None:
    text = "path,label,speaker\r\nмир/hé llo.wav,grüße,søren\r\n"
    (tmp_path / "manifest.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (recording,) = read(tmp_path)
    assert (recording.name, recording.label) == ("мир/hé llo.wav", "grüße")
    assert recording.split is hash_split("søren")


def test_a_quoted_line_break_and_a_unicode_line_separator_stay_in_the_text(tmp_path: Path) -> None:
    write_csv(tmp_path, "path,label,text", 'a.wav,cat,"one\ntwo"', "b.wav,cat,one\u2028two")
    assert [r.text for r in read(tmp_path)] == ["one\ntwo", "one\u2028two"]


def test_column_decides_unless_hash_is_asked_for(tmp_path: Path) -> None:
    write_csv(tmp_path, "path,label,part", *(f"{i}.wav,cat,{list(Split)[i % 3]}" for i in range(9)))
    by_column = [list(Split)[i % 3] for i in range(9)]
    by_hash = [hash_split(str(i)) for i in range(9)]
    assert by_column != by_hash
    assert [r.split for r in read(tmp_path)] == by_column
    assert [r.split for r in read(tmp_path, split=SplitBy.column)] == by_column
    assert [r.split for r in read(tmp_path, split=SplitBy.hash)] == by_hash


def test_column_of_another_name(tmp_path: Path) -> None:
    write_csv(tmp_path, "path,label,fold", "a.wav,cat,test")
    assert read(tmp_path, part_column="fold")[0].split is Split.TEST


def test_manifest_elsewhere_and_of_another_name(tmp_path: Path) -> None:
    sounds, lists = tmp_path / "sounds", tmp_path / "lists"
    sounds.mkdir()
    lists.mkdir()
    write_csv(lists, "path,label", "a.wav,cat").rename(lists / "mine.csv")
    assert read(sounds, lists / "mine.csv")[0].path == sounds.resolve() / "a.wav"
    (lists / "mine.csv").rename(sounds / "mine.csv")
    assert read(sounds, Path("mine.csv"))[0].label == "cat"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["path,duration_s", "a.wav,1"],
            r"manifest\.csv: column 'label' is missing .*, found path, duration_s",
        ),
        ([""], r"manifest\.csv: column 'path' is missing"),
        (["path,label"], r"manifest\.csv: no recordings"),
        (["path,label", "a.wav,cat", "b.wav,"], r"manifest\.csv:3: 'label' is missing"),
        (["path,label", ",cat"], r"manifest\.csv:2: 'path' is missing"),
        (["path,label", "a.wav,cat,x"], r"manifest\.csv:2: 3 values, but 2 columns: put .* ',' in quotes"),
        (["path,label", 'a.wav,"cat'], r"manifest\.csv:\d: malformed CSV"),
        (
            ["path,label,part", "a.wav,cat,train", "b.wav,cat,other"],
            r"manifest\.csv:3: part='other': must be one of train, validation, test",
        ),
        (["path,label,part", "a.wav,cat,"], r"manifest\.csv:2: 'part' is missing, empty"),
        (
            ["path,label", "/etc/passwd,cat"],
            r"manifest\.csv:2: path='/etc/passwd': must be relative to data\.root, unless data\.allow_outside=true",
        ),
        (
            ["path,label", "../x.wav,cat"],
            r"manifest\.csv:2: path='\.\./x\.wav': must be below data\.root, unless data\.allow_outside=true",
        ),
        (["path,label", "a/../../x.wav,cat"], r"must be below data\.root"),
        (["path,label", "a\0.wav,cat"], r"manifest\.csv:2"),
        (
            ["path,label", "a.wav,cat", "b.wav,cat", "./x/../a.wav,dog"],
            r"manifest\.csv:4: path='x/\.\./a\.wav' was given at manifest\.csv:2",
        ),
    ],
)
def test_csv_errors_name_file_line_and_value(tmp_path: Path, lines: list[str], message: str) -> None:
    write_csv(tmp_path, *lines)
    with pytest.raises(KwsError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_links_out_of_the_root_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(tmp_path, "root/in.wav", "secret/out.wav")
    (root / "file.wav").symlink_to(tmp_path / "secret" / "out.wav")
    (root / "folder").symlink_to(tmp_path / "secret")
    (root / "fine.wav").symlink_to(root / "in.wav")
    (root / "loop.wav").symlink_to(root / "loop.wav")
    for name in ("file.wav", "folder/out.wav"):
        write_csv(root, "path,label", f"{name},cat")
        with pytest.raises(KwsError, match=rf"manifest\.csv:2: path='{name}': must be below data\.root"):
            read(root)
    write_csv(root, "path,label", "fine.wav,cat")
    assert read(root)[0].path == (root / "in.wav").resolve()
    write_csv(root, "path,label", "fine.wav,cat", "in.wav,cat")
    with pytest.raises(KwsError, match=r"was given at manifest\.csv:2"):
        read(root)


def test_paths_out_of_the_root_are_read_where_the_user_allows_it(tmp_path: Path) -> None:
    root, away = tmp_path / "root", tmp_path / "away"
    touch(tmp_path, "root/in.wav", "away/talk/out.wav", "away/u\u0308ber.wav", "away/cat/1.wav")
    (root / "link.wav").symlink_to(away / "talk" / "out.wav")
    write_csv(
        root,
        "path,label",
        f"{away}/talk/OUT.wav,cat",
        f"{away}/\u00fcber.wav,cat",
        "../away/cat/1.wav,dog",
        "in.wav,dog",
    )
    with pytest.raises(KwsError, match=r"must be relative to data\.root, unless data\.allow_outside=true"):
        read(root)
    found = read(root, allow_outside=True)
    assert [one.path for one in found] == [
        away / "talk/out.wav",
        away / "u\u0308ber.wav",
        away / "cat/1.wav",
        root / "in.wav",
    ]
    assert [one.name for one in found] == [
        f"{away}/talk/out.wav",
        f"{away}/u\u0308ber.wav",
        "../away/cat/1.wav",
        "in.wav",
    ]
    write_csv(root, "path,label", "link.wav,cat", f"{away}/talk/out.wav,cat")
    with pytest.raises(KwsError, match=r"manifest\.csv:3: .* was given at manifest\.csv:2"):
        read(root, allow_outside=True)
    write_csv(root, "path,label", f"{away}/gone.wav,cat")
    assert not read(root, allow_outside=True)[0].path.exists(), "missing files are counted later"


def test_links_to_folders_are_followed_where_the_user_allows_it(tmp_path: Path) -> None:
    touch(tmp_path, "root/dog/1.wav", "away/2.wav", "away/deep/.hidden/3.wav", "other/4.wav")
    (tmp_path / "root/cat").symlink_to(tmp_path / "away")
    (tmp_path / "away/back").symlink_to(tmp_path / "root")  # two loops
    (tmp_path / "away/deep/there").symlink_to(tmp_path / "other")
    (tmp_path / "other/again").symlink_to(tmp_path / "away")
    found = read(tmp_path / "root", allow_outside=True)
    assert [(one.name, one.label) for one in found] == [
        ("cat/2.wav", "cat"),
        ("cat/deep/there/4.wav", "cat"),
        ("dog/1.wav", "dog"),
    ]
    with pytest.raises(KwsError, match=r"cat: a link to a folder.*data\.allow_outside=true"):
        read(tmp_path / "root")


def test_links_to_files_that_are_found_elsewhere_are_left_out_if_they_say_the_same(tmp_path: Path) -> None:
    touch(tmp_path, "dog/a/1.wav", "dog/a/2.wav", "cat/3.wav")
    (tmp_path / "dog/again").symlink_to(tmp_path / "dog/a")
    (tmp_path / "cat/4.wav").symlink_to(tmp_path / "cat/3.wav")
    printed: list[str] = []
    found = read(tmp_path, allow_outside=True, say=printed.append)
    assert [one.name for one in found] == ["cat/3.wav", "dog/a/1.wav", "dog/a/2.wav"]
    assert printed == ["3 links to recordings that are found elsewhere are left out: cat/4.wav"]
    (tmp_path / "wolf").symlink_to(tmp_path / "dog")
    with pytest.raises(KwsError, match=r"wolf/a/1\.wav: must not link to the file of dog/a/1\.wav, which has another"):
        read(tmp_path, allow_outside=True)


def test_column_split_needs_the_column(tmp_path: Path) -> None:
    write_csv(tmp_path, "path,label", "a.wav,cat")
    with pytest.raises(KwsError, match="'part' is missing"):
        read(tmp_path, split=SplitBy.column)


def test_missing_root_manifest_and_odd_names(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"data\.root=.*nowhere: no such folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(KwsError, match=r"manifest\.jsonl: cannot be read.*No such file"):
        read(tmp_path, layout=Layout.jsonl)
    with pytest.raises(KwsError, match=r"data\.manifest=list\.xls: must end in \.csv, .*\.jsonl"):
        read(tmp_path, Path("list.xls"))


# ---- jsonl


def test_jsonl_holds_the_same_as_csv(tmp_path: Path) -> None:
    rows = [
        {"path": "ä.wav", "label": "cat", "speaker": 7, "text": "the cat", "duration_s": 1.5, "extra": [1]},
        {"path": "b.wav", "label": "dog", "speaker": None, "part": "test"},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    first, second = read(tmp_path, split=SplitBy.hash)
    assert (first.name, first.label, first.speaker, first.text) == ("ä.wav", "cat", "7", "the cat")
    assert first.split is hash_split("7")
    assert (second.speaker, second.split) == ("", hash_split("b"))
    with pytest.raises(KwsError, match=r"manifest\.jsonl:1: 'part' is missing"):
        read(tmp_path)  # one row has a part, so all must


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "a.wav", "label": ', r"manifest\.jsonl:2: malformed JSON"),
        ('["a.wav", "cat"]', r"manifest\.jsonl:2: must be a JSON object, not '\["),
        ('{"path": "a.wav"}', r"manifest\.jsonl:2: 'label' is missing"),
        ('{"path": "a.wav", "label": ["cat"]}', r"manifest\.jsonl:2: 'label' is .*not text"),
        ("[" * 100000, r"manifest\.jsonl:2: malformed JSON"),
        ('{"path": "\\ud800.wav", "label": "cat"}', r"manifest\.jsonl:2: path="),
    ],
)
def test_jsonl_errors_name_the_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"path": "ok.wav", "label": "cat"}\n' + line)
    with pytest.raises(KwsError, match=message):
        read(tmp_path)


# ---- folders


def test_folders_are_labels_sorted_and_recursive(tmp_path: Path) -> None:
    touch(tmp_path, "dog/2.FLAC", "cat/deep/er/1.wav", "cat/0.mp3", "dog/notes.txt", "README.md")
    touch(tmp_path, "cat/._0.mp3", ".trash/x.wav")
    recordings = read(tmp_path)
    assert [(r.name, r.label) for r in recordings] == [
        ("cat/0.mp3", "cat"),
        ("cat/deep/er/1.wav", "cat"),
        ("dog/2.FLAC", "dog"),
    ]
    assert [r.split for r in recordings] == [hash_split("0"), hash_split("1"), hash_split("2")]


def test_every_format_that_can_be_written_is_found(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    names = ["a.wav", "b.flac", "c.ogg", "d.mp3", "e.aiff", "f.au", "g.caf", "h.w64"]
    for name in names:
        soundfile.write(tmp_path / "cat" / name, np.zeros(1600, np.float32), 16000)
    assert [r.path.name for r in read(tmp_path)] == names


def test_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="no recordings"):
        read(tmp_path)
    touch(tmp_path, "cat/1.wav", "stray.wav")
    with pytest.raises(KwsError, match=r"stray\.wav: must lie in the folder of its label"):
        read(tmp_path)
    (tmp_path / "stray.wav").unlink()
    (tmp_path / "dog").symlink_to(tmp_path / "cat")
    with pytest.raises(KwsError, match="dog: a link to a folder"):
        read(tmp_path)


# ---- Speech Commands


def speech_commands(root: Path) -> None:
    touch(root, "bed/aa_nohash_0.wav", "bed/bb_nohash_0.wav", "cat/aa_nohash_1.wav", "cat/cc_nohash_0.wav")
    touch(root, "_background_noise_/running_tap.wav", "_background_noise_/README.md", "LICENSE")
    (root / "validation_list.txt").write_text("bed/bb_nohash_0.wav\n\n")
    (root / "testing_list.txt").write_text("cat/cc_nohash_0.wav\ncat/not_here_nohash_0.wav\n\n")


def test_speech_commands(tmp_path: Path) -> None:
    speech_commands(tmp_path)
    assert [(r.name, r.label, r.split, r.speaker) for r in read(tmp_path)] == [
        ("_background_noise_/running_tap.wav", "noise", Split.TRAIN, ""),
        ("bed/aa_nohash_0.wav", "bed", Split.TRAIN, "aa"),
        ("bed/bb_nohash_0.wav", "bed", Split.VALIDATION, "bb"),
        ("cat/aa_nohash_1.wav", "cat", Split.TRAIN, "aa"),
        ("cat/cc_nohash_0.wav", "cat", Split.TEST, "cc"),
    ]
    by_hash = {r.name: r.split for r in read(tmp_path, split=SplitBy.hash)}
    assert by_hash["cat/cc_nohash_0.wav"] is hash_split("cc")
    assert by_hash["bed/aa_nohash_0.wav"] is by_hash["cat/aa_nohash_1.wav"]


def test_speech_commands_lists_must_agree(tmp_path: Path) -> None:
    speech_commands(tmp_path)
    (tmp_path / "testing_list.txt").write_text("cat/cc_nohash_0.wav\nbed/bb_nohash_0.wav\n")
    with pytest.raises(KwsError, match=r"testing_list\.txt:2: 'bed/bb_nohash_0\.wav' is in the validation"):
        read(tmp_path)
    (tmp_path / "validation_list.txt").unlink()
    with pytest.raises(KwsError, match=r"validation_list\.txt missing"):
        read(tmp_path)
    (tmp_path / "testing_list.txt").unlink()
    with pytest.raises(KwsError, match=r"validation_list\.txt and testing_list\.txt missing"):
        read(tmp_path, layout=Layout.speech_commands, split=SplitBy.column)
    assert read(tmp_path, layout=Layout.speech_commands)[1].split is hash_split("aa")


def test_auto_takes_the_manifest_first(tmp_path: Path) -> None:
    speech_commands(tmp_path)
    (tmp_path / "manifest.jsonl").write_text('{"path": "bed/aa_nohash_0.wav", "label": "from jsonl"}\n')
    assert {r.label for r in read(tmp_path)} == {"from jsonl"}
    write_csv(tmp_path, "path,label", "bed/aa_nohash_0.wav,from csv")
    assert {r.label for r in read(tmp_path)} == {"from csv"}
    labels = {"bed", "cat", "noise"}
    assert {r.label for r in read(tmp_path, layout=Layout.speech_commands)} == labels
    assert {r.label for r in read(tmp_path, layout=Layout.folders)} == labels


# ---- the real recordings


def test_real_manifest() -> None:
    recordings = read(data_folder())
    assert Counter(r.label for r in recordings)["noise"] == 233
    assert sum(r.label in {"bed", "cat", "happy"} for r in recordings) == 1346
    assert {r.split for r in recordings} == set(Split)
    speakers = {r.speaker: r.split for r in recordings if r.speaker}
    assert all(speakers[r.speaker] is r.split for r in recordings if r.speaker)
    assert all(r.path.is_file() for r in recordings)
    assert sum(r.label == "speech" and contains_phrase(r.text, "cat") for r in recordings) > 0


# ---- bounds of keywords


def test_half_a_character_in_a_field_is_replaced(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav")
    fields = dict.fromkeys(("label", "speaker", "text", "source"), "a\ud800")
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"path": "1.wav", **fields}))
    (one,) = read(tmp_path)
    assert (one.label, one.speaker, one.text, one.source) == ("a?",) * 4


def test_columns_start_and_end_are_the_bounds_of_a_keyword(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "2.wav", "3.wav")
    write_csv(tmp_path, "path;label;Start;End", "1.wav;a;0.30;0,95", "2.wav;b;;", "3.wav;a;1;")
    assert [(one.start_s, one.end_s) for one in read(tmp_path)] == [(0.3, 0.95), (None, None), (1.0, None)]


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("-1", "", r"manifest\.csv:2: start='-1': must be seconds, from 0 to 1e\+07, or empty"),
        ("0:30", "", r"start='0:30': must be seconds"),
        ("", "inf", r"end='inf': must be seconds"),
        ("1e305", "", r"start='1e305': must be seconds"),
        ("2", "1.5", r"manifest\.csv:2: end=1\.5: must be after start=2"),
        ("", "0", r"manifest\.csv:2: end=0: must be after start=0"),
    ],
)
def test_wrong_bounds_are_refused(tmp_path: Path, start: str, end: str, message: str) -> None:
    touch(tmp_path, "1.wav")
    write_csv(tmp_path, "path,label,start,end", f"1.wav,a,{start},{end}")
    with pytest.raises(KwsError, match=message):
        read(tmp_path)
