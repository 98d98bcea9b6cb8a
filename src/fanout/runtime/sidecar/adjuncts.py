"""What may live in a sidecar beside its fan-out, and how it is kept from harming it.

The sidecar knows nothing of what an adjunct does. It lends its registry, has the records of the
adjunct's kinds read, opens its routes on the admin door, and tells it when the sidecar is ready
and when it leaves. An adjunct that fails is logged and begun again; nothing else notices.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import structlog
import trio
from starlette.routing import BaseRoute

from fanout.config import SidecarConfig
from fanout.core.backoff import Backoff
from fanout.errors import FanoutError
from fanout.runtime.discovery.registry import Registry
from fanout.runtime.discovery.watch import Watch
from fanout.runtime.net.world import World
from fanout.wire.records import RecordKind

log = structlog.get_logger()

RETRY_FIRST_SECONDS = 0.1
RETRY_MAX_SECONDS = 30.0


@attrs.frozen(kw_only=True, eq=False)
class Sidecar:
    """What a sidecar lends to its adjuncts."""

    config: SidecarConfig
    world: World
    registry: Registry
    watch: Watch  # over the kinds of all adjuncts
    ready: trio.Event = attrs.field(factory=trio.Event)  # its doors are open


class Adjunct:
    """Something beside fan-out; each method does nothing unless it is overridden."""

    name: str = ""
    """A word for the log."""

    kinds: Sequence[RecordKind[Any]] = ()
    """Records that it reads from `Sidecar.watch` or writes."""

    def routes(self, sidecar: Sidecar) -> Sequence[BaseRoute]:  # noqa: ARG002 - for those who do
        """Return what it adds to the admin door, in a folder of its own."""
        return ()

    async def run(self, sidecar: Sidecar) -> None:
        """Do its work from the start, before the sidecar is ready, until cancelled."""

    async def drain(self, sidecar: Sidecar) -> None:
        """Finish what needs open doors: a sidecar that was told to stop leaves after this.

        `run` goes on meanwhile. It has to bound itself; a second signal cuts it short.
        """

    async def say_goodbye(self, sidecar: Sidecar) -> None:
        """Take back what it wrote; the doors are closed, and there are two seconds at most."""


async def keep_running(adjunct: Adjunct, sidecar: Sidecar) -> None:
    """Run an adjunct until it returns; begin again after a while when it fails."""
    backoff = Backoff(first_seconds=RETRY_FIRST_SECONDS, max_seconds=RETRY_MAX_SECONDS)
    attempt = 0
    while True:
        began = trio.current_time()
        if await survive(adjunct, adjunct.run, sidecar):
            return
        attempt = 0 if trio.current_time() - began > RETRY_MAX_SECONDS else attempt + 1
        await trio.sleep(backoff.delay_seconds(attempt, sidecar.world.rng))


async def survive(
    adjunct: Adjunct, step: Callable[[Sidecar], Awaitable[None]], sidecar: Sidecar
) -> bool:
    """Take one step of an adjunct; log what goes wrong. Returns whether nothing did."""
    try:
        await step(sidecar)
    except FanoutError as error:
        log.warning("adjunct_failed", adjunct=adjunct.name, reason=str(error))
        return False
    except Exception:
        log.exception("adjunct_failed", adjunct=adjunct.name)
        return False
    return True
