"""Options of the clients of a sidecar and of the commands for a terminal."""

from typing import Any

import attrs

from fanout.config.options import Configuration, option
from fanout.config.readers import read_seconds, read_text, read_url
from fanout.config.shared import (
    file_option,
    sidecar_cert_option,
    tls_client_key_option,
)


def _timeout_option() -> Any:
    return option(
        5.0, read_seconds, "SECONDS",
        "How long to wait for the sidecar. Raising it delays the error when it does not answer.",
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class ClientConfig(Configuration):
    """Options of the clients of a sidecar's websocket door."""

    sidecar: str = option(
        "ws://127.0.0.1:7380/", read_url("ws", "wss"), "URL", "URL of the sidecar's websocket door."
    )
    token: str = option(
        "", read_text, "TEXT", "Token to log in to the sidecar, if it has users.",
        group="Access", secret=True,
    )  # fmt: skip
    tls_ca: str = file_option("PEM file of the CA bundle that verifies the sidecar (wss://).")
    tls_client_cert: str = sidecar_cert_option()
    tls_client_key: str = tls_client_key_option()


@attrs.frozen(kw_only=True)
class BridgeConfig(ClientConfig):
    """Options of the commands that publish and subscribe through a sidecar."""

    timeout_seconds: float = _timeout_option()


@attrs.frozen(kw_only=True)
class TopConfig(Configuration):
    """Options of the command top."""

    admin_url: str = option(
        "http://127.0.0.1:9380/",
        read_url("http", "https"),
        "URL",
        "URL of the sidecar's admin door.",
    )
    timeout_seconds: float = _timeout_option()
    tls_ca: str = file_option("PEM file of the CA bundle that verifies the sidecar (https://).")
    tls_client_cert: str = sidecar_cert_option()
    tls_client_key: str = tls_client_key_option()
