import pytest

from kws.common.errors import KwsError
from kws.confusables.synthesis.sentences import sentences, without_keywords, words

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")


def test_sentences_are_random_words_without_a_keyword():
    keywords = ["computer", "hey jarvis"]
    found = sentences(keywords, 200, 0)
    assert len(set(found)) == 200
    assert all(4 <= len(sentence.split()) <= 12 for sentence in found)
    assert {word for sentence in found for word in sentence.split()} <= set(words())
    assert not any(text in sentence.replace(" ", "") for sentence in found for text in ("computer", "heyjarvis"))
    assert sentences(keywords, 200, 0) == found
    assert sentences(keywords, 200, 1) != found


def test_homophones_of_a_keyword_are_no_negatives():
    near = ["nite", "knight", "nights", "overnight", "night", "net", "light", "nine"]
    assert without_keywords(["night"], near) == ["net", "light", "nine"]
    # father and farther sound alike only in accents that drop the r
    assert without_keywords(["father"], ["farther", "feather"]) == ["feather"]


def test_keywords_that_most_words_contain_are_refused():
    with pytest.raises(KwsError, match=r"^keyword=\['a', 'e', 'i', 'o'\]: must be longer"):
        sentences(["a", "e", "i", "o"], 7, 0)
