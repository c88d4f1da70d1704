"""The instructions of a pickle, stepped through one by one."""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

from codeczoo.weights.pickle_calls import call, keyed, mention
from codeczoo.weights.pickle_names import Opaque, Storage

MOST_COPIED = 10_000_000  # items that a pickle's calls may copy: by copies of copies a few bytes fill any memory


class _Mark:
    """On the stack, in front of the arguments of an instruction."""


_MARK = _Mark()
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


class Machine:
    """Runs the instructions of one pickle on a stack. Calls go through `call` alone."""

    def __init__(self, storage: Callable[[Any], Storage] | None = None) -> None:
        self.storage = storage
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self, program: Any) -> Any:
        """The object that a pickle describes. A file is then at the position behind the pickle."""
        self.stack, self.memo = [], {}
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise ValueError("the pickle has no end")

    def _step(self, code: str, argument: Any) -> None:
        stack = self.stack
        match code:
            case "PROTO" | "FRAME":
                pass
            case _ if code in _LITERALS:
                stack.append(argument)
            case _ if code in _CONSTANTS:
                stack.append(_CONSTANTS[code]())
            case "MARK":
                stack.append(_MARK)
            case "TUPLE" | "LIST" | "FROZENSET":
                items = self._to_mark()
                stack.append(tuple(items) if code == "TUPLE" else items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code[-1])
                if len(stack) < count:
                    raise ValueError("too few items on the stack")
                stack[-count:] = [tuple(stack[-count:])]
            case "DICT":
                items = self._to_mark()
                stack.append(keyed(items[::2], items[1::2]))
            case "APPEND":
                value = stack.pop()
                self._extend([value])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._to_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._update(keyed([key], [value]))
            case "SETITEMS":
                items = self._to_mark()
                self._update(keyed(items[::2], items[1::2]))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "GLOBAL":
                stack.append(mention(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(mention(module, name))
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack.append(self._call(stack.pop(), arguments))
            case "NEWOBJ_EX":
                _keywords, arguments = stack.pop(), stack.pop()
                stack.append(self._call(stack.pop(), arguments))
            case "OBJ":
                what, *rest = self._to_mark()
                stack.append(self._call(what, tuple(rest)))
            case "INST":
                stack.append(self._call(mention(*argument.split(" ", 1)), tuple(self._to_mark())))
            case "BUILD":  # attributes, which only settings and the metadata of state dicts have: dropped
                stack.pop()
                if not isinstance(stack[-1], Opaque | dict):
                    raise ValueError(f"attributes for {type(stack[-1]).__name__}")
            case "BINPERSID":
                if self.storage is None:
                    raise ValueError("a reference out of place")
                stack.append(self.storage(stack.pop()))
            case _:
                raise ValueError(f"the instruction {code}")

    def _call(self, what: Any, arguments: Any) -> Any:
        """As the function `call`, within what one pickle may copy."""
        if isinstance(arguments, tuple):
            self.copied += sum(len(one) for one in arguments if isinstance(one, list | tuple | dict | str | bytes))
        if self.copied > MOST_COPIED:
            raise ValueError(f"its calls copy more than {MOST_COPIED} items")
        return call(what, arguments)

    def _to_mark(self) -> list[Any]:
        """Take the items above the last mark, and the mark, off the stack; returns the items."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark on the stack")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)
        elif not isinstance(self.stack[-1], Opaque):
            raise ValueError(f"items for {type(self.stack[-1]).__name__}")

    def _update(self, values: dict[Any, Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(values)
        elif not isinstance(self.stack[-1], Opaque):
            raise ValueError(f"entries for {type(self.stack[-1]).__name__}")
