"""Seeded safety bugs: each a few changed words of the production code, put in while a run lasts.

A mutant names a function and the words in its source that it replaces; the changed source is
compiled and its code put into the very function object, so that everybody who imported it runs it.
A mutant whose words are no longer there fails loudly: it must follow the code.
"""

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug. `where` is `module:function` or `module:Class.method`, below `tidegate`.

    With `old` empty, `where` is `module:CONSTANT` and `new` an expression for its value. `also` are
    further changes (where, old, new): of bugs that show only when a second lock is off as well.
    """

    name: str
    sentence: str
    where: str
    old: str
    new: str
    also: tuple[tuple[str, str, str], ...] = ()


class StaleMutant(Exception):
    """The words a mutant changes are not in the code any more."""


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """The production code with this bug in it, for the length of the block."""
    undo: list[Any] = []
    try:
        for where, old, new in ((mutant.where, mutant.old, mutant.new), *mutant.also):
            part = Mutant(mutant.name, mutant.sentence, where, old, new)
            undo += _constant(part) if not old else _function(part)
        yield
    finally:
        for step in reversed(undo):
            step()


def _found(mutant: Mutant) -> tuple[Any, Any]:
    room, _, path = mutant.where.partition(":")
    module = importlib.import_module(f"tidegate.{room}")
    thing: Any = module
    for name in path.split("."):
        thing = inspect.getattr_static(thing, name)
    if isinstance(thing, property):
        thing = thing.fget
    if isinstance(thing, staticmethod | classmethod):
        thing = thing.__func__
    return module, inspect.unwrap(thing) if callable(thing) else thing


def _function(mutant: Mutant) -> list[Any]:
    module, function = _found(mutant)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(mutant.old) < 1:
        raise StaleMutant(f"{mutant.name}: `{mutant.old}` is not in {mutant.where}")
    lines = source.replace(mutant.old, mutant.new).splitlines()
    while lines[0].lstrip().startswith("@"):
        lines.pop(0)
    code = compile("\n".join(lines), f"<mutant {mutant.name}>", "exec", module_flags(module))
    made = _code_of(code, function.__name__)
    before = function.__code__
    if made.co_freevars != before.co_freevars:
        raise StaleMutant(f"{mutant.name}: a closure cannot be changed")
    function.__code__ = made
    return [lambda: setattr(function, "__code__", before)]


def module_flags(module: Any) -> int:
    """No `from __future__` is used in the house."""
    return 0


def _code_of(code: CodeType, name: str) -> CodeType:
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and constant.co_name == name:
            return constant
    raise StaleMutant(f"no function {name} in the changed source")


def _constant(mutant: Mutant) -> list[Any]:
    module, before = _found(mutant)
    name = mutant.where.partition(":")[2]
    after = eval(mutant.new, dict(vars(module)))
    undo = []
    for other in list(sys.modules.values()):
        if getattr(other, "__name__", "").startswith("tidegate") and (
            vars(other).get(name) is before
        ):
            setattr(other, name, after)
            undo.append(lambda other=other: setattr(other, name, before))
    return undo


__all__ = ["Mutant", "StaleMutant", "mutated"]
