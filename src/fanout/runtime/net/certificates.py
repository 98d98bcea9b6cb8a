"""Certificates and keys: read at the start and on SIGHUP; open connections keep the old ones."""

import ssl
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import structlog

from fanout.config import TlsFiles
from fanout.errors import ConfigError

log = structlog.get_logger()

T = TypeVar("T")


class Contexts:
    """The TLS contexts of a process, for its server side and its client side.

    Raises:
        ConfigError: a file cannot be read, or holds no certificate or key.

    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self.server: ssl.SSLContext | None = None
        """The context of the doors; None without TLS."""
        if files.tls_cert:
            self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            if files.tls_client_ca:
                self.server.verify_mode = ssl.CERT_REQUIRED
        self._client: ssl.SSLContext | None = None
        if files.tls_ca or files.tls_client_cert:
            _ = self.client  # so that invalid files are reported at the start
        self._load()

    @property
    def client(self) -> ssl.SSLContext:
        """The context for connections to discovery and nodes; it verifies the host name."""
        if self._client is None:
            self._client = _reading("tls-ca", _client_context, self._files.tls_ca)
        return self._client

    def reload(self) -> None:
        """Read the files again; if any is invalid, log it and keep the present ones."""
        if self._files == TlsFiles():
            return
        try:
            self._load()
        except ConfigError as error:
            log.warning("certificates_not_reloaded", reason=str(error))
        else:
            log.info("certificates_reloaded")

    def _load(self) -> None:
        files = self._files
        if self.server is not None:
            server = self.server
            _reading_chain("tls-cert", server, files.tls_cert, files.tls_key)
            if files.tls_client_ca:
                _reading("tls-client-ca", server.load_verify_locations, files.tls_client_ca)
        if files.tls_client_cert:
            cert, key = files.tls_client_cert, files.tls_client_key
            _reading_chain("tls-client-cert", self.client, cert, key)


def context_for(url: str, files: TlsFiles) -> ssl.SSLContext | None:
    """Return the TLS context for a client of the sidecar at `url`; None for a URL without TLS.

    Raises ConfigError for invalid files as `Contexts` does, also for a URL without TLS.
    """
    contexts = Contexts(files)
    return contexts.client if urlsplit(url).scheme in {"wss", "https"} else None


def _client_context(ca: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca or None)


class _EncryptedError(Exception):
    """A private key is encrypted."""


def _no_passphrase() -> str:
    raise _EncryptedError


def _reading_chain(option: str, context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load a certificate and its key; errors of the key name the option of the key's file.

    OpenSSL must not ask for a passphrase on the terminal: that would block the event loop.
    """
    certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _reading(option, certificates.load_verify_locations, certificate)
    if key:
        option = option.replace("cert", "key")
    try:
        _reading(option, context.load_cert_chain, certificate, key or None, _no_passphrase)
    except _EncryptedError:
        raise ConfigError(
            f"{option}: encrypted private keys are not supported; remove the passphrase with "
            "openssl pkey, and make the file readable by this user only"
        ) from None


def _reading(option: str, read: Callable[..., T], *arguments: object) -> T:
    try:
        return read(*arguments)
    except ssl.SSLError as error:
        found = "the key of the certificate" if "key" in option else "a certificate and its key"
        what = (error.reason or "not understood").replace("_", " ").lower()
        raise ConfigError(f"{option}: not {found}: {what}") from None
    except OSError as error:
        raise ConfigError(f"{option}: cannot be read: {error.strerror}") from None
