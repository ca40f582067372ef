"""Annotation files of every format give the same spans."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.evaluation.annotations import Annotation, read_annotations


def spans_of(marks: list[Annotation]) -> list[tuple[float, float]]:
    return [mark.span for mark in marks]


# Times in hundredths, so that each format holds them exactly.
SPANS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 500)), min_size=1, max_size=8)


def written(folder: Path, spans: list[tuple[float, float]], label: str = "computer") -> list[Path]:
    """The same annotations in every format, each with another word beside them."""
    every = [*((a, b, label) for a, b in spans), (1.0, 2.0, "kitchen")]
    (folder / "e.json").write_text(json.dumps([{"start": a, "end": b, "label": x} for a, b, x in every]))
    (folder / "e.csv").write_text("label,start,end\n" + "".join(f"{x},{a},{b}\n" for a, b, x in every))
    (folder / "e.txt").write_text("".join(f"{a:f}\t{b:f}\t{x}\n\\\t200.0\t300.0\n" for a, b, x in every))
    lines = [f"LEXEME file 1 {a:.2f} {b - a:.2f} {x} lex speaker1 0.9 <NA>\n" for a, b, x in every]
    (folder / "e.rttm").write_text(";; a comment\n" + "".join(lines))
    return [folder / f"e.{kind}" for kind in ("json", "csv", "txt", "rttm")]


@given(spans=SPANS)
def test_all_formats_agree(tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int]]) -> None:
    wanted = [(a / 100, (a + n) / 100) for a, n in spans]
    for path in written(tmp_path_factory.mktemp("events"), wanted):
        found = spans_of(read_annotations(path, "Computer"))
        assert len(found) == len(wanted)
        for (a, b), (start, end) in zip(found, wanted, strict=True):
            assert a == pytest.approx(start, abs=1e-6)
            assert b == pytest.approx(end + 0.5, abs=1e-6), "a word may be answered for half a second"


def test_collar_s_widens_each_span(tmp_path: Path) -> None:
    for path in written(tmp_path, [(0.1, 0.6), (3.0, 4.0)]):
        found = spans_of(read_annotations(path, "computer", (0.25, 1.0)))
        assert found == [(0.0, pytest.approx(1.6)), (2.75, pytest.approx(5.0))], "no span begins before the stream"
    (tmp_path / "pairs.json").write_text("[[1, 2]]")
    assert spans_of(read_annotations(tmp_path / "pairs.json", "computer")) == [(1, 2)], "spans to answer in already"
    assert spans_of(read_annotations(tmp_path / "pairs.json", "computer", (0.5, 0.5))) == [(0.5, 2.5)]


def test_other_labels_alone_are_an_error(tmp_path: Path) -> None:
    for path in written(tmp_path, [(1.0, 2.0)]):
        with pytest.raises(KwsError, match="no line is labelled 'alexa'; labels are 'computer', 'kitchen'"):
            read_annotations(path, "alexa")


def test_events_without_labels_are_of_the_keyword(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("start,end\n1,2\n3,4\n")
    (tmp_path / "e.txt").write_text("1.0\t2.0\n3.0\t4.0\t\n")
    (tmp_path / "e.rttm").write_text(
        "SPEAKER f 1 1 1 <NA> <NA> computer <NA> <NA>\nSPEAKER f 1 3 1 <NA> <NA> computer\n"
    )
    for name in ("e.csv", "e.txt", "e.rttm"):
        assert spans_of(read_annotations(tmp_path / name, "computer")) == [(1, 2.5), (3, 4.5)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("e.csv", "from,to\n1,2\n", "column 'start' is missing in its first line, found from, to"),
        ("e.csv", "", "column 'start' is missing in its first line, found none"),
        ("e.csv", "start,end\n1\n", "line 2 must be"),
        ("e.csv", "start,end\n2,1\n", r"line 2 must be .* not \[2.0, 1.0\]"),
        ("e.csv", "start,end\n1,nan\n", "line 2 must be"),
        ("e.txt", "soon\tlater\tcomputer\n", r"line 1 must be .* not \['soon', 'later'\]"),
        ("e.txt", "1.0\n", "line 1 must be"),
        ("e.rttm", "SPEAKER f 1 2\n", "line 1: must have at least 8 fields, not 4"),
        ("e.rttm", "SPEAKER f 1 2 x <NA> <NA> computer\n", "line 1 must be"),
        ("e.json", '[{"start": 1}]', "event 0 must be"),
        ("e.doc", "1 2", "the suffix must be one of .json, .csv, .txt, .rttm"),
    ],
)
def test_malformed_files_are_refused_with_the_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(KwsError, match=message) as caught:
        read_annotations(tmp_path / name, "computer")
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[1, 2], [3, 3]]", r"event 1 must be .* not \[3, 3\]"),
        ("[[-1, 2]]", "event 0"),
        ("[[1]]", "event 0"),
        ("[[false, true]]", "event 0"),
        ('[["1", 2]]', "event 0"),
        ("[[NaN, 2]]", "event 0"),
        ("[[0, Infinity]]", "event 0"),
        ("[[0, 1" + "0" * 400 + "]]", "event 0"),
        ("[7]", "event 0 must be .* not 7"),
        ('[{"start": 1, "end": 2, "label": 7}]', "event 0: label=7: must be text"),
        ('{"a": [1, 2]}', "must hold a list of .* not a dict"),
        ("[[1, 2]", "not a readable JSON"),
        ("[" * 100_000, "not a readable JSON"),
        ("\udcff", "not a readable JSON"),
    ],
)
def test_malformed_json_events_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "e.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(KwsError, match=rf"e\.json: .*{message}|e\.json: {message}"):
        read_annotations(path, "computer")


def test_an_event_without_a_label_is_an_event_of_the_keyword(tmp_path: Path) -> None:
    some = [{"start": i, "end": i + 0.5, **label} for i, label in enumerate(({}, {"label": None}, {"label": ""}))]
    (tmp_path / "e.json").write_text(json.dumps(some))
    assert len(read_annotations(tmp_path / "e.json", "computer")) == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.rttm", "SPEAKER a 1 0.5 0.6 computer <NA> x <NA>\nSPEAKER b 1 3 0.6 computer <NA> x <NA>\n"),
        ("e.csv", "path,start,end\na.flac,0.5,1.1\nb.flac,3,3.6\n"),
    ],
)
def test_annotations_of_several_recordings_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(KwsError, match=r"must annotate one recording, not 2: a(\.flac)?, b"):
        read_annotations(tmp_path / name, "computer")
    (tmp_path / name).write_text(text.replace("b", "a", 1) if name == "e.rttm" else text.replace("b.flac", "a.flac"))
    assert len(read_annotations(tmp_path / name, "computer")) == 2


def test_missing_and_one_second_events(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"e\.json"):
        read_annotations(tmp_path / "e.json", "computer")
    (tmp_path / "e.json").write_text("[[0, 1], [1, 2.5]]")  # no bools, though 1 == True
    assert spans_of(read_annotations(tmp_path / "e.json", "computer")) == [(0, 1), (1, 2.5)]


def test_tables_of_spreadsheets(tmp_path: Path) -> None:
    text = "sep=;\r\nStart;End;Label\r\n1,5;2,25;Hey-Jarvis\r\n"
    for content in (text.encode(), text.replace("sep=;\r\n", "").replace(";", "\t").encode("utf-16")):
        (tmp_path / "e.csv").write_bytes(content)
        ((_, spoken_s),) = read_annotations(tmp_path / "e.csv", "hey jarvis")
        assert spoken_s == 2.25
