"""Options of the commands that use a sidecar from a terminal."""

from typing import Any

import attrs

from fanout.config.options import Configuration, option
from fanout.config.readers import read_seconds, read_url
from fanout.config.shared import (
    file_option,
    sidecar_ca_option,
    sidecar_cert_option,
    sidecar_option,
    tls_client_key_option,
    token_option,
)


def _timeout_option() -> Any:
    return option(
        5.0, read_seconds, "SECONDS",
        "How long to wait for the sidecar. Raising it delays the error when it does not answer.",
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class BridgeConfig(Configuration):
    """Options of the commands that publish and subscribe through a sidecar."""

    sidecar: str = sidecar_option()
    timeout_seconds: float = _timeout_option()
    token: str = token_option()
    tls_ca: str = sidecar_ca_option()
    tls_client_cert: str = sidecar_cert_option()
    tls_client_key: str = tls_client_key_option()


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
