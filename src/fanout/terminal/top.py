"""The output of `fanout-sidecar top`: the message rates of a sidecar, every second."""

import json
from contextlib import aclosing

from fanout.config import TopConfig
from fanout.errors import FeedLost
from fanout.runtime.process.text import escape
from fanout.terminal.feed import Feed, Snapshot, Snapshots
from fanout.terminal.look import snapshot_lines
from fanout.terminal.output import is_terminal, palette, tell, write
from fanout.terminal.screen import Picture, Size, open_ending, open_screen


async def show_top(config: TopConfig, *, once: bool, as_json: bool) -> int:
    """Show snapshots of a sidecar until q or a signal, or one if `once`; return the exit code.

    On a terminal each is drawn over the one before. Elsewhere, and with `as_json` or `once`, they
    follow each other. A lost connection is reopened.

    Raises:
        ConfigError: a file of certificates cannot be read.
        FeedLost: the first connection failed, or the version of the sidecar is not supported.
        KeyboardInterrupt: a signal came before the snapshot asked for by `once`.
        OutputFailed: standard output is closed or full.

    """
    shown = False
    async with aclosing(Feed(config).follow()) as snapshots:
        if is_terminal() and not as_json and not once:
            await _draw(snapshots)
            return 0
        async with open_ending():
            async for snapshot in snapshots:
                if isinstance(snapshot, FeedLost):
                    tell(f"reconnecting: {snapshot}")
                elif snapshot.get("seconds") is not None:  # the first has no rates
                    _put(snapshot, as_json=as_json)
                    shown = True
                    if once:
                        break
    if once and not shown:
        raise KeyboardInterrupt
    return 0


def _put(snapshot: Snapshot, *, as_json: bool) -> None:
    if as_json:
        write(json.dumps(snapshot) + "\n")
    else:
        write("\n".join([*_lines(snapshot), "", ""]))


def _lines(snapshot: Snapshot, size: Size | None = None, trouble: str = "") -> list[str]:
    """Return a snapshot as lines. Raises FeedLost for one of an unsupported version."""
    try:
        return snapshot_lines(snapshot, size, trouble=trouble, palette=palette())
    except (LookupError, TypeError, ValueError, AttributeError):
        version = escape(str(snapshot.get("version", "unknown")))
        raise FeedLost(
            f"unsupported sidecar version {version}; use the top of that version"
        ) from None


async def _draw(snapshots: Snapshots) -> None:
    def picture(snapshot: Snapshot, trouble: str = "") -> Picture:
        return lambda size: _lines(snapshot, size, trouble)

    # An error of the first connection is written before the alternate screen would hide it.
    first = await anext(snapshots)
    assert not isinstance(first, FeedLost)  # noqa: S101 - `follow` raises the first
    last = first
    async with open_screen() as screen:
        screen.draw(picture(last))
        async for snapshot in snapshots:
            if isinstance(snapshot, FeedLost):
                screen.draw(picture(last, str(snapshot)))
            else:
                last = snapshot
                screen.draw(picture(last))
