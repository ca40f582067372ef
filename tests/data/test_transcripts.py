"""Search of a keyword in transcripts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.data.transcripts import Match, contains_phrase, form_in, forms_listed


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("the cat sat", "cat", True),
        ("The CAT!", "cat", True),
        ("two cats", "cat", True),
        ("the cat's tail", "cat", True),
        ("cat", "cat", True),
        ("concatenate", "cat", False),
        ("catsup and category", "cat", False),
        ("", "cat", False),
        ("hey, jarvis", "hey_jarvis", True),
        ("so hey-Jarvis: go", "hey jarvis", True),
        ("they jarvis", "hey_jarvis", False),
        ("hey you jarvis", "hey_jarvis", False),
        ("o'clock", "o'clock", True),
        ("see the cat", "c.t", False),
        ("a (b", "(b", True),
        ("anything", ".*", False),
        ("anything", "", False),
        ("ÄPFEL", "äpfel", True),
        ("cafe\u0301 noir", "café", True),
    ],
)
def test_contains_phrase(text: str, phrase: str, expected: bool) -> None:
    assert contains_phrase(text, phrase) is expected


words = st.text("abcs", min_size=1, max_size=3)


@given(st.lists(words, max_size=8), st.lists(words, min_size=1, max_size=2))
def test_contains_phrase_agrees_with_the_referee(text: list[str], phrase: list[str]) -> None:
    banned = re.search(r"\b" + " ".join(phrase) + r"s?\b", " ".join(text)) is not None
    assert contains_phrase(" ".join(text), "_".join(phrase)) is banned


@given(st.text(max_size=12), st.text(max_size=4))
def test_a_phrase_is_found_in_any_text_around_it(text: str, phrase: str) -> None:
    if contains_phrase(phrase, phrase):  # it has a letter or a digit
        assert contains_phrase(f"{text} {phrase} {text}", phrase)


@pytest.mark.parametrize(
    ("text", "phrase", "match", "form"),
    [
        ("请打开电脑", "电脑", Match.word, "电 脑"),
        ("打开 电 脑", "电脑", Match.word, "电 脑"),
        ("このコンピューターは", "コンピューター", Match.word, "コ ン ピ ュ ー タ ー"),
        ("ｺﾝﾋﾟｭｰﾀｰ", "コンピューター", Match.word, "コ ン ピ ュ ー タ ー"),
        ("เปิดคอมพิวเตอร์หน่อย", "คอมพิวเตอร์", Match.word, "ค อ ม พิ ว เ ต อ ร์"),
        ("คนิ", "คน", Match.word, ""),  # the vowel sign makes another syllable
        ("ok谷歌你好", "OK谷歌", Match.word, "ok 谷 歌"),
        ("book谷歌", "ok谷歌", Match.word, ""),
        ("컴퓨터를 켜", "컴퓨터", Match.word, "컴퓨터를"),
        ("슈퍼컴퓨터", "컴퓨터", Match.word, ""),
        ("काम करो", "काम", Match.word, "काम"),
        ("कीमा करो", "काम", Match.word, ""),
        ("مَرْحَبًا بك", "مرحبا", Match.word, "مرحبا"),
        ("שָׁלוֹם", "שלום", Match.word, "שלום"),
        ("İSTANBUL", "istanbul", Match.word, "istanbul"),
        ("IŞIK", "ışık", Match.word, "işik"),
        ("компью́тер", "Компьютер", Match.word, "компьютер"),
        ("STRASSE", "straße", Match.word, "strasse"),
        ("soft\u00adware", "software", Match.word, "software"),
        ("whats up", "what's up", Match.word, "whats up"),
        ("what\u2019s up", "whats up", Match.word, "whats up"),
        ("l'ordinateur", "ordinateur", Match.word, "ordinateur"),
        ("two jarvises", "jarvis", Match.word, "jarvises"),
        ("bilgisayarı aç", "bilgisayar", Match.word, ""),
        ("bilgisayarı aç", "bilgisayar", Match.prefix, "bilgisayari"),
        ("computerspiel", "computer", Match.prefix, "computerspiel"),
        ("supercomputers", "computer", Match.prefix, ""),
        ("supercomputers", "computer", Match.anywhere, "supercomputers"),
        ("الحاسوب هنا", "حاسوب", Match.anywhere, "الحاسوب"),
    ],
)
def test_form_in_any_script(text: str, phrase: str, match: Match, form: str) -> None:
    assert form_in(text, phrase, match) == form


def test_forms_are_listed_as_people_write_them_the_most_frequent_first() -> None:
    texts = ["a computer", "Computers!", "computers", "このコンピューターは", "ok谷歌 你好", "เปิดคอมพิวเตอร์หน่อย"]
    words = ["computer", "computer", "computer", "コンピューター", "ok谷歌", "คอมพิวเตอร์"]
    forms = [form_in(text, word) for text, word in zip(texts, words, strict=True)]
    assert forms_listed(forms) == "computers 2, computer 1, コンピューター 1, ok 谷歌 1, คอมพิวเตอร์ 1"
    assert forms_listed([f"form{i}" for i in range(9)]).endswith("form7 1, ...")
    assert forms_listed(["你好  电脑"]) == "你好电脑 1"
    assert forms_listed([]) == ""
