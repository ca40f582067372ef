"""The model card has the figures of the run, and no name in it is markup."""

import json
from pathlib import Path

from kws.commands.export import targets
from kws.commands.model_card import measured, plain
from kws.detector import checkpoint
from kws.detector.files import Format


def test_an_export_has_its_card(cli, run, tmp_path):
    done = cli("export", f"checkpoint={run}/model.pt", f"out={tmp_path}/d.pt")
    assert done.code == 0, done.err
    text = (tmp_path / "d.card.md").read_text()
    (one,) = json.loads((run / "results.json").read_text())["outcomes"]
    p = one["as_calibrated"]
    assert f"misses {p['misses']}/{p['events']} = " in text
    assert f"false alarms {p['false_alarms']} in " in text
    assert "# Keyword detector: beep\n" in text
    assert "kws train keyword=beep" in text
    done = cli("export", f"checkpoint={run}/model.pt", f"out={tmp_path}/e.jit", "thresholds=0.9", "smooth_s=0.6")
    assert done.code == 0, done.err
    assert (tmp_path / "e.jit").is_file()
    assert "Nothing is known of this file" in (tmp_path / "e.card.md").read_text(), "figures are of another smoothing"
    content = json.loads((run / "results.json").read_text())
    content["outcomes"][0]["real_keywords"] = {"events": 0, "misses": 0}
    (tmp_path / "results.json").write_text(json.dumps(content))
    (tmp_path / "model.pt").write_bytes((run / "model.pt").read_bytes())
    cli("export", f"checkpoint={tmp_path}/model.pt", f"out={tmp_path}/f.pt")
    assert "**All of these keywords are synthetic" in (tmp_path / "f.card.md").read_text()
    assert "synthetic" not in text
    for out in (".", "..", str(tmp_path)):
        refused = cli("export", f"checkpoint={run}/model.pt", f"out={out}")
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "must be a file" in refused.err
    assert "- d.pt: `torch.jit.load(FILE)`" in text
    assert "{{" not in text


def test_a_card_says_what_the_weights_started_from(cli, run, tmp_path):
    model = checkpoint.read_model(run / "model.pt")
    assert "started from" not in card_of(cli, run / "model.pt", tmp_path / "a.pt")
    facts = model.facts | {"init": "3f2a91", "started_from": "the base net of kws"}
    checkpoint.write_model(tmp_path / "model.pt", model.spec, model.weights, [0.5], facts)
    text = card_of(cli, tmp_path / "model.pt", tmp_path / "b.pt")
    assert "| started from | the base net of kws; its weights: SHA-256 begins 3f2a91 |\n" in text


def card_of(cli, model: Path, out: Path) -> str:
    assert cli("export", f"checkpoint={model}", f"out={out}").code == 0
    return out.with_suffix(".card.md").read_text()


def test_the_format_decides_the_suffix() -> None:
    assert targets(Path("a/e"), "onnx") == {Path("a/e.onnx"): Format.onnx}
    assert targets(Path("e.ts"), None) == {Path("e.ts"): Format.torchscript}
    assert list(targets(Path("e"), ["torchscript", "pt2"])) == [Path("e.pt"), Path("e.pt2")]


def test_damaged_results_leave_the_figures_out(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    for content in ("", "[]", '{"outcomes": [{}]}', '{"outcomes": [{"as_calibrated": {"misses": "x"}}]}'):
        file.write_text(content)
        assert measured(file, {"beep": 0.5}) == []
    assert measured(tmp_path / "none.json", {}) == []


def test_no_name_is_markup() -> None:
    assert plain("<b>'a|b`*_d\n# e\x1b[31m") == (
        "&#60;b&#62;&#39;a&#124;b&#96;&#42;&#95;d &#35; e\N{REPLACEMENT CHARACTER}&#91;31m"
    )
