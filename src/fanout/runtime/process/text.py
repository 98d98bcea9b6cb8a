"""Escaping of untrusted text."""


def escape(text: str) -> str:
    """Return a text with unprintable characters escaped: one line, no terminal sequences."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
