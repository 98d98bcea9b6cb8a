"""Adjuncts: optional services inside a sidecar, isolated from its fan-out.

The sidecar does not depend on what an adjunct does. It lends its registry, reads the records of
the adjunct's kinds, serves its routes on the admin door, and signals when it is ready and when it
shuts down. An adjunct that fails is logged and restarted; nothing else is affected.
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
    """The parts of a sidecar that its adjuncts may use."""

    config: SidecarConfig
    world: World
    registry: Registry
    watch: Watch  # over the kinds of all adjuncts
    ready: trio.Event = attrs.field(factory=trio.Event)  # its doors are open


class Adjunct:
    """The base class of adjuncts; each method does nothing unless it is overridden."""

    name: str = ""
    """The name in the log."""

    kinds: Sequence[RecordKind[Any]] = ()
    """The kinds of records that it writes, or reads from `Sidecar.watch`."""

    def routes(self, sidecar: Sidecar) -> Sequence[BaseRoute]:  # noqa: ARG002 - for subclasses
        """Return the routes to add to the admin door, all below one path."""
        return ()

    async def run(self, sidecar: Sidecar) -> None:
        """Run until cancelled; starts before the sidecar is ready."""

    async def drain(self, sidecar: Sidecar) -> None:
        """Finish what needs open doors, before the sidecar shuts down.

        `run` goes on meanwhile. The method must limit its own time; a second signal cancels it.
        """

    async def say_goodbye(self, sidecar: Sidecar) -> None:
        """Remove its records; called after the doors were closed, and limited to two seconds."""


async def keep_running(adjunct: Adjunct, sidecar: Sidecar) -> None:
    """Run an adjunct until it returns; restart it, with backoff, when it fails."""
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
    """Run one step of an adjunct and log its failure; return whether it succeeded."""
    try:
        await step(sidecar)
    except FanoutError as error:
        log.warning("adjunct_failed", adjunct=adjunct.name, reason=str(error))
        return False
    except Exception:
        log.exception("adjunct_failed", adjunct=adjunct.name)
        return False
    return True
