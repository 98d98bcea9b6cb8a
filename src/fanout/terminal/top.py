"""What goes through a sidecar, look after look."""

import json
from contextlib import aclosing

from fanout.config import TopConfig
from fanout.errors import FeedLost
from fanout.runtime.process.text import escape
from fanout.terminal.feed import Feed, Look, Snapshots
from fanout.terminal.look import look_lines
from fanout.terminal.output import is_terminal, palette, tell, write
from fanout.terminal.screen import Picture, Size, open_ending, open_screen


async def show_top(config: TopConfig, *, once: bool, as_json: bool) -> int:
    """Show look after look until told to stop, or one when `once`; return the exit code.

    On a terminal each look is drawn over the one before. Elsewhere, and with `as_json` or `once`,
    they follow each other. A feed that is lost later comes back by itself.

    Raises:
        ConfigError: a file of certificates cannot be read.
        FeedLost: the sidecar cannot be read at the start.
        KeyboardInterrupt: it was told to stop before a look that was asked for `once`.
        OutputFailed: nobody reads what is written.

    """
    shown = False
    async with aclosing(Feed(config).follow()) as looks:
        if is_terminal() and not as_json and not once:
            await _draw(looks)
            return 0
        async with open_ending():
            async for look in looks:
                if isinstance(look, FeedLost):
                    tell(f"trying again: {look}")
                elif look.get("seconds") is not None:  # else there are no rates yet
                    _put(look, as_json=as_json)
                    shown = True
                    if once:
                        break
    if once and not shown:
        raise KeyboardInterrupt
    return 0


def _put(look: Look, *, as_json: bool) -> None:
    if as_json:
        write(json.dumps(look) + "\n")
    else:
        write("\n".join([*_lines(look), "", ""]))


def _lines(look: Look, size: Size | None = None, trouble: str = "") -> list[str]:
    """Return a look as lines. Raises FeedLost: it is of a version that is not known here."""
    try:
        return look_lines(look, size, trouble=trouble, palette=palette())
    except (LookupError, TypeError, ValueError, AttributeError):
        version = escape(str(look.get("version", "unknown")))
        raise FeedLost(
            f"a sidecar of version {version} is not understood; use its own top"
        ) from None


async def _draw(looks: Snapshots) -> None:
    def picture(look: Look, trouble: str = "") -> Picture:
        return lambda size: _lines(look, size, trouble)

    # The first comes before the screen is taken: an error stays where it can be read.
    first = await anext(looks)
    assert not isinstance(first, FeedLost)  # noqa: S101 - that would have been raised
    last = first
    async with open_screen() as screen:
        screen.draw(picture(last))
        async for look in looks:
            if isinstance(look, FeedLost):
                screen.draw(picture(last, str(look)))
            else:
                last = look
                screen.draw(picture(last))
