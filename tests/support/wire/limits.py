"""Limits of clients and requests for tests: the defaults of the options, unless a test changes them."""

from typing import Any

import attrs

from fanout.config import Limits
from fanout.runtime.sidecar.recipient import client_limits
from fanout.wire.limits import ClientLimits
from fanout.wire.resp.requests import RequestLimits
from fanout.wire.resp.requests import request_limits as request_limits_of


def default_limits(**changes: Any) -> ClientLimits:
    """Return the default limits of a client, with these changed."""
    return attrs.evolve(client_limits(Limits()), **changes)


def request_limits(**changes: Any) -> RequestLimits:
    """Return the default limits of a request, with these changed."""
    defaults = request_limits_of(default_limits(), Limits().arguments_max)
    return attrs.evolve(defaults, **changes)
