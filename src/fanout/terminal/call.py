"""A call to a sidecar from a terminal: whoever waits for it is told soon what is wrong."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from fanout.client import Client, open_client
from fanout.config import BridgeConfig, TlsFiles
from fanout.errors import RequestFailed, leaves
from fanout.runtime.net.certificates import context_for
from fanout.runtime.process.text import escape
from fanout.terminal.output import tell


@attrs.define(eq=False)
class Call:
    """A client of a sidecar that has to be there in time. Made by `open_call`."""

    config: BridgeConfig
    client: Client = attrs.field(init=False)
    deadline: trio.CancelScope = attrs.field(init=False)
    _reached: bool = attrs.field(default=False, init=False)
    _trouble: str = attrs.field(default="", init=False)  # what was told last

    def reached(self) -> None:
        """Note that the sidecar has answered: from now on a lost connection is only told."""
        self._reached = True
        self.deadline.deadline = math.inf

    def told(self, why: str) -> None:
        """Take why there is no connection. At first that is an error: somebody can mend it."""
        if not self._reached:
            raise self.failure(why)
        if why != self._trouble:
            tell(f"no connection to {self.config.sidecar}, trying again: {escape(why)}")
        self._trouble = why

    def failure(self, why: str) -> RequestFailed:
        """Return the error that the sidecar cannot be spoken to."""
        url = self.config.sidecar
        trust = ", or say by --tls-ca whom to trust" if url.startswith("wss:") else ""
        way_out = f"start one there, or name another by --sidecar{trust}"
        return RequestFailed("no_sidecar", f"{url} does not answer: {escape(why)}; {way_out}")


@asynccontextmanager
async def open_call(config: BridgeConfig) -> AsyncIterator[Call]:
    """Call a sidecar. Raises ConfigError, and RequestFailed with the way out."""
    call = Call(config)
    context = context_for(config.sidecar, TlsFiles.of(config))
    try:
        async with open_client(
            config.sidecar, token=config.token, ssl_context=context, told=call.told
        ) as call.client:
            with trio.move_on_after(config.timeout_seconds) as call.deadline:
                yield call
            if call.deadline.cancelled_caught:
                raise call.failure(f"silent for {config.timeout_seconds:g} seconds")
    except* RequestFailed as group:
        failure = leaves(group)[0]
        assert isinstance(failure, RequestFailed)  # noqa: S101 - the group holds nothing else
        raise _explained(config, failure) from None


def _explained(config: BridgeConfig, failure: RequestFailed) -> RequestFailed:
    """Return a failure; one that asks for a login says how to give one."""
    if failure.code != "unauthenticated":
        return failure
    why = "the token is nobody's" if config.token else "the sidecar has users"
    return RequestFailed(
        failure.code, f"{why}; give a user's secret in FANOUT_TOKEN, or in a file by --config"
    )
