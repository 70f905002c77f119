"""Make mutants: copies of a module that differ in one place, in a way that a test should notice.

Another operator or number, a condition turned round, a statement or an argument left out, nothing
returned. Docstrings, annotations, and the texts of messages stay as they are.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.MatMult: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A changed module."""

    module: str
    function: str
    name: str
    """The function and the change: what names it although lines move."""
    line: int
    source: Callable[[], str]
    """Writes the module."""

    @property
    def rank(self) -> str:
        """Its place in a sample, at random, and the same after changes of other code."""
        return hashlib.sha256(f"{self.module}: {self.name}".encode()).hexdigest()


def mutants(path: Path, module: str) -> list[Mutant]:
    """Return all mutants of the module at `path`; `module` is what it is called."""
    tree = ast.parse(path.read_text())
    found: list[Mutant] = []
    seen: Counter[str] = Counter()
    for owner, field, index, function in _places(tree, "module"):
        node = getattr(owner, field) if index is None else getattr(owner, field)[index]
        for new in _changes(owner, field, node):
            before = _text(owner, node)
            _put(owner, field, index, new)
            after = _text(owner, new)
            _put(owner, field, index, node)
            name = f"{function}: {before} -> {after}"
            seen[name] += 1
            if seen[name] > 1:
                name += f" ({seen[name]})"
            line = getattr(node, "lineno", getattr(owner, "lineno", 0))
            source = partial(_source, tree, owner, field, index, node, new)
            found.append(Mutant(module, function, name, line, source))
    return found


def _source(
    tree: ast.Module, owner: Any, field: str, index: int | None, node: ast.AST, new: ast.AST
) -> str:
    """Write a module with a new node in the place of one of its nodes."""
    _put(owner, field, index, new)
    written = ast.unparse(tree)
    _put(owner, field, index, node)
    return written


def _text(owner: Any, node: ast.AST) -> str:
    """Return a node as it is written; a part of an expression, with the whole of it."""
    if isinstance(node, ast.Pass):
        return "nothing"
    if isinstance(node, ast.keyword):
        return f"{ast.unparse(owner.func)}(..., {_short(ast.unparse(node))})".replace(", **{}", "")
    whole = isinstance(owner, ast.expr | ast.AugAssign | ast.Return)
    return _short(ast.unparse(owner if whole else node))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 70 else f"{text[:45]} ... {text[-20:]}"


def _put(owner: Any, field: str, index: int | None, node: Any) -> None:
    if index is None:
        setattr(owner, field, node)
    else:
        getattr(owner, field)[index] = node


def _places(node: ast.AST, function: str) -> Iterator[tuple[ast.AST, str, int | None, str]]:
    """Yield where something may be changed: owner, field, index in the field, and function."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        if isinstance(node, ast.Raise | ast.JoinedStr):  # the text of a message
            continue
        for index, each in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(each, ast.AST) or _is_text(each):
                continue
            yield node, field, index if isinstance(value, list) else None, function
            inner = getattr(each, "name", "")
            named = isinstance(each, ast.FunctionDef | ast.ClassDef)
            scope = inner if function == "module" else f"{function}.{inner}"
            yield from _places(each, scope if named else function)


def _is_text(node: ast.AST) -> bool:
    """Whether a node is a docstring, or something else that is not run."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )


def _changes(owner: ast.AST, field: str, node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a node is changed to."""
    other = OPERATORS.get(type(node))
    if other is not None and not _joins_types(owner):
        yield other()
    elif isinstance(node, ast.Constant) and not isinstance(owner, ast.FormattedValue):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int | float):
            yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Expr | ast.AugAssign | ast.Raise | ast.Continue | ast.Break):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.keyword) and node.arg and isinstance(owner, ast.Call):
        yield ast.keyword(None, ast.Dict([], []))  # **{}: the argument is left out
    if field == "test" and not isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp):
        yield ast.UnaryOp(ast.Not(), node)  # type: ignore[arg-type]


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _joins_types(owner: ast.AST) -> bool:
    """Whether an operator is that of a union, `int | None`, outside an annotation."""
    return isinstance(owner, ast.BinOp) and (
        _is_none(owner.right) or ast.unparse(owner.right) in ("str", "int")
    )
