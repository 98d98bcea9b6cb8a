"""Purges of HTTP caches, published once and applied beside every cache.

    async with open_client("ws://127.0.0.1:7380/") as client:
        answers = await send_purge(client, by_key("article-7"), origin="editor", wait_seconds=10)
        assert answers.whole

`fanout-sidecar edge` applies them; `CacheHeaders` and `tag` give pages the headers that make them
purgeable. docs/cdn.md describes it all.
"""

from fanout.adjunct.purge.headers import CacheHeaders, CachePolicy, tag
from fanout.adjunct.purge.message import Outcome, Report, Target, by_key, by_url, everything
from fanout.adjunct.purge.publisher import Answers, send_purge

__all__ = [
    "Answers",
    "CacheHeaders",
    "CachePolicy",
    "Outcome",
    "Report",
    "Target",
    "by_key",
    "by_url",
    "everything",
    "send_purge",
    "tag",
]
