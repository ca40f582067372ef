"""The first check of a command line refuses what is surely wrong, with the mend, and lets everything else pass."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kws.common.errors import KwsError
from kws.config import setting
from kws.config.declared import commands, confirm_stored
from kws.config.early import checked
from kws.config.setting import dumped, stored
from tests import ROOT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with recordings, a model and a recipe."""
    for name in ("recordings", "with space", "a,b"):
        (tmp_path / name).mkdir()
    for name in ("model.pt", "own.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "of_model.yaml").write_text("init: model.pt\ndata: 5\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train recipie=quickstart", "recipie: no such setting (did you mean recipe?); settings augment"),
        ("train lr=1", "lr: no such setting (did you mean optim.lr?)"),
        ("train optim.stepz=1", "optim.stepz: no such setting (did you mean optim.steps?); settings under optim: av"),
        ("train replay.most=1", "replay.most: renamed to replay.max_share"),
        (
            "train recipe=quikstart",
            "recipe=quikstart: no such recipe (did you mean quickstart?); must be one of base, few",
        ),
        ("train recipe=x/manifest.csv", "recipe=x/manifest.csv: no such recipe; must be one of "),
        ("train recipe=3", "recipe=3: no such recipe; must be one of "),
        ("train recipe=owm.yaml", "recipe=owm.yaml: no such file or folder (did you mean own.yaml?); expected: a YAML"),
        ("train model=ds_tcn_100", "model=ds_tcn_100: no such option (did you mean ds_tcn_100k?); must be one of bc"),
        ("train replay.schedule=lineal", "replay.schedule=lineal: must be one of constant, linear, cosine, adaptive"),
        ("train task=classes", "task=classes: renamed to task=classification"),
        ("train compile=maybe", "compile=maybe: must be true or false"),
        ("train seed=null", "seed=null: must be a whole number"),
        ("train optim.steps=1.5", "optim.steps=1.5: must be a whole number"),
        ("train optim.lr=fast", "optim.lr=fast: must be a number"),
        ("train optim.lr=20", "optim.lr=20: must be between 1e-07 and 10"),
        ("train -m optim.lr=1,fast", "optim.lr=fast: must be a number"),
        ("train augment.snr_db=5", "augment.snr_db=5: must be [low,high], two numbers with low <= high"),
        ("train model.dilations=3", "model.dilations=3: must be a list such as [1,2]"),
        ("train data.root=recordigns", "data.root=recordigns: no such file or folder (did you mean recordings?); exp"),
        ("train replay.buffer=recordigns/x", "replay.buffer=recordigns/x: no such file or folder (did you mean rec"),
        ("evaluate compare=[model.pt,modle.pt]", "compare=modle.pt: no such file or folder (did you mean model.pt?)"),
        (
            "evaluate compare=[model.pt,x]",
            "compare=x: no such file or folder; expected: two detectors, [a,b], on the same",
        ),
        (
            "evaluate events=x.csv",
            "events=x.csv: no such file or folder; expected: keyword times in positive, a",
        ),
        ("buffer list buffer=x", "buffer=x: no such file or folder; expected: the folder of a replay buffer"),
        ("buffer lst buffer=recordings", "action=lst: must be one of stats, list, "),
        ("buffer buffer=recordings", "action=... must be given: what to do"),
        ("runs nowhere", "dir=nowhere: no such file or folder"),
        ("runs recordings more", "more: must be KEY=VALUE, see kws runs --help"),
        ("train init=modle.pt", "init=modle.pt: no such file or folder (did you mean model.pt?)"),
        ("confuse list limit=5 sing", "sing: must be KEY=VALUE, see kws confuse --help"),
        ("train keyword=okay garden", "garden: must be KEY=VALUE; a value with blanks needs quotes: 'keyword=okay ga"),
        ("evaluate model.pt", "model.pt: must be KEY=VALUE, as detector=model.pt"),
        ("train keyword", "keyword: must be written as keyword=VALUE"),
        ("train quickstart", "quickstart: must be KEY=VALUE, as recipe=quickstart"),
        ("train --keyword x", "--keyword: must be written without --, as keyword=x"),
        ("train --keyword=x", "--keyword=x: must be written without --, as keyword=x"),
        ("train --foo", "--foo: no such option; settings are written as KEY=VALUE, see kws train --help"),
        ("train -sc install=bash", '-sc: tab completion is installed by eval "$(kws --completion)"'),
        ("evaluate report=model.pt/x.html", "report=model.pt/x.html: cannot be written: model.pt is no folder"),
        ("train seed=1 --cfg", "--cfg: must be followed by a value"),
        ("train --cfg yaml", "--cfg yaml: must be job, hydra or all"),
        ("train ~optim", "~optim: a setting cannot be deleted"),
        ("train data.root=recordings", "keyword=... must be given: one word, or a list"),
        ("train recipe=few_shot data.root=recordings", "keyword=... must be given: one word, or a list"),
        ("train init=bse keyword=x data.root=recordings", "init=bse: no such file or folder"),
        ("train init=base data.root=recordings", "keyword=... must be given: one word, or a list"),
        ("train init=null data.root=recordings", "keyword=... must be given: one word, or a list"),
        ("train keyword=x", "data.root=DIR must be given: a folder of recordings with a manifest, or one folder a lab"),
        ("train recipe=wake_word keyword=x data.root=null", "data.root=DIR must be given: "),
        ("train recipe=three_words", "data.root=DIR must be given: "),
        ("train recipe=speech_commands/v2_12", "data.root=DIR must be given: "),
        ("export out=x.pt", "checkpoint=... must be given: model.pt of a run"),
    ],
)
def test_what_is_wrong_is_refused_with_the_mend(here: Path, line: str, message: str) -> None:
    command, *words = line.split()
    with pytest.raises(KwsError) as caught:
        checked(command, words)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("train recipe=quickstart seed=3", None),
        ("train recipe=null model=null init=null keyword=x data.root=recordings replay.buffer=null", None),
        ("train recipe=wake_word init=base keyword=x data.root=recordings", None),
        ("train -m recipe=few_shot init='base',null,model.pt keyword=x data.root=recordings", None),
        ("train recipe=speech_commands/v2_12 data.root=recordings +seed=1 ++optim.lr=1e-3", None),
        ("train -m seed=0,1 recipe=quickstart,own.yaml optim.lr=1e-3,choice(1,2) augment=none,strong", None),
        ("train -m optim.lr=1,20", None),  # a failed run ends no sweep
        ("train recipe=from_text keyword=x", None),
        ("train keyword=x data.synthetic.positives=20 data.synthetic.sentences=20", None),
        ("train recipe=harden init=model.pt replay.buffer=recordings", None),
        ("train recipe=three_words data.root=recordings", None),
        ("train recipe=of_model.yaml", None),
        ("train recipe=quickstart seed=${oc.env:SEED} optim.lr=interval(0,1) validate_every=null optim.lr=nan", None),
        ("train keyword=x data.root=recordings replay={share:0.1} replay.mix={user:1} optim.lr=1e-3 compile=yes", None),
        ("train recipe=quickstart hydra/launcher=joblib hydra.launcher.n_jobs=2 features/input=mfcc", None),
        ("train plugins=[mine] model=own augment.own=1", None),
        ("train data.root='recordings' out=new/run keyword=null", None),
        ("train keyword=x data.root=a,b", None),
        ("train recipe=speech_commands/v2_12 data.root=new data.download=true", None),
        ("evaluate detector=model.pt positive=[model.pt,recordings] negative=recordings", None),
        ("train model=tiny --config-dir conf", "--config-dir conf model=tiny"),
        ("train model=tiny --config-dir=conf", "--config-dir=conf model=tiny"),
        ("train seed=1 --cfg job -m", "--cfg job -m seed=1"),
        ("train --info seed=1", None),
        ("buffer list buffer=recordings", "action=list buffer=recordings"),
        ("buffer import buffer=new folder=recordings", "action=import buffer=new folder=recordings"),
        ("data check recordings keyword=x", "action=check data.root=recordings keyword=x"),
        ("runs recordings sort=time", "dir=recordings sort=time"),
        ("export --cfg job", None),
    ],
)
def test_what_may_be_right_passes(here: Path, line: str, read: str | None) -> None:
    command, *words = line.split()
    assert checked(command, words) == (words if read is None else read.split())


