"""Frozen values with one canonical JSON form, a cached hash and a digest.

Everything that is searched, stored or compared (precisions, blocks, ops, architectures, recipes)
is such a value: equal content means equal JSON, equal digest, equal hash.
"""

from __future__ import annotations

import hashlib
import json
import math
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, field, fields
from functools import cache
from typing import Any, ClassVar, Final, TypeVar

from bitfront.spaces.errors import InvalidValue

V = TypeVar("V", bound="Value")
MAX_BITS: Final = 1024
MAX_TEXT: Final = 4096
_ADDED = "added"


def added(default: Any) -> Any:
    """A field that a later version added to a value.

    At its default it is left out of the JSON, so a value that does not use it keeps the text and
    the digest that it had before.
    """
    return field(default=default, metadata={_ADDED: True})


class Value:
    """Base of the frozen dataclasses: ``eq=False`` there, equality and a cached hash here.

    Subclasses override ``check`` to validate themselves; it runs once, at construction.
    """

    __slots__ = ("_hash",)
    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        # equal values must have one text: 1 becomes 1.0, and -0.0 becomes 0.0
        for name in _floats(type(self)):
            value = getattr(self, name)
            if isinstance(value, int | float):
                object.__setattr__(self, name, value + 0.0)
        self.check()
        object.__setattr__(self, "_hash", hash((type(self).__qualname__, self.content())))

    def check(self) -> None:
        """Raise ``InvalidValue`` if the fields break a rule."""

    def content(self) -> tuple[Any, ...]:
        """The fields' values, in the order they are declared."""
        return tuple(getattr(self, name) for name in _names(type(self)))

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined, no-any-return]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        return self.content() == other.content()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.content())


def _init_names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls) if f.init)


def _float_names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls) if f.init and f.type in ("float", float))


def _added_defaults(cls: type) -> dict[str, Any]:
    return {f.name: f.default for f in fields(cls) if f.metadata.get(_ADDED)}


_names: Callable[[type], tuple[str, ...]] = cache(_init_names)
_added: Callable[[type], dict[str, Any]] = cache(_added_defaults)
_floats: Callable[[type], tuple[str, ...]] = cache(_float_names)


def _rebuild(cls: type[V], content: tuple[Any, ...]) -> V:
    return cls(**dict(zip(_names(cls), content, strict=True)))


def encode(value: Any) -> Any:
    """Turn a value into plain JSON data: dicts, lists, strings, numbers, booleans, null.

    Raises:
        InvalidValue: If a float is not finite, or a type has no JSON form.
    """
    if isinstance(value, Value):
        left_out = _added(type(value))
        data = {
            name: encode(content)
            for name, content in zip(_names(type(value)), value.content(), strict=True)
            if not (name in left_out and content == left_out[name])
        }
        return {"kind": value.kind, **data} if value.kind else data
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValue(f"A number must be finite, but got {value!r}.")
        return value
    if value is None or isinstance(value, str | int):
        return value
    raise InvalidValue(f"A {type(value).__name__} has no JSON form.")


def canonical(data: Any) -> str:
    """The canonical text of JSON data: sorted keys, no spaces, floats by ``repr``."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(text: str) -> str:
    """SHA-256 of a canonical text, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def decode(cls: type[V], data: Any, where: str) -> V:
    """Read a value of type ``cls`` from JSON data.

    Args:
        cls: A frozen dataclass derived from ``Value``.
        data: What ``encode`` gave for such a value.
        where: The place in the document, for error texts ("stages[1].blocks[0]").

    Raises:
        InvalidValue: If a key is unknown or missing, or a value has the wrong type or range.
    """
    if not isinstance(data, dict):
        raise InvalidValue(f"{where} must be an object, but is {_shown(data)}.")
    hints = _hints(cls)
    known = [f for f in fields(cls) if f.init]  # type: ignore[arg-type]
    names = {f.name for f in known}
    unknown = [k for k in data if k not in names and not (k == "kind" and cls.kind)]
    if unknown:
        raise InvalidValue(
            f"{where} has no field {str(unknown[0])[:60]!r}; its fields are "
            f"{', '.join(sorted(names))}."
        )
    values = {}
    for f in known:
        if f.name in data:
            values[f.name] = _read(hints[f.name], data[f.name], f"{where}.{f.name}")
        elif f.default is MISSING and f.default_factory is MISSING:
            raise InvalidValue(f"{where} lacks the field {f.name!r}.")
    try:
        return cls(**values)
    except InvalidValue as error:
        raise type(error)(f"{where}: {error}") from None


_hints: Callable[[type], dict[str, Any]] = cache(typing.get_type_hints)


def _read(hint: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        options = typing.get_args(hint)
        if data is None and type(None) in options:
            return None
        return _read(next(o for o in options if o is not type(None)), data, where)
    if origin is tuple:
        if not isinstance(data, list):
            raise InvalidValue(f"{where} must be a list, but is {_shown(data)}.")
        inner = typing.get_args(hint)
        if inner[-1] is Ellipsis:
            return tuple(_read(inner[0], item, f"{where}[{i}]") for i, item in enumerate(data))
        if len(data) != len(inner):
            raise InvalidValue(f"{where} must hold {len(inner)} values, but holds {len(data)}.")
        return tuple(
            _read(h, item, f"{where}[{i}]")
            for i, (h, item) in enumerate(zip(inner, data, strict=True))
        )
    if isinstance(hint, type) and issubclass(hint, Value):
        reader = getattr(hint, "from_json", None)
        return reader(data, where) if reader else decode(hint, data, where)
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise InvalidValue(f"{where} must be finite, but is {_shown(data)}.") from None
    if hint is float and isinstance(data, float) and not math.isfinite(data):
        raise InvalidValue(f"{where} must be finite, but is {data!r}.")
    if not isinstance(data, hint) or (hint is int and isinstance(data, bool)):
        raise InvalidValue(f"{where} must be {_article(hint)}, but is {_shown(data)}.")
    if isinstance(data, int) and data.bit_length() > MAX_BITS:
        raise InvalidValue(f"{where} must be below 2^{MAX_BITS} in size, but is {_shown(data)}.")
    if isinstance(data, str) and len(data) > MAX_TEXT:
        raise InvalidValue(f"{where} must have at most {MAX_TEXT} letters, but has {len(data)}.")
    return data


def _article(hint: type) -> str:
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(
        hint, hint.__name__
    )


def _shown(data: Any) -> str:
    """A value for an error text: short, whatever a document holds."""
    if isinstance(data, dict | list) and len(data) > 20:
        return f"{'an object' if isinstance(data, dict) else 'a list'} of {len(data)}"
    if isinstance(data, str):
        data = data[:60]
    try:
        text = repr(data) if isinstance(data, float) else json.dumps(data)
    except RecursionError:
        return "nested too deeply to be shown"
    except ValueError:
        # python writes no integer of more than 4300 digits
        return "too large to be shown"
    return text if len(text) <= 60 else text[:57] + "..."
