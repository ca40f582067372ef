"""Words of messages."""


def plural(n: int, what: str, of: int | None = None) -> str:
    """A count with its noun: `1 recording`, `3 of 20 recordings`."""
    many = n if of is None else of
    return f"{n}{'' if of is None else f' of {of}'} {what}{'s' * (many != 1)}"