def test_a_path_with_blanks_and_the_home_folder_pass(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    words = ["keyword=x", "data.root=with space", "replay.buffer=~/recordings"]
    assert checked("train", words) == words


@pytest.mark.parametrize(
    "word",
    ["batch.keyword_end_s= [0.1,0.2]", "seed= 3", "compile= true", "model= ds_tcn_30k", "replay.schedule= linear"],
)
def test_a_blank_after_the_equals_sign_passes(word: str) -> None:
    words = ["recipe=quickstart", word]
    assert checked("train", words) == words


def test_a_blank_before_a_list_of_paths_passes(here: Path) -> None:
    words = ["detector=model.pt", "negative= [recordings,with space]"]
    assert checked("evaluate", words) == words


def test_the_advice_on_quotes_can_be_pasted(here: Path) -> None:
    with pytest.raises(KwsError) as caught:
        checked("train", ["keyword=it's", "ok"])
    advice = str(caught.value).partition("needs quotes: ")[2]
    assert shlex.split(advice) == ["keyword=it's ok"]


def test_a_folder_that_may_not_be_written_is_found_before_the_work(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def access(path: os.PathLike[str], mode: int) -> bool:
        return not (mode & os.W_OK and Path(path).name == "recordings")

    monkeypatch.setattr(os, "access", access)
    words = ["detector=model.pt", "negative=recordings"]
    assert checked("evaluate", [*words, "report=new/a.html"])
    for place in ("recordings/a.html", "recordings/new/a.html"):
        with pytest.raises(KwsError, match=f"^report={place}: cannot be written: no right to write in .*recordings$"):
            checked("evaluate", [*words, f"report={place}"])


def test_a_resumed_run_needs_its_initial_model_no_more(here: Path) -> None:
    (here / "run").mkdir()
    (here / "run/init.pt").touch()
    words = ["init=gone.pt", "out=run"]
    assert checked("train", words) == words


def test_neither_a_typo_nor_help_nor_completion_imports_torch(tmp_path: Path) -> None:
    lines = [["train", "recipe=quikstart"], ["train", "--help", "all"], ["--completion"], ["mine", "checkpoint=x.pt"]]
    code = (
        "import sys; from kws.cli import main\n"
        f"for words in {lines}:\n"
        "    sys.argv = ['kws', *words]\n"
        "    try: main()\n"
        "    except SystemExit as left: assert left.code == 2\n"
        "slow = {'torch', 'numpy', 'hydra', 'omegaconf', 'pydantic', 'rich'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    os.utime(setting.FILE)  # a test may have been edited since
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_settings_of_a_newer_module_are_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer adds a setting: settings.json is older than the module, so that nothing is refused early."""
    file = tmp_path / "kws" / "config" / "settings.json"
    file.parent.mkdir(parents=True)
    (tmp_path / "kws/new.py").touch()
    monkeypatch.setattr(setting, "FILE", file)
    monkeypatch.setattr("kws.config.declared.FILE", file)
    stored.cache_clear()
    try:
        file.write_text(dumped(commands()))
        os.utime(file, (1e9, 1e9))
        assert stored() is None
        assert checked("train", ["new.setting=1"]) == ["new.setting=1"]
        confirm_stored()
        stored.cache_clear()
        found = stored()
        assert found is not None
        assert dumped(found) == dumped(commands()), "the file holds what is declared, and is taken for new from then on"
        file.write_text("[]")
        os.utime(file, (1e9, 1e9))
        stored.cache_clear()
        confirm_stored()
        assert file.stat().st_mtime == 1e9
    finally:
        stored.cache_clear()
