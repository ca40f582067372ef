"""Tab completion in bash."""

import shutil
import subprocess

import pytest


@pytest.fixture(scope="module")
def complete(cli):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    script = cli("--completion").out

    def completed(line: str) -> list[str]:
        words = line.split(" ")
        call = f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}"
        result = subprocess.run(
            [bash, "-c", f'{script}\n{call}\n_kws\nprintf "%s\\n" "${{COMPREPLY[@]}}"'],
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stdout.split()

    return completed


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("kws tr", ["train"]),
        ("kws train replay.sha", ["replay.share="]),
        ("kws train threshold.unsupported=", ["guess", "refuse"]),
        ("kws train keyword=a tensorboard=f", ["false"]),
        ("kws train model=ds_t", ["ds_tcn", "ds_tcn_100k", "ds_tcn_10k", "ds_tcn_2d", "ds_tcn_30k"]),
        ("kws train recipe=qui", ["quickstart"]),
        ("kws buffer li", ["limit=", "list"]),
        ("kws train data.root=", []),  # readline completes files
        ("kws export replay.sha", []),
    ],
)
def test_a_word_is_completed(complete, line, found):
    assert [word for word in complete(line) if "replay.share_" not in word] == found
