"""The `kws` command: one verb, one Hydra app each; what a person got wrong is one line and exit code 2."""

import importlib
import os
import re
import sys
from collections.abc import Callable, Collection
from dataclasses import is_dataclass
from difflib import get_close_matches
from typing import get_args, get_type_hints

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kws import __version__, config
from kws.errors import KwsError, one_line, printable
from kws.help import help_of
from kws.jobs import Ended, in_sweep, run_in_sweep
from kws.model_schema import FAMILIES
from kws.schema import INPUTS, SCHEMAS

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
# of verbs that have a package of their own
MODULES = {"confuse": "confuse.verb", "models": "models.verb", "runs": "runs.verb"}
# What takes the next word on the command line of a Hydra app.
TAKES_ONE = {"-c", "--cfg", "-i", "--info", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name"}
TAKES_ONE |= {"-cd", "--config-dir"}


def usage() -> str:
    """What `kws` alone prints."""
    verbs = "\n".join(f"  {name:<10}{what}" for name, what in VERBS.items())
    return (
        f"kws {__version__}: keyword spotting with hard-negative replay\n\nkws VERB [key=value ...]\n\n{verbs}\n\n"
        "kws VERB --help shows its settings; kws train recipe=quickstart needs no data."
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
    if words[0] not in VERBS:
        near = get_close_matches(words[0], VERBS, 1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        fail(f"{words[0]}: no such verb{guess}; allowed are {', '.join(VERBS)}")
    try:
        if {"-h", "--help"} & set(words[1:]):
            print(help_of(words[0]))
        else:
            sys.argv = [f"kws {words[0]}", *words[1:]]
            importlib.import_module(f"kws.{MODULES.get(words[0], words[0])}").main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def verb(name: str, run: Callable[[DictConfig], None]) -> Callable[[], None]:
    """A Hydra app around `run` whose errors are one line."""

    def entry() -> None:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us whole; we say them in one line
        try:
            config.register(sys.argv[1:] if name == "train" else ())
            app = hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name=name)
            app(told(run))()
        except KwsError as error:
            fail(str(error))
        except (HydraException, OmegaConfBaseException) as error:
            fail(explain(error, SCHEMAS[name]))
        except ValueError as error:
            if "Config group override" not in str(error):  # Hydra's word for recipe=3
                raise
            fail(f"{error}; allowed is the name of one of its options")
        except AssertionError as error:
            if "Unexpected type for root" not in str(error):  # Hydra's word for model.channels=8 where model is null
                raise
            fail(f"{key_within(sys.argv[1:])}: allowed only where what holds it is given too, see --help")
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)

    return entry


def take_action(verb: str, actions: Collection[str]) -> None:
    """Put the action of a verb, a word alone anywhere on the command line, as the setting that it is."""
    for i, word in enumerate(sys.argv[1:], start=1):
        if "=" not in word and word[:1] not in "-~+" and sys.argv[i - 1] not in TAKES_ONE:
            if word not in actions:
                fail(f"kws {verb} {word}: no such action; allowed are {', '.join(actions)}")
            sys.argv[i] = f"action={word}"


def told(run: Callable[[DictConfig], None]) -> Callable[[DictConfig], Ended | None]:
    """`run`, which leaves at once on bad input: Hydra would print lines of its own around the error.

    In a sweep the other runs are no worse for it: they go on, and the sweeper leaves in the end.
    """
    process = os.getpid()

    def task(cfg: DictConfig) -> Ended | None:
        if in_sweep():
            return run_in_sweep(run, cfg, process)
        try:
            run(cfg)
        except (KwsError, OSError) as error:
            fail(one_line(error))
        return None

    return task


def fail(message: str) -> None:
    """Say it in one line and leave with code 2; of the processes of a torchrun the first says what all found."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK") == "0":
        print(f"kws: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(2)


def explain(error: Exception, schema: type) -> str:
    """One line for what Hydra or OmegaConf refused: the key, the value and what was allowed."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    texts = [str(e) for e in chain]
    text = "\n".join(texts)
    if found := re.search(r"Key '([^']*)' (?:is )?not in|Key '([^']*)' not found", text):
        full = re.search(r"full_key: (\S+)", text)
        return unknown(full.group(1) if full else found.group(1) or found.group(2), schema)
    if found := re.search(r"Could not override '([^']*)'\\?.? No match in the defaults list", text):
        return unknown(found.group(1), schema)
    if found := re.search(r"Invalid value '(.*?)', expected one of \[(.*?)\]", text):
        return f"{key_of(text, texts[0])}={found.group(1)}: allowed is one of {found.group(2)}"
    if found := re.search(r"Value '(.*?)' (?:of type '\w+' )?could not be converted to (\w+)", text):
        kind = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false"}
        return f"{key_of(text, texts[0])}={found.group(1)}: allowed is {kind.get(found.group(2), found.group(2))}"
    if found := re.search(r"AltException: ([^=\s]+)=([^\n]*)", text):
        return f"""{found.group(1)}={found.group(2)}: a text with such signs needs quotes: {found.group(1)}='"..."'"""
    if found := re.search(r"Error merging override ([^=\s]+)=(.*)", texts[0]):
        return f"{found.group(1)}={found.group(2)}: a value of another kind is wanted, see --cfg job for its default"
    if found := re.search(r"Could not find '([^']*)'", text):
        options = re.search(r"Available options in '[^']*':\n((?:\t.*\n?)+)", text)
        listed = f"; allowed are {', '.join(options.group(1).split())}" if options else ""
        group, _, option = found.group(1).rpartition("/")
        return f"{group}={option}: no such option{listed}" if group else f"{option}: no such configuration"
    return texts[0] or type(error).__name__


def key_within(words: list[str]) -> str:
    """The first key of a command line that lies inside another."""
    return next(key for word in words if "." in (key := word.partition("=")[0]))


def key_of(text: str, first: str) -> str:
    """The key an error is about."""
    found = re.search(r"full_key: (\S+)", text) or re.search(r"Error merging override ([^=\s]+)", first)
    return found.group(1) if found else "?"


def unknown(key: str, schema: type) -> str:
    """No such key: its nearest neighbours, and all that stand beside it."""
    allowed = schema_keys(schema)
    parent, _, name = key.rpartition(".")
    if key in allowed:  # of another option of its group
        kinds = {"model": FAMILIES, "features": INPUTS}.get(parent, {})
        owners = [kind for kind, fields in kinds.items() if name in get_type_hints(fields)]
        return f"{key}: no such setting with the chosen {parent}; allowed with {', '.join(owners)}"
    beside = sorted({k[len(parent) + 1 :].split(".")[0] for k in allowed if parent and k.startswith(parent + ".")})
    near = get_close_matches(key, allowed, 1, 0.7)
    guess = f" (did you mean {near[0]}?)" if near else ""
    top = sorted({k.split(".")[0] for k in allowed})
    where = f"under {parent}: {', '.join(beside)}" if beside else f"{', '.join(top)}"
    return f"{key}: no such setting{guess}; allowed are {where}"


def schema_keys(schema: type, prefix: str = "") -> list[str]:
    """Every dotted key of a schema, and of those that stand in for its parts, such as a family of models."""
    found = []
    for one in (schema, *schema.__subclasses__()):
        for name, kind in get_type_hints(one).items():
            nested = [one for one in (kind, *get_args(kind)) if isinstance(one, type) and is_dataclass(one)]
            found += schema_keys(nested[0], f"{prefix}{name}.") if nested else [prefix + name]
    return found
