"""The way to the sidecar, as the settings of a command describe it."""

import ssl
from contextlib import AbstractAsyncContextManager

from fanout.client import Client, open_client
from fanout.config import EdgeConfig, PurgeConfig
from fanout.errors import ConfigError


def open_sidecar(config: EdgeConfig | PurgeConfig) -> AbstractAsyncContextManager[Client]:
    """Open a client of the sidecar. Raises ConfigError: the certificates cannot be read."""
    context = None
    if config.tls_ca:
        try:
            context = ssl.create_default_context(cafile=config.tls_ca)
        except OSError as error:
            why = error.strerror or "it holds no certificate"
            raise ConfigError(f"tls-ca: cannot read {config.tls_ca}: {why}") from None
    return open_client(config.sidecar, token=config.token, ssl_context=context)
