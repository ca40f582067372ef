"""The text of `kws COMMAND --help`, docs/settings.md and tab completion. Imports no torch.

`python -m kws.config.help > docs/settings.md` writes the page, and settings.json anew.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from kws.common.errors import KwsError
from kws.common.settings import shown
from kws.config.groups import groups_of, recipe_content
from kws.config.refusals import did_you_mean
from kws.config.setting import FILE, MISSING, Command, Setting, dumped, stored

# Settings that `kws COMMAND --help` shows; other commands have few enough to show all of their own.
COMMON = {
    "train": (
        *("keyword", "data.root", "recipe", "out", "seed", "device", "threads", "task", "validate_every"),
        *("data.manifest", "data.layout", "features", "model", "augment", "batch.size", "batch.positive_share"),
        *("batch.clip_s", "optim.steps", "optim.lr", "optim.average", "replay.share", "replay.schedule"),
        *("replay.capacity", "replay.eviction", "replay.buffer", "mining.rounds", "mining.pool_share"),
        *("threshold.at_fa_per_hour", "threshold.unsupported"),
    )
}

FOOTER = """--help all shows every setting, --help GROUP those of a group: {groups}.
--cfg job shows the composed settings, -m sweeps over lists: seed=0,1,2. docs/settings.md has all of this as a page.
Tab completion in bash: eval "$(kws --completion)"."""

# For bash, and for zsh with bashcompinit. The script holds all words, so that completing starts no Python. Hydra
# completes only programs without commands.
COMPLETION = """\
_kws() {{
    local cur="${{COMP_LINE:0:COMP_POINT}}" words
    cur="${{cur##* }}"
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
    [ "$COMP_CWORD" -le 1 ] && words="{commands}"
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    [ "${{COMPREPLY[*]}}" = "$cur" ] && COMPREPLY=()  # the key of a path or a number: readline completes files
    COMPREPLY=("${{COMPREPLY[@]#"${{cur%"${{cur##*=}}"}}"}}")  # readline completes behind the last =
}}
complete -o nospace -o default -F _kws kws"""


def help_of(
    command: str, topic: str = "", about: Command | None = None, models: Iterable[str] = (), recipe: str = ""
) -> str:
    """The most common settings of a command; with a topic ("all", a group or a setting) all settings of the topic.

    Args:
        command: its name.
        topic: see above.
        about: the command with the settings of plugins; None: without plugins.
        models: of plugins.
        recipe: name or file; its values take the place of the defaults, and all settings that it gives are common ones.

    Raises:
        KwsError: there is no such topic.
    """
    about = about or known()[command]
    by_recipe = recipe_content(recipe) if recipe and command == "train" else {}
    every = [with_recipe(one, recipe, by_recipe) for one in [*groups_of(command, models), *about.settings]]
    names = sorted({name for one in every if (name := one.key.partition(".")[0]) != one.key})
    if topic not in ("", "all", *names, *(one.key for one in every)):
        guess = did_you_mean(topic, ["all", *names, *(one.key for one in every)])
        raise KwsError(f"--help {topic}: must be all, a setting, or one of {', '.join(names)}{guess}")
    chosen = every
    if topic not in ("", "all"):
        chosen = [one for one in every if f"{one.key}.".startswith(f"{topic}.")]
    elif not topic and command in COMMON:
        order = [
            *COMMON[command],
            *(one.key for one in every if one.key not in COMMON[command] and given(one.key, by_recipe)),
        ]
        chosen = sorted((one for one in every if one.key in order), key=lambda one: order.index(one.key))
    elif not topic:
        chosen = [one for one in every if "." not in one.key]
    footer = FOOTER.format(groups=", ".join(names) or "none")
    title = f"{about.summary}\nWith the values of recipe={recipe}." if by_recipe else about.summary
    return "\n".join([title, "", *lines(chosen), "", footer])


def given(key: str, by_recipe: Mapping[str, Any]) -> list[Any]:
    """The value that a recipe gives a setting or a group, as a list; an empty one where it gives none."""
    changes = by_recipe.get("defaults")
    for change in changes if isinstance(changes, list) else ():
        if isinstance(change, dict) and (option := change.get(f"override /{key}")):
            return [option]
    found: Any = by_recipe
    for name in key.split("."):
        if not isinstance(found, dict) or name not in found:
            return []
        found = found[name]
    return [found]


def with_recipe(one: Setting, recipe: str, by_recipe: Mapping[str, Any]) -> Setting:
    """A setting with the value of a recipe as its default."""
    values = [recipe] if by_recipe and one.key == "recipe" else given(one.key, by_recipe)
    # A recipe may add settings to an option of a group, such as model, which is no value of the group.
    return replace(one, default=values[0]) if values and not (one.is_group and isinstance(values[0], dict)) else one


def known() -> Mapping[str, Command]:
    """All commands. Imports torch only where settings.json may be out of date."""
    if (found := stored()) is not None:
        return found
    from kws.config.declared import commands

    return commands()


def lines(settings: Iterable[Setting]) -> list[str]:
    """A line for each setting: key, default, range and meaning."""
    rows = [(f"{one.key}={default(one)}", meaning(one, options)) for one, options in merged(settings)]
    width = min(34, max(len(left) for left, _ in rows))
    found = []
    for left, right in rows:
        first, *rest = textwrap.wrap(right, 116 - max(width, len(left))) or [""]
        found.append(f"{left:<{width}}  {first}".rstrip())
        found += [" " * (width + 2) + line for line in textwrap.wrap(" ".join(rest), 116 - width)]
    return found


def merged(settings: Iterable[Setting]) -> list[tuple[Setting, list[str]]]:
    """One entry per setting, with the options of its group that have it."""
    found: dict[tuple[str, str, str], tuple[Setting, list[str]]] = {}
    for one in settings:
        _, options = found.setdefault((one.key, one.description, default(one)), (one, []))
        options += [one.option] if one.option else []
    return list(found.values())


def default(one: Setting) -> str:
    """The default on the command line; `...` where a value must be given."""
    if one.default == MISSING:
        return "..."
    if isinstance(one.default, list):
        return "[" + ",".join(map(shown, one.default)) + "]"
    return shown(one.default)


def meaning(one: Setting, options: Sequence[str], with_range: bool = True) -> str:
    """Description and range, and the options of its group that have the setting."""
    limits = f" [{one.allowed}]" if one.allowed and with_range else ""
    return one.description + limits + (f" ({', '.join(options)})" if options else "")


def page() -> str:
    """docs/settings.md."""
    found = [
        "# Settings",
        "All settings of all commands. `python -m kws.config.help > docs/settings.md` writes this page from the "
        "dataclasses that declare them. A setting is an override on the command line, `key=value`. `...` marks one "
        "that must be given. `kws COMMAND --help` shows the most common ones.",
    ]
    for command, about in known().items():
        found += [f"## kws {command}", about.doc.partition(": ")[2]]
        every = merged([*groups_of(command), *about.settings])
        every.sort(key=lambda pair: "." in pair[0].key)
        for group, members in groupby(every, lambda pair: pair[0].key.rpartition(".")[0].partition(".")[0]):
            rows = ["| setting | default | values | meaning |", "| --- | --- | --- | --- |"]
            for one, options in members:
                rows.append(f"| `{one.key}` | `{default(one)}` | {one.allowed} | {meaning(one, options, False)} |")
            found += [f"### {command}: {group}"] * bool(group) + ["\n".join(rows)]
    return "\n\n".join(found) + "\n"


def completion(commands: Mapping[str, object]) -> str:
    """The script of tab completion: `eval "$(kws --completion)"`."""
    cases = "\n".join(f'        {name}) words="{" ".join(sorted(set(words(name))))}";;' for name in commands)
    return COMPLETION.format(cases=cases, commands=" ".join(commands))


def words(command: str) -> Iterator[str]:
    """The settings of a command, with each value where there is a list of them."""
    for one in [*groups_of(command), *known()[command].settings]:
        if one.key == "action":
            yield from one.values
        yield from (f"{one.key}={value}" for value in one.values or [""])


if __name__ == "__main__":
    from kws.config.declared import commands

    FILE.write_text(dumped(commands()), encoding="utf-8")
    stored.cache_clear()
    print(page(), end="")
