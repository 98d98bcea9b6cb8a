"""Settings that several commands share."""

from typing import Any, Self

import attrs

from fanout.config.options import option
from fanout.config.readers import (
    read_choice,
    read_discovery,
    read_name,
    read_networks,
    read_text,
    read_url,
)
from fanout.errors import SettingError


@attrs.frozen(kw_only=True)
class TlsFiles:
    """The settings that name certificates and keys; those that a command lacks are empty."""

    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_ca: str = ""
    tls_client_cert: str = ""
    tls_client_key: str = ""

    @classmethod
    def of(cls, config: object) -> Self:
        """Return those of a configuration."""
        return cls(**{name: getattr(config, name, "") for name in attrs.fields_dict(cls)})


def file_option(text: str) -> Any:
    """The path of a file for TLS."""
    return option("", read_text, "FILE", text, group="TLS")


def tls_ca_option() -> Any:
    """Whom a member trusts."""
    return file_option(
        "PEM file of those who sign the certificates of discovery (rediss://) and of nodes. "
        "Default: those that this system trusts."
    )


def tls_cert_option() -> Any:
    """What the doors show."""
    return file_option(
        "PEM file of the certificate of the doors: they then speak TLS only. Read again on SIGHUP."
    )


def tls_key_option() -> Any:
    """Its key."""
    return file_option("PEM file of its key, if it is not in the same file.")


def tls_client_ca_option() -> Any:
    """Whom the doors trust."""
    return file_option(
        "PEM file of those who sign the certificates of clients: the doors then ask for one."
    )


def require_tls_cert(config: TlsFiles) -> None:
    """Refuse settings of doors with TLS that have no certificate. Raises SettingError."""
    if not config.tls_cert and (config.tls_key or config.tls_client_ca):
        raise SettingError(
            "tls-cert: missing beside --tls-key or --tls-client-ca; give the certificate too",
            "tls_cert",
            "tls_key",
            "tls_client_ca",
        )


def tls_client_cert_option() -> Any:
    """What a member shows."""
    return file_option(
        "PEM file of a certificate to show to discovery and nodes. Read again on SIGHUP."
    )


def tls_client_key_option() -> Any:
    """Its key."""
    return file_option("PEM file of its key, if it is not in the same file.")


def cluster_option() -> Any:
    """Which fleet is meant."""
    return option(
        "default", read_name, "NAME",
        "Fleet to belong to. Fleets on one discovery do not see each other.",
    )  # fmt: skip


def discovery_option() -> Any:
    """Where discovery is."""
    return option(
        (), read_discovery, "URL[,URL...]",
        "A discovery Redis, then its read replicas. Repeat it for each independent instance.",
        repeatable=True,
    )  # fmt: skip


def secret_option() -> Any:
    """The fleet's secret."""
    return option(
        "", read_text, "TEXT",
        "Secret of the fleet, the same for all nodes and sidecars: passwords of the nodes' users are made from it.",
        group="Nodes", secret=True,
    )  # fmt: skip


def node_network_option() -> Any:
    """Where nodes may be."""
    return option(
        (), read_networks, "CIDR",
        "Network that nodes are in, such as 10.0.0.0/8; no other address that discovery tells is "
        "connected to. Repeat it for each. Default: any.",
        group="Nodes", repeatable=True,
    )  # fmt: skip


def node_username_option() -> Any:
    """Who sidecars and agents are on nodes in cooperative mode."""
    return option(
        "", read_text, "NAME",
        "User for nodes in cooperative mode, whose agent may not set up users of their own.",
        group="Nodes",
    )  # fmt: skip


def node_password_option() -> Any:
    """Their password there."""
    return option(
        "", read_text, "TEXT", "Password for nodes in cooperative mode.", group="Nodes", secret=True
    )  # fmt: skip


def sidecar_option() -> Any:
    """The door of a sidecar that a client of it uses."""
    return option(
        "ws://127.0.0.1:7380/", read_url("ws", "wss"), "URL", "The websocket door of the sidecar."
    )


def token_option() -> Any:
    """What clients show to be let in."""
    return option(
        "",
        read_text,
        "TEXT",
        "Token for the sidecar, where it has users.",
        group="Access",
        secret=True,
    )


def sidecar_ca_option() -> Any:
    """Whom clients of a sidecar trust."""
    return file_option("PEM file of those who sign the certificate of the sidecar (wss://).")


def sidecar_cert_option() -> Any:
    """What clients of a sidecar show."""
    return file_option("PEM file of a certificate to show, where the sidecar asks for one.")


def log_level_option() -> Any:
    """What is logged."""
    return option(
        "info", read_choice("debug", "info", "warning", "error"), "LEVEL",
        "Least important event that is logged: debug, info, warning or error.",
        group="Logging",
    )  # fmt: skip


def log_format_option() -> Any:
    """How it is written."""
    return option(
        "auto", read_choice("auto", "console", "json"), "FORMAT",
        "console, json, or auto: console on a terminal, else json.",
        group="Logging",
    )  # fmt: skip
