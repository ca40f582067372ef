"""Shared fixtures of the tests of commands."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def words_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 600 words, as a setting confuse.words: the 60,105 of CMUdict take ten seconds in each process."""
    pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
    from kws.confusables.synthesis.corpus import words

    file = tmp_path_factory.mktemp("words") / "words.txt"
    file.write_text("\n".join([*words(), "kat", "acat", "scatter", "hay", "marvel"]))
    return file
