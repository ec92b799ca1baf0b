"""Fields of nested dataclasses by dotted name: read from JSON or text, checked, changed.

What a config file, a checkpoint's JSON or a command line says becomes a dataclass here, and every
mistake is reported with the field's name and what it could be. Nothing here knows which dataclasses
there are.
"""

import ast
import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ldeq_jax.errors import UserError

T = TypeVar("T")
_UNIONS = (types.UnionType, typing.Union)
_CONSTANTS = {"true": True, "false": False, "none": None}


def field_type(kind: type, path: str, where: str) -> Any:
    """The type hint of a field.

    Args:
        kind: a dataclass.
        path: dotted name of a field of it or of the dataclasses within: "optimizer.b1".
        where: name of the dataclass, for the message.

    Raises:
        UserError: there is no such field; the message names those there are.
    """
    for name in path.split("."):
        kind = _types(kind, where, [name])[name]
        where += f".{name}"
    return kind


def convert(kind: Any, value: Any, where: str) -> Any:
    """A value as a field's type wants it: mappings become dataclasses, lists become tuples.

    Args:
        kind: a type or type hint.
        value: of the types of JSON, or of the field's own.
        where: name of the field, for the message.

    Raises:
        UserError: an unknown field, or a value of another type or outside its range; the message
            names the field and what it could be.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in _UNIONS:
        if value is None and types.NoneType in arguments:
            return None
        kind = next((member for member in arguments if _fits(member, value)), arguments[0])
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        hints = _types(kind, where, value)
        fields = {name: convert(hints[name], value[name], f"{where}.{name}") for name in value}
        return _make(kind, fields, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise UserError(f"{where} must be one of {arguments}, not {value!r}")
        return value
    if isinstance(value, list | tuple):  # JSON turns tuples into lists
        if _is_named_tuple(kind):
            members = zip(typing.get_type_hints(kind).values(), value, strict=True)
            return kind(*(convert(*pair, where) for pair in members))
        if origin is tuple:
            return tuple(convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if kind is float and type(value) is int:
        return float(value)
    if not _is_a(kind, value):
        name = "mapping" if dataclasses.is_dataclass(kind) else getattr(kind, "__name__", kind)
        raise UserError(f"{where} must be of type {name}, not {value!r}")
    return value


def parse(kind: Any, text: str, where: str) -> Any:
    """A field's value from the text of a command line: 1e-3, true, none, (3, 7), step.

    Args:
        kind: the field's type hint.
        text: where text is allowed it stands for itself, where several texts are, with commas
            between them; else it is read as Python reads it.
        where: name of the field, for the message.

    Raises:
        UserError: as from `convert`, or the field is a section with fields of its own.
    """
    if dataclasses.is_dataclass(kind):
        names = ", ".join(typing.get_type_hints(kind))
        raise UserError(f"{where} is a section; set one of its fields: {names}")
    members = typing.get_args(kind) if typing.get_origin(kind) in _UNIONS else (kind,)
    if any(_fits(member, text) for member in members):
        return text
    value = _literal(text)
    if typing.get_args(kind) == (str, ...) and isinstance(value, str):
        value = [part for part in text.split(",") if part]
    return convert(kind, value, where)


def replace(section: T, values: Mapping[str, Any], where: str) -> T:
    """A dataclass with other values in some fields, all set at the same time.

    Args:
        section: a dataclass, whose fields may be dataclasses.
        values: by dotted names: {"optimizer.name": "adamw", "optimizer.weight_decay": 1e-3}.
        where: name of the dataclass, for the message.

    Raises:
        UserError: as from `convert`.
    """
    changes: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        name, _, rest = path.partition(".")
        hint = field_type(type(section), name, where)
        if rest and dataclasses.is_dataclass(getattr(section, name)):
            inner.setdefault(name, {})[rest] = value
        elif rest:
            field_type(hint, rest, f"{where}.{name}")  # raises
        else:
            changes[name] = convert(hint, value, f"{where}.{name}")
    for name, values_within in inner.items():
        part = changes.get(name, getattr(section, name))
        changes[name] = replace(part, values_within, f"{where}.{name}")
    fields = {name: getattr(section, name) for name in _types(type(section), where)}
    return _make(type(section), fields | changes, where)


def _literal(text: str) -> Any:
    """The value that a text means in Python, or the text itself if it means none."""
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, ValueError):
        return text


def _make(kind, fields, where):
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:  # of its __post_init__
        raise UserError(f"{where}: {error}") from error


def _types(kind, where: str, names: Iterable[str] = ()) -> dict[str, Any]:
    """The type hints of a dataclass's fields, after checking that it has all `names`."""
    hints = typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
    for name in names:
        if name not in hints:
            raise UserError(f"{where} has no field {name!r}; it has {', '.join(hints) or 'none'}")
    return hints


def _fits(kind, value) -> bool:
    """Whether a value is meant to be of a type."""
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return isinstance(value, Mapping) or _is_a(kind, value)
    if origin is tuple:
        return isinstance(value, list | tuple)
    return _is_a(kind, value)


def _is_a(kind, value) -> bool:
    """Whether a value is of a type: True is no int, but a class of one's own may be derived."""
    plain = kind in (bool, int, float, str)
    return type(value) is kind or not plain and isinstance(kind, type) and isinstance(value, kind)


def _is_named_tuple(kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
