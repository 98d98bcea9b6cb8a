"""What makes a field an option, and how a configuration is built from its sources."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs

from fanout.errors import ConfigError, SettingError


def option(
    default: Any,
    convert: Callable[[Any], Any],
    metavar: str,
    text: str,
    *,
    group: str = "Connection",
    repeatable: bool = False,
    secret: bool = False,
) -> Any:
    """Return an attrs field that is an option.

    Args:
        default: its value when no source gives one.
        convert: reads a text, number or list; raises ConfigError.
        metavar: the form or the unit of the value, in capitals.
        text: what it means, and what raising it costs.
        group: heading of the help it stands under; a part's options stand under the part's name.
        repeatable: whether it may be given several times; its value is then a tuple.
        secret: whether it is refused on the command line and never shown.

    """
    metadata = {
        "convert": convert,
        "metavar": metavar,
        "help": text,
        "group": group,
        "repeatable": repeatable,
        "secret": secret,
    }
    return attrs.field(default=default, metadata=metadata, repr=not secret)


def _parts(config: type) -> dict[str, type]:
    """Return the fields of a configuration that are no options but groups of them."""
    return {
        field.name: field.type
        for field in attrs.fields(config)
        if field.type is not None and "convert" not in field.metadata
    }


def groups(config: type) -> dict[str, dict[str, Any]]:
    """Return, under each heading of the help, name and attrs field of its options, in order."""
    found: dict[str, dict[str, Any]] = {}
    parts = _parts(config)
    for field in attrs.fields(config):
        if field.name in parts:
            part = {each.name: each for each in attrs.fields(parts[field.name])}
            found[field.name.capitalize()] = part
        else:
            found.setdefault(field.metadata["group"], {})[field.name] = field
    return found


def options(config: type) -> dict[str, Any]:
    """Return name and attrs field of every option, parts included, in order."""
    return {name: field for group in groups(config).values() for name, field in group.items()}


def secrets_of(config: Any) -> frozenset[str]:
    """Return every secret in a configuration: what it does not show of itself, parts included."""
    if isinstance(config, tuple):
        return frozenset().union(*map(secrets_of, config))
    if not attrs.has(type(config)):
        return frozenset()
    found = {field.name: getattr(config, field.name) for field in attrs.fields(type(config))}
    hidden = {field.name for field in attrs.fields(type(config)) if not field.repr}
    own = {text for name, text in found.items() if name in hidden and isinstance(text, str)}
    return frozenset(own - {""}).union(*map(secrets_of, found.values()))


def flag(name: str) -> str:
    """Return the command line's word for a setting, without its dashes in front."""
    return name.replace("_", "-")


def require_id(name: str) -> None:
    """Refuse a missing id. Raises SettingError."""
    if not name:
        raise SettingError("id: missing; give this member of the fleet a name", "id")


class Configuration:
    """The settings of one command."""

    __slots__ = ()

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Build it, parts included, from option names, underscored, and texts, numbers or lists.

        Raises:
            SettingError: a value is not allowed, or there is no such setting.

        """
        known = options(cls)
        converted: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
                raise SettingError(f"{name}: no such setting{hint}", name)
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
