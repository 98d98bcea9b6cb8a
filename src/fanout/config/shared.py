"""Options that several commands share."""

from typing import Any, Self

import attrs

from fanout.config.addresses import DiscoveryAddress
from fanout.config.options import option
from fanout.config.readers import (
    read_choice,
    read_discovery,
    read_name,
    read_text,
)
from fanout.errors import SettingError


@attrs.frozen(kw_only=True)
class TlsFiles:
    """Paths of certificates and keys; those that a command has no option for are empty."""

    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_ca: str = ""
    tls_client_cert: str = ""
    tls_client_key: str = ""

    @classmethod
    def of(cls, config: object) -> Self:
        """Return the paths of a configuration."""
        return cls(**{name: getattr(config, name, "") for name in attrs.fields_dict(cls)})


def file_option(text: str) -> Any:
    """Return an option that is the path of a PEM file."""
    return option("", read_text, "FILE", text, group="TLS")


def tls_ca_option() -> Any:
    """Return the option --tls-ca of members and of the commands that inspect a fleet."""
    return file_option(
        "PEM file of the CA bundle that verifies discovery (rediss://) and nodes. "
        "Default: the CA bundle of this system."
    )


def tls_client_cert_option() -> Any:
    """Return the option --tls-client-cert of members."""
    return file_option(
        "PEM file of the client certificate for discovery and nodes. Reloaded on SIGHUP."
    )


def tls_client_key_option() -> Any:
    """Return the option --tls-client-key."""
    return file_option(
        "PEM file of the private key, if the file of --tls-client-cert does not contain it."
    )


def require_discovery(discovery: tuple[DiscoveryAddress, ...]) -> None:
    """Raise SettingError when no discovery instance is given."""
    if not discovery:
        raise SettingError("discovery: missing; give --discovery URL at least once", "discovery")


def cluster_option() -> Any:
    """Return the option --cluster."""
    return option(
        "default", read_name, "NAME",
        "Name of the fleet. Fleets that share a discovery do not see each other.",
    )  # fmt: skip


def discovery_option() -> Any:
    """Return the option --discovery."""
    return option(
        (), read_discovery, "URL[,URL...]",
        "A discovery Redis, followed by its read replicas. Repeat it for each independent instance.",
        repeatable=True,
    )  # fmt: skip


def sidecar_cert_option() -> Any:
    """Return the option --tls-client-cert of clients of a sidecar."""
    return file_option("PEM file of the client certificate, if the sidecar requires one.")


def log_level_option() -> Any:
    """Return the option --log-level."""
    return option(
        "info", read_choice("debug", "info", "warning", "error"), "LEVEL",
        "Lowest level that is logged: debug, info, warning or error.",
        group="Logging",
    )  # fmt: skip


def log_format_option() -> Any:
    """Return the option --log-format."""
    return option(
        "auto", read_choice("auto", "console", "json"), "FORMAT",
        "Format of the log: console, json, or auto (console on a terminal, json otherwise).",
        group="Logging",
    )  # fmt: skip
