"""The way to the sidecar, as the settings of a command describe it."""

from contextlib import AbstractAsyncContextManager

from fanout.client import Client, open_client
from fanout.config import EdgeConfig, PurgeConfig, TlsFiles
from fanout.runtime.certificates import Contexts


def open_sidecar(config: EdgeConfig | PurgeConfig) -> AbstractAsyncContextManager[Client]:
    """Open a client of the sidecar. Raises ConfigError: the certificates cannot be read."""
    context = Contexts(TlsFiles.of(config)).client if config.tls_ca else None
    return open_client(config.sidecar, token=config.token, ssl_context=context)
