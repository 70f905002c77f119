"""Registries: the activations, losses, optimizers and backends that have a name.

A registry maps names to pieces: nnxp's own, those that `nnxp.register_activation` and its kin add,
and those that installed packages announce by entry points, for every process and the command line:

    [project.entry-points."nnxp.activations"]
    mish = "my_package:mish"  # the pair (forward, backward)

An entry point is imported when its name is first used.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from nnxp.errors import InputError, described, shown, unknown_name
from nnxp.options import Rule

log = logging.getLogger("nnxp")

Function = TypeVar("Function", bound=Callable[..., Any])
Pair = tuple[Callable[..., Any], Callable[..., Any]]
"""An activation, (forward, backward), or a loss, (value, gradient)."""
Piece = Pair | Callable[..., Any]
"""A pair, or the first function of one that has a name."""

AUTO = "auto"
"""No name of a piece: nnxp's own choice."""

_caches: list[Callable[[], None]] = []


def cached(maxsize: int) -> Callable[[Function], Function]:
    """Return a decorator like `lru_cache` for functions of names, emptied when a name changes."""

    def decorate(function: Function) -> Function:
        found: Any = lru_cache(maxsize)(function)
        _caches.append(found.cache_clear)
        return found

    return decorate


class Registry(MutableMapping[str, Any]):
    """The pieces of one kind, by name.

    Args:
        kind: what a name names, for errors: "activation".
        own: nnxp's own pieces, which keep their names.
        takes: the form of a piece, which follows "must be".
        fits: fits(piece) returns whether a piece has this form.
        separator: between the words of a name.
    """

    def __init__(
        self,
        kind: str,
        own: Mapping[str, Any],
        takes: str,
        fits: Callable[[Any], bool],
        separator: str = "_",
    ) -> None:
        self.kind, self.takes, self.fits, self.separator = kind, takes, fits, separator
        self.own = tuple(own)
        self._pieces = dict(own)
        self._unlisted: set[str] = set()
        self._naming = threading.Lock()  # of two threads that look for a free name

    @property
    def group(self) -> str:
        """The group of entry points: "nnxp.activations"."""
        return f"nnxp.{self.kind}{'es' if self.kind.endswith('s') else 's'}"

    def __getitem__(self, name: str) -> Any:
        try:
            return self._pieces[name]
        except KeyError:
            return self._load(name)

    def __setitem__(self, name: str, piece: Any) -> None:
        self._pieces[name] = piece
        self._unlisted.discard(name)
        for clear in _caches:
            clear()

    def __delitem__(self, name: str) -> None:
        del self._pieces[name]
        for clear in _caches:
            clear()

    def __contains__(self, name: object) -> bool:
        return name in self._pieces or name in self._installed

    def __iter__(self) -> Iterator[str]:
        named = (name for name in list(self._pieces) if name not in self._unlisted)
        return iter(dict.fromkeys([*named, *self._installed]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def register(self, name: str, piece: Any) -> None:
        """Add a piece under a name, or replace one that was added.

        Raises:
            InputError: the name is not valid or is nnxp's own, or the piece has another form.
        """
        self._check_name(name)
        if not self.fits(piece):
            raise InputError(f"{self.kind} {name!r} must be {self.takes}, not {shown(piece)}")
        if not _same(self._pieces.get(name), piece):
            self[name] = piece
        self._unlisted.discard(name)

    def rule(self, *also: str) -> Rule:
        """Return a rule for a name, in lower case, or a piece; it gives the name.

        `also` are names that are no pieces, such as "auto".
        """

        def convert(value: Any) -> str:
            if isinstance(value, str):
                name = self.canonical(value)
                if name in also or name in self:
                    return name
                raise unknown_name(self.kind, value, [*also, *self])
            found = self.name_of(value)
            if found is None:
                error = unknown_name(self.kind, value, [*also, *self])
                raise InputError(f"{error}; or give {self.takes}")
            return found

        return Rule(f"the name of the {self.kind}, or {self.takes}", convert)

    def canonical(self, name: str) -> str:
        """Return a name in lower case with this registry's separator."""
        return re.sub("[-_]", self.separator, name.strip().lower())

    def name_of(self, piece: Any) -> str | None:
        """Return the name of a piece, or of a pair's first function; None if it has another form.

        A piece without a name gets that of its first function, which no list shows.
        """
        with self._naming:
            return self._name_of(piece)

    def _name_of(self, piece: Any) -> str | None:
        first = piece if not isinstance(piece, tuple) else None
        for name, other in list(self._pieces.items()):
            if _same(other, piece) or (isinstance(other, tuple) and _same(other[0], first)):
                return name
        if not self.fits(piece):
            return None
        function = piece[0] if isinstance(piece, tuple) else piece
        words = re.findall(r"[a-z0-9]+", getattr(function, "__name__", self.kind).lower())
        base = self.separator.join(words)
        base = base if base[:1].isalpha() else f"{self.kind}{self.separator}{base}"
        name, number = base, 1
        while name in self or name == AUTO:
            number += 1
            name = f"{base}{self.separator}{number}"
        self[name] = piece
        self._unlisted.add(name)
        return name

    def carried(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the pieces of these names that only this process has, for a pickle to carry."""
        added = sorted((set(names) & self._pieces.keys()) - set(self.own))
        return {name: self._pieces[name] for name in added if name not in self._installed}

    def adopt(self, carried: Mapping[str, Any]) -> dict[str, str]:
        """Add pieces that a pickle carried; return the name of each here."""
        for name, piece in carried.items():
            if name not in self:
                self[name] = piece
        return {name: self.name_of(piece) or name for name, piece in carried.items()}

    def needs(self, names: Iterable[str]) -> list[dict[str, str]]:
        """Return what a file with these names needs besides nnxp: kind, name and source of each.

        Raises:
            InputError: a piece was given without a name.
        """
        added = [name for name in dict.fromkeys(names) if name not in self.own]
        for name in added:
            if name in self._unlisted:  # another program may have another piece of this name
                raise InputError(
                    f"the {self.kind} {name!r} has no name that a file can refer to: call "
                    f"nnxp.register_{self.kind}({name!r}, ...) first"
                )
        return [{"kind": self.kind, "name": name, "source": self.source(name)} for name in added]

    def source(self, name: str) -> str:
        """Return where a piece is from: "my_package 1.0", or the module of its first function."""
        distribution = getattr(self._installed.get(name), "dist", None)
        if distribution is not None:
            return f"{distribution.name} {distribution.version}"
        piece = self[name]
        first = piece[0] if isinstance(piece, tuple) else piece
        return str(getattr(first, "__module__", type(first).__module__))

    def _check_name(self, name: Any) -> None:
        pattern = rf"[a-z][a-z0-9]*({self.separator}[a-z0-9]+)*"
        if not isinstance(name, str) or not re.fullmatch(pattern, name):
            raise InputError(
                f"the name of an added {self.kind} must be lower-case letters and digits joined by "
                f"{self.separator!r}, not {shown(name)}"
            )
        if name in self.own or name == AUTO:
            raise InputError(f"{self.kind} {name!r} is nnxp's own: take another name")

    @cached_property
    def _installed(self) -> dict[str, Any]:
        """The entry points of installed packages, by name, not imported yet."""
        from importlib.metadata import entry_points

        found: dict[str, Any] = {}
        for each in entry_points(group=self.group):
            try:
                self._check_name(each.name)
                if each.name in found:
                    raise InputError(f"{self.kind} {each.name!r} is of {found[each.name].value}")
            except InputError as error:
                log.warning("entry point %s of %s is left out: %s", each.value, self.group, error)
                continue
            found[each.name] = each
        return found

    def _load(self, name: str) -> Any:
        """Import the entry point of this name."""
        entry = self._installed[name]
        try:
            piece = entry.load()
        except Exception as error:  # a package may raise anything
            raise InputError(
                f"{self.kind} {name!r} of {entry.value} does not load: {described(error)}"
            ) from None
        if not self.fits(piece):
            raise InputError(
                f"{self.kind} {name!r} of {entry.value} must be {self.takes}, not {shown(piece)}"
            )
        self._pieces[name] = piece
        return piece


def is_pair(piece: Any) -> bool:
    """Return whether a piece is a pair of functions."""
    return isinstance(piece, tuple) and len(piece) == 2 and all(map(callable, piece))


def _same(one: Any, other: Any) -> bool:
    """Return whether two pieces are the same, or copies that a pickle made."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if one is other:
        return True
    if getattr(one, "__closure__", None) or getattr(other, "__closure__", None):
        return False
    marks = [
        (each.__module__, each.__qualname__, each.__code__, each.__defaults__)
        for each in (one, other)
        if hasattr(each, "__code__")
    ]
    return len(marks) == 2 and marks[0] == marks[1]
