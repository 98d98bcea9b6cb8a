"""Text from others, made fit to be shown."""


def escape(text: str) -> str:
    """Return what others say on one line, with nothing in it that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
