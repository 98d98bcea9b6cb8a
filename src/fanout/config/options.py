"""Options as attrs fields, and configurations built from them."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs

from fanout.errors import ConfigError, SettingError

HEADINGS = (
    *("Connection", "DNS", "Cache", "Access", "TLS", "Nodes"),
    *("Timings", "Limits", "Gateway", "Logging"),
)
"""The headings of the options in the help, in order."""


def option(
    default: Any,
    convert: Callable[[Any], Any],
    metavar: str,
    text: str,
    *,
    group: str = "Connection",
    repeatable: bool = False,
    secret: bool = False,
    formerly: str = "",
) -> Any:
    """Return an attrs field that is an option.

    Args:
        default: its value when no source sets it.
        convert: parses a text, number or list; raises ConfigError.
        metavar: the form or the unit of the value, in capitals.
        text: the description, including what raising the value costs.
        group: heading in the help, one of HEADINGS; the options of a part are listed under the part's name.
        repeatable: whether it may be given several times; its value is then a tuple.
        secret: whether it is refused on the command line and never shown.
        formerly: former name of the option, underscored. Every source still accepts it, with a
            warning, until the release after the one that renamed the option.

    """
    metadata = {
        "convert": convert,
        "metavar": metavar,
        "help": text,
        "group": group,
        "repeatable": repeatable,
        "secret": secret,
        "formerly": formerly,
    }
    return attrs.field(default=default, metadata=metadata, repr=not secret)


def _parts(config: type) -> dict[str, type]:
    """Return name and class of each part: a field that holds a group of options."""
    return {
        field.name: field.type
        for field in attrs.fields(config)
        if field.type is not None and "convert" not in field.metadata
    }


def groups(config: type) -> dict[str, dict[str, Any]]:
    """Return the options by heading of the help, each with its name and attrs field, in order."""
    found: dict[str, dict[str, Any]] = {}
    parts = _parts(config)
    for field in attrs.fields(config):
        if field.name in parts:
            part = {each.name: each for each in attrs.fields(parts[field.name])}
            found[field.name.capitalize()] = part
        else:
            found.setdefault(field.metadata["group"], {})[field.name] = field
    return {heading: found[heading] for heading in sorted(found, key=HEADINGS.index)}


def options(config: type) -> dict[str, Any]:
    """Return name and attrs field of every option, parts included, in order."""
    return {name: field for group in groups(config).values() for name, field in group.items()}


def renamed(config: type) -> dict[str, str]:
    """Return the current name of each option that was renamed, by its former name."""
    return {
        former: name
        for name, field in options(config).items()
        if (former := field.metadata["formerly"])
    }


def secrets_of(config: Any) -> frozenset[str]:
    """Return the values of all secret options of a configuration, parts included."""
    if isinstance(config, tuple):
        return frozenset().union(*map(secrets_of, config))
    if not attrs.has(type(config)):
        return frozenset()
    found = {field.name: getattr(config, field.name) for field in attrs.fields(type(config))}
    hidden = {field.name for field in attrs.fields(type(config)) if not field.repr}
    own = {text for name, text in found.items() if name in hidden and isinstance(text, str)}
    return frozenset(own - {""}).union(*map(secrets_of, found.values()))


def flag(name: str) -> str:
    """Return the command line flag of an option, without the leading dashes."""
    return name.replace("_", "-")


def require_id(name: str) -> None:
    """Raise SettingError when the id is missing."""
    if not name:
        raise SettingError("id: missing; give --id NAME", "id")


class Configuration:
    """Base of the configurations: the options of one command."""

    __slots__ = ()

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Return a configuration, parts included, from texts, numbers and lists by option name.

        Raises:
            SettingError: a value is invalid, or an option is unknown.

        """
        known = options(cls)
        converted: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = (
                    f"did you mean {close[0]}?" if close else f"known options: {', '.join(known)}"
                )
                raise SettingError(f"{name}: unknown option; {hint}", name)
            try:
                converted[name] = known[name].metadata["convert"](value)
            except ConfigError as error:
                raise SettingError(f"{flag(name)}: {error}", name) from None
        parts = {
            part: kind(
                **{
                    each: converted.pop(each)
                    for each in attrs.fields_dict(kind)
                    if each in converted
                }
            )
            for part, kind in _parts(cls).items()
        }
        return cls(**converted, **parts)
