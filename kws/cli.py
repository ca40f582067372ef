"""The `kws` program: each command is a Hydra app; bad input is one line and exit code 2."""

import importlib
import os
import sys
from difflib import get_close_matches

from kws import __version__
from kws.common.errors import KwsError, fail

VERBS = {
    "train": "train a detector from recordings, mining and replaying hard negatives",
    "data": "check recordings before anyone trains on them",
    "mine": "stream recordings through a checkpoint and put its false alarms into a replay buffer",
    "buffer": "list the clips of a replay buffer, decide about them, export and import them",
    "confuse": "find confusables of a keyword and synthesise them",
    "evaluate": "misses at fixed false alarms an hour, for a checkpoint or an exported file",
    "export": "write a checkpoint as TorchScript, ONNX or PT2, one file with all that it needs",
    "listen": "detect keywords live, from a microphone, a pipe or a file",
    "review": "mark what kws listen kept as keyword or false alarm, and sort it for training",
    "serve": "wake words for Home Assistant, over the Wyoming protocol",
    "rooms": "simulate impulse responses of rooms, for augment.rooms of kws train",
    "models": "list the models with their weights, operations and context",
    "runs": "runs in one table, and the recipe of one of them",
}
MODULES = {"confuse": "confusables"}  # commands whose module has another name


def usage() -> str:
    """The text of `kws` without a command."""
    verbs = "\n".join(f"  {name:<10}{what}" for name, what in VERBS.items())
    return (
        f"kws {__version__}: keyword spotting with hard-negative replay\n\nkws COMMAND [key=value ...]\n\n{verbs}\n\n"
        "kws COMMAND --help shows its settings; kws train recipe=quickstart needs no data.\n"
        'Tab completion in bash: eval "$(kws --completion)"'
    )


def main() -> None:
    """Run the command that the command line names."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if words[0] in ("-V", "--version"):
        print(__version__)
        return
    if words[0] == "--completion":
        from kws.config.help import completion

        print(completion(VERBS))
        return
    if words[0] not in VERBS:
        near = get_close_matches(words[0], VERBS, 1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        fail(f"{words[0]}: no such command{guess}; must be one of {', '.join(VERBS)}")
    asked = next((i for i, word in enumerate(words) if word in ("-h", "--help")), None)
    try:
        if asked is not None:
            show_help(words[0], words[asked + 1 :])
        else:
            sys.argv = [f"kws {words[0]}", *first_check(words[0], words[1:])]
            importlib.import_module(f"kws.commands.{MODULES.get(words[0], words[0])}").main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def first_check(command: str, words: list[str]) -> list[str]:
    """Refuse words that are surely wrong before torch is imported, which takes seconds; return them as Hydra wants."""
    from kws.config.early import checked

    try:
        return checked(command, words)
    except KwsError as error:
        fail(str(error))


def show_help(command: str, words: list[str]) -> None:
    """Print the settings of a command. Only those of plugins need torch."""
    from kws.config.early import checked
    from kws.config.help import help_of
    from kws.config.words import unquoted

    topic = next((word for word in words if "=" not in word), "")
    given = next((word for word in sys.argv if word.startswith("recipe=")), "")
    recipe = unquoted(given.removeprefix("recipe="))
    try:
        if given and not {"-m", "--multirun"} & {*sys.argv}:
            checked(command, ["--cfg", "job", given])  # a recipe that does not exist is refused as in a run
        if not any(word.startswith("plugins=") for word in sys.argv):
            print(help_of(command, topic, recipe=recipe))
            return
        from kws.config.compose import load_plugins, of_plugins
        from kws.config.declared import command_of

        load_plugins(sys.argv)
        print(help_of(command, topic, command_of(command), of_plugins(), recipe))
    except KwsError as error:
        fail(str(error))
