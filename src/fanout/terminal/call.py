"""The connection of a command to a sidecar, which must be made within a time limit."""

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
    """A client that must connect within a time limit. Made by `open_call`."""

    config: BridgeConfig
    client: Client = attrs.field(init=False)
    deadline: trio.CancelScope = attrs.field(init=False)
    _reached: bool = attrs.field(default=False, init=False)
    _trouble: str = attrs.field(default="", init=False)  # the last reason written

    def reached(self) -> None:
        """Lift the time limit: from now on a lost connection is a warning, not an error."""
        self._reached = True
        self.deadline.deadline = math.inf

    def disconnected(self, why: str) -> None:
        """Write a warning that the connection is lost. Raises RequestFailed before `reached`."""
        if not self._reached:
            raise self.failure(why)
        if why != self._trouble:
            tell(f"connection to {self.config.sidecar} lost, reconnecting: {escape(why)}")
        self._trouble = why

    def failure(self, why: str) -> RequestFailed:
        """Return the error that the sidecar cannot be reached."""
        url = self.config.sidecar
        options = "--sidecar and --tls-ca" if url.startswith("wss:") else "--sidecar"
        return RequestFailed(
            "no_sidecar",
            f"{url} cannot be reached: {escape(why)}; check that it is running, and {options}",
        )


@asynccontextmanager
async def open_call(config: BridgeConfig) -> AsyncIterator[Call]:
    """Connect to a sidecar for the length of the block.

    Raises:
        ConfigError: a file of certificates cannot be read.
        RequestFailed: connecting or a request failed; the message names the options to check.

    """
    call = Call(config)
    context = context_for(config.sidecar, TlsFiles.of(config))
    try:
        async with open_client(
            config.sidecar, token=config.token, ssl_context=context, told=call.disconnected
        ) as call.client:
            with trio.move_on_after(config.timeout_seconds) as call.deadline:
                yield call
            if call.deadline.cancelled_caught:
                raise call.failure(f"no reply within {config.timeout_seconds:g} seconds")
    except* RequestFailed as group:
        failure = leaves(group)[0]
        assert isinstance(failure, RequestFailed)  # noqa: S101 - the group holds nothing else
        raise _explained(config, failure) from None


def _explained(config: BridgeConfig, failure: RequestFailed) -> RequestFailed:
    """Return a failure, with the way to log in added if it asks for a login."""
    if failure.code != "unauthenticated":
        return failure
    why = "invalid token" if config.token else "authentication required"
    return RequestFailed(failure.code, f"{why}; set FANOUT_TOKEN, or token in the file of --config")
