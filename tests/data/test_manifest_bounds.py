import pytest

from kws.common.errors import KwsError
from kws.data.manifest_bounds import with_bounds


def test_bounds_are_written_and_all_other_values_stay() -> None:
    text = 'Path;label;note\na\\1.wav;computer;"x; y"\na/2.wav;speech;\n'
    once = with_bounds(text, {"a/1.wav": (0.3, 0.9501)}, ";")
    assert once == 'Path;label;note;start;end\na\\1.wav;computer;"x; y";0.300;0.950\na/2.wav;speech;;;\n'
    twice = with_bounds(once, {"a/1.wav": (0.25, 1), "a/2.wav": (2, 3)}, ";")
    assert twice == 'Path;label;note;start;end\na\\1.wav;computer;"x; y";0.250;1.000\na/2.wav;speech;;2.000;3.000\n'
    assert with_bounds(twice, {}, ";") == twice


def test_unknown_paths_and_tables_without_paths_are_refused() -> None:
    with pytest.raises(KwsError, match=r"b\.wav: must be a path of the manifest"):
        with_bounds("path,label\na.wav,x\n", {"b.wav": (0, 1)})
    for text in ("", "file,label\n"):
        with pytest.raises(KwsError, match="column 'path' is missing"):
            with_bounds(text, {})
