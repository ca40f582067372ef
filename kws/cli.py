"""The `kws` command: one verb, one Hydra app each; what a person got wrong is one line and exit code 2."""

import importlib
import os
import sys
from difflib import get_close_matches

from kws import __version__
from kws.common.errors import KwsError, fail

VERBS = {
    "train": "train a detector from recordings, mining and replaying what confuses it",
    "mine": "stream recordings through a checkpoint and keep its false triggers in a buffer",
    "buffer": "look into a replay buffer, decide about its clips, carry it elsewhere",
    "confuse": "find what sounds like a keyword and is not it",
    "evaluate": "misses at fixed false alarms per hour, for a checkpoint or an exported file",
    "export": "write a checkpoint as a TorchScript file that needs torch alone",
    "models": "list the models there are, with their weights, their work and what they hear",
    "runs": "the runs of a sweep in one table, and the recipe of one of them",
}
MODULES = {"confuse": "confusables"}  # commands whose module has another name


def usage() -> str:
    """What `kws` alone prints."""
    verbs = "\n".join(f"  {name:<10}{what}" for name, what in VERBS.items())
    return (
        f"kws {__version__}: keyword spotting with hard-negative replay\n\nkws VERB [key=value ...]\n\n{verbs}\n\n"
        "kws VERB --help shows its settings; kws train recipe=quickstart needs no data.\n"
        'Tab completion in bash: eval "$(kws --completion)"'
    )


def main() -> None:
    """Run the verb that the command line names."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if words[0] in ("-V", "--version"):
        print(__version__)
        return
    if words[0] == "--completion":
        from kws.config.completion import script

        print(script(VERBS))
        return
    if words[0] not in VERBS:
        near = get_close_matches(words[0], VERBS, 1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        fail(f"{words[0]}: no such verb{guess}; allowed are {', '.join(VERBS)}")
    asked = next((i for i, word in enumerate(words) if word in ("-h", "--help")), None)
    try:
        if asked is not None:
            show_help(words[0], words[asked + 1 :])
        else:
            sys.argv = [f"kws {words[0]}", *words[1:]]
            importlib.import_module(f"kws.commands.{MODULES.get(words[0], words[0])}").main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_help(command: str, words: list[str]) -> None:
    """Print the settings of a command; imports torch, as the commands do, since settings stand beside their modules."""
    from kws.config import plugins
    from kws.config.help import help_of

    try:
        plugins.load(sys.argv)
        print(help_of(command, next((word for word in words if "=" not in word), "")))
    except KwsError as error:
        fail(str(error))
