"""Tab completion for bash, and for zsh with bashcompinit: `eval "$(kws --completion)"`.

The script holds all words, so that completing starts no Python. Hydra completes only programs without commands.
"""

from collections.abc import Iterator, Mapping

from kws.config.compose import option_names
from kws.config.declared import settings_of
from kws.config.help import groups_of
from kws.config.schema import SCHEMAS

SCRIPT = """\
_kws() {{
    local cur="${{COMP_LINE:0:COMP_POINT}}" words
    cur="${{cur##* }}"
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
    [ "$COMP_CWORD" -le 1 ] && words="{commands}"
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    COMPREPLY=("${{COMPREPLY[@]#"${{cur%"${{cur##*=}}"}}"}}")  # readline completes behind the last =
}}
complete -o nospace -o default -F _kws kws"""


def script(commands: Mapping[str, object]) -> str:
    """The script for bash."""
    cases = "\n".join(f'        {name}) words="{" ".join(sorted(set(words(name))))}";;' for name in commands)
    return SCRIPT.format(cases=cases, commands=" ".join(commands))


def words(command: str) -> Iterator[str]:
    """The settings of a command, with each value where there is a list of them."""
    for group in groups_of(command):
        yield from (f"{group.key}={name}" for name in option_names(group.key))
    for one in settings_of(SCHEMAS[command]):
        yield from (f"{one.key}={value}" for value in one.values or [""])
