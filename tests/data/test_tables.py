"""Manifests as people write them."""

import os
from pathlib import Path

import pytest

from kws.common.errors import KwsError
from kws.data.manifest import Recording, Split, SplitBy, hash_split, read
from kws.data.sound_files import scan, sound_files

TEXT = "path,label,text\na/1.wav,computer,\na/2.wav,speech,one\n"


def manifest(root: Path, content: bytes | str, *names: str) -> tuple[list[Recording], list[str]]:
    """The recordings of a manifest, and the lines that are printed."""
    for name in names or ("a/1.wav", "a/2.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "manifest.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    said: list[str] = []
    return read(root, say=said.append), said


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.replace(",", "|").encode(),
        b"sep=,\r\n" + TEXT.replace("\n", "\r\n").encode(),
        b"SEP=;\n" + TEXT.replace(",", ";").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.replace(",", "\t").encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        b'Path, "Label",TEXT\n\n a/1.wav , computer,\n,,\na/2.wav,speech,one,,\n',
        b"path;label;text\na/1.wav;computer\na/2.wav;speech;one;;\n",
        TEXT.replace("/", "\\").encode(),
        TEXT.replace("a/1.wav", "a/._1.wav,computer,\na/1.wav").encode(),
    ],
)
def test_each_form_gives_the_same_recordings(tmp_path: Path, content: bytes) -> None:
    found, _ = manifest(tmp_path, content)
    assert [(r.path, r.name, r.label, r.text) for r in found] == [
        (tmp_path.resolve() / "a/1.wav", "a/1.wav", "computer", ""),
        (tmp_path.resolve() / "a/2.wav", "a/2.wav", "speech", "one"),
    ]


def test_commas_in_the_last_column_of_text_need_no_quotes(tmp_path: Path) -> None:
    found, said = manifest(tmp_path, "path,label,text\na/1.wav,computer,\na/2.wav,speech,well, yes, no\n")
    assert found[1].text == "well, yes, no"
    assert said == ["manifest.csv: 1 texts hold ',' without quotes; read to the end of the line"]


def test_quotes_in_the_texts_of_a_table_with_tabs(tmp_path: Path) -> None:
    found, _ = manifest(tmp_path, 'path\tlabel\tsentence\na/1.wav\tx\t"Hello, he said\na/2.wav\ty\t"No" and "no"\n')
    assert [r.text for r in found] == ['"Hello, he said', '"No" and "no"']
    # closed only on the next line: two recordings, not one
    found, _ = manifest(tmp_path, 'path\tlabel\tsentence\na/1.wav\tx\t"Hello\na/2.wav\ty\tno"\n')
    assert [r.text for r in found] == ['"Hello', 'no"']


def test_cp1252_is_read_and_printed(tmp_path: Path) -> None:
    found, said = manifest(tmp_path, "path,label,text\na/1.wav,computer,\na/2.wav,speech,über\n".encode("cp1252"))
    assert found[1].text == "über"
    assert said == ["manifest.csv: read as cp1252, because line 3 is not UTF-8: 'a/2.wav,speech,über'"]


@pytest.mark.parametrize("encoding", ["gbk", "cp1251", "shift-jis"])
def test_other_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    text = {"gbk": "打开电脑", "cp1251": "компьютер", "shift-jis": "コンピュータ"}[encoding]
    with pytest.raises(KwsError, match=r"manifest\.csv: line 2 cannot be read as UTF-8: byte 0x.*save .* as UTF-8"):
        manifest(tmp_path, f"path,label,text\na/1.wav,x,{text}\n".encode(encoding))


def test_columns_of_common_voice(tmp_path: Path) -> None:
    content = (
        "client_id,path,sentence,locale,label,split\ns1,a/1.wav,,en,computer,test\ns2,a/2.wav,well,en,speech,dev\n"
    )
    (first, second), said = manifest(tmp_path, content)
    assert (first.speaker, first.split, first.source) == ("s1", Split.TEST, "en")
    assert (second.speaker, second.split, second.text) == ("s2", Split.VALIDATION, "well")
    assert said == [
        "manifest.csv: column 'client_id' is read as 'speaker'",
        "manifest.csv: column 'sentence' is read as 'text'",
        "manifest.csv: column 'locale' is read as 'source'",
        "manifest.csv: column 'split' is read as the split",
        "manifest.csv: split: 'dev' is read as validation",
    ]
    assert read(tmp_path, split=SplitBy.hash)[0].split is hash_split("s1")


