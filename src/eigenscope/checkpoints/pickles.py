"""A pickle read as data: a stack machine that builds dicts, lists and numbers, and never imports or calls anything.

Pickle is a program: `pickle.load` runs what the file says. Here the names that a file asks for stay names, and what
it wants to call goes to the reader's own `call`, which knows a few words of PyTorch. The opcodes and their order on the
stack: the standard library's `pickletools`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

MOST_OPCODES = 5_000_000  # 100,000 tensors take 3 million; each may cost 100 bytes of memory
_SCALARS = (str, int, float, bool, bytes, type(None))


class Readable(Protocol):
    """What is asked of a file."""

    def read(self, count: int, /) -> bytes:
        """At most `count` bytes."""

    def readline(self) -> bytes:
        """Up to the end of the line."""


@dataclass(frozen=True)
class Global:
    """The name of a function or class that the pickle asks for; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


Call = Callable[[Global, tuple[Any, ...]], Any]
Persistent = Callable[[Any], Any]


def read_pickle(file: Readable, call: Call, persistent: Persistent) -> Any:
    """The object that the pickle at the file's position describes; raises ValueError for what no pickle holds."""
    machine = _Machine(call, persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):  # type: ignore[arg-type]
        if count > MOST_OPCODES:
            raise ValueError(f"a pickle of over {MOST_OPCODES} opcodes")
        machine.step(opcode.name, argument)
    return machine.stack.pop()


class _Machine:
    """The stack, the stacks below the marks, and the memo."""

    def __init__(self, call: Call, persistent: Persistent) -> None:
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._call, self._persistent = call, persistent

    def step(self, name: str, argument: Any) -> None:
        """One opcode."""
        if name in _CONSTANTS:
            self.stack.append(argument)
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name not in _IGNORED:
            action = getattr(self, f"_{name.lower()}", None)
            if action is None:
                raise ValueError(f"a pickle with the opcode {name}")
            action(argument)

    def _above_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._below.pop()
        return items

    def _reduced(self, what: Any, arguments: Any) -> None:
        if not isinstance(what, Global) or not isinstance(arguments, tuple):
            raise ValueError("a pickle that calls what is no function")
        self.stack.append(self._call(what, arguments))

    def _none(self, _: object) -> None:
        self.stack.append(None)

    def _newtrue(self, _: object) -> None:
        self.stack.append(True)

    def _newfalse(self, _: object) -> None:
        self.stack.append(False)

    def _mark(self, _: object) -> None:
        self._below.append(self.stack)
        self.stack = []

    def _pop(self, _: object) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._above_mark()

    def _pop_mark(self, _: object) -> None:
        self._above_mark()

    def _dup(self, _: object) -> None:
        self.stack.append(self.stack[-1])

    def _memoize(self, _: object) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _put(self, index: int) -> None:
        self._memo[index] = self.stack[-1]

    def _get(self, index: int) -> None:
        self.stack.append(self._memo[index])

    _binput = _long_binput = _put
    _binget = _long_binget = _get

    def _list(self, _: object) -> None:
        items = self._above_mark()
        self.stack.append(items)

    def _tuple(self, _: object) -> None:
        items = self._above_mark()
        self.stack.append(tuple(items))

    _frozenset = _tuple

    def _tuple1(self, _: object) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def _tuple2(self, _: object) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def _tuple3(self, _: object) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def _append(self, _: object) -> None:
        value = self.stack.pop()
        _a(list, self.stack[-1]).append(value)

    def _appends(self, _: object) -> None:
        items = self._above_mark()
        _a(list, self.stack[-1]).extend(items)

    _additems = _appends

    def _dict(self, _: object) -> None:
        items = self._above_mark()
        self.stack.append({})
        self._set(items)

    def _setitem(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _setitems(self, _: object) -> None:
        self._set(self._above_mark())

    def _set(self, items: list[Any]) -> None:
        target = _a(dict, self.stack[-1])
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, _SCALARS):  # a tuple of tuples of … takes for ever to hash
                key = repr(type(key))
            target[key] = value

    def _global(self, names: str) -> None:
        self.stack.append(Global(*names.split(" ", 1)))

    def _stack_global(self, _: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Global(_a(str, module), _a(str, name)))

    def _reduce(self, _: object) -> None:
        arguments, what = self.stack.pop(), self.stack.pop()
        self._reduced(what, arguments)

    _newobj = _reduce

    def _newobj_ex(self, _: object) -> None:
        _, arguments, what = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self._reduced(what, arguments)

    def _obj(self, _: object) -> None:
        what, *arguments = self._above_mark()
        self._reduced(what, tuple(arguments))

    def _inst(self, names: str) -> None:
        self._reduced(Global(*names.split(" ", 1)), tuple(self._above_mark()))

    def _build(self, _: object) -> None:
        self.stack.pop()  # the attributes of an object: none has any here

    def _persid(self, argument: object) -> None:
        self.stack.append(self._persistent(argument))

    def _binpersid(self, _: object) -> None:
        self.stack.append(self._persistent(self.stack.pop()))


def _a(kind: type[Any], value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"a pickle with a {type(value).__name__} where a {kind.__name__} is needed")
    return value


_CONSTANTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_IGNORED = {"PROTO", "FRAME", "STOP"}