def test_the_name_of_a_manifest_is_preferred_to_known_ones(tmp_path: Path) -> None:
    found, said = manifest(tmp_path, "Path,Label,transcript,text,Part,set\na/1.wav,x,no,yes,Train,test\n")
    assert (found[0].text, found[0].split) == ("yes", Split.TRAIN)
    assert said == ["manifest.csv: part: 'Train' is read as train"]


def test_a_column_that_holds_no_split_is_not_used(tmp_path: Path) -> None:
    found, said = manifest(tmp_path, "path,label,set\na/1.wav,x,B\n")
    assert found[0].split is hash_split("1")
    assert said == ["manifest.csv: column 'set' holds no split, such as train, and is not used: 'B'"]
    with pytest.raises(KwsError, match=r"manifest\.csv:3: split='other': must be one of train, validation, test"):
        manifest(tmp_path, "path,label,split\na/1.wav,x,train\na/2.wav,x,other\n")
    with pytest.raises(KwsError, match=r"manifest\.csv: column 'path' is there twice"):
        manifest(tmp_path, "path,Path,label\na/1.wav,a/1.wav,x\n")


def test_names_that_differ_from_the_disk_in_case_and_unicode_form(tmp_path: Path) -> None:
    found, said = manifest(tmp_path, "path,label\nA/GRU\u0308N.WAV,x\n", "a/grün.wav")
    assert (found[0].path, found[0].name) == (tmp_path.resolve() / "a/grün.wav", "a/grün.wav")
    assert len(said) == 1
    assert said[0].startswith("manifest.csv: 1 names differ from those on disk")
    (tmp_path / "a/gRün.wav").touch()
    with pytest.raises(KwsError, match=r"manifest\.csv:2: path=.*: may be any of 'gRün\.wav', 'grün\.wav'"):
        read(tmp_path)
    assert manifest(tmp_path, "path,label\na/grün.wav,x\n")[0][0].name == "a/grün.wav", "an exact name is no question"


def test_paths_with_backslashes_stay_below_the_root(tmp_path: Path) -> None:
    for given, message in (("..\\x.wav", "below"), ("C:\\x.wav", "relative"), ("\\x.wav", "relative")):
        with pytest.raises(KwsError, match=rf"manifest\.csv:2: path=.*: must be {message}"):
            manifest(tmp_path, f"path,label\n{given},x\n")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/a/caf\xe9.wav"
    (tmp_path / "a").mkdir()
    Path(os.fsdecode(raw)).touch()
    by_folder, (by_name, _) = read(tmp_path), manifest(tmp_path, "path,label\na/café.wav,a\n", "a/2.wav")
    for found in (by_folder, by_name):
        assert [os.fsencode(one.path) for one in found] == [os.fsencode(tmp_path.resolve()) + b"/a/caf\xe9.wav"]
        assert [one.name for one in found] == ["a/café.wav"]


def test_one_scan_leaves_out_hidden_files_and_counts_the_others(tmp_path: Path) -> None:
    for name in ("a/1.wav", "a/._1.wav", ".git/2.wav", "a/b/3.FLAC", "a/notes.txt", "a/x.raw", "a/y.raw"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, others = scan(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/1.wav", "a/b/3.FLAC"]
    assert others == {".txt": 1, ".raw": 2}
    assert sound_files(tmp_path, "negative") == found
    (tmp_path / "c").mkdir()
    (tmp_path / "c/z.raw").touch()
    with pytest.raises(KwsError, match=r"negative=.*/c: no recording there; .*; found 1 \.raw"):
        sound_files(tmp_path / "c", "negative")


def test_folders_without_recordings_and_tables_that_are_not_read_are_printed(tmp_path: Path) -> None:
    for name in ("cat/1.wav", "dog/2.raw", "list.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    said: list[str] = []
    assert [r.label for r in read(tmp_path, say=said.append)] == ["cat"]
    assert said == [
        "dog/: no recording in it, but 1 .raw",
        "list.tsv: not read; data.manifest=list.tsv reads it",
    ]
