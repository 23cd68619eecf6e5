"""A checksum of values, functions and objects, to see whether a run of an earlier time had the same."""

from __future__ import annotations

import contextlib
import copyreg
import dis
import hashlib
import inspect
import io
import os
import random
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..internal.checks import shown

__all__ = ["described", "function_name"]

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
LOCKS = (type(threading.Lock()), type(threading.RLock()))
SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)
# Of a class: caches, annotations, and where and how it was written.
UNUSED = {"_abc_impl", "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__", "__dict__"}
UNUSED |= {"__annotations_cache__", "__doc__", "__firstlineno__", "__module__", "__orig_bases__", "__parameters__"}
UNUSED |= {"__qualname__", "__static_attributes__", "__type_params__", "__weakref__"}
GLOBAL = (random._inst, np.random.mtrand._rand)  # whose state belongs to no function
# What a function returns when it is called, and how it takes arguments; not whether it lies within another function.
KINDS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_COROUTINE
KINDS |= inspect.CO_ASYNC_GENERATOR
GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME")  # instructions that read global variables
CLOSURES = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")  # and variables of enclosing functions
MOST_DROPPED = 200_000  # about 5 s
Texts = dict[int, tuple[Any, str]]  # by the id of a value; the value is kept, so that no other gets its id
STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep


def described(value: Any, name: str) -> str:
    """Return a checksum that differs where `value` would act otherwise; it is the same in every process.

    A function has its bytecode, defaults, closure, attributes, and the global variables that it and the functions
    within it use. Of a module of the user's, the attributes that functions take of it count, and all of them where the
    module itself is a value, such as an attribute of an object. An object has its class and what pickle would keep of
    it. A class of the user's has its bases, methods and other attributes. Functions, classes and modules of installed
    packages and of the standard library have their names alone.

    Not looked at are names that are found at run time only (``getattr``, ``globals()``, imports within a function),
    and the versions of packages. Locks, and files that are open for writing, count by their class.

    Parameters
    ----------
    value
        Anything.
    name : str
        The argument that it comes from, for messages.

    Raises
    ------
    TypeError
        If `value`, or something that it uses, cannot be pickled, such as a generator: two of them cannot be compared.
        Likewise if objects are nested too deep, or many have sets of one another.
    """
    reader = _Reader(name)
    try:
        return _checksum(reader.of(value))
    except RecursionError:
        raise TypeError(f"{name}: got objects nested too deep to be compared with those of an earlier run") from None


def function_name(value: Any) -> str:
    """Return the qualified name of a function or class with its module; that of the class for another object."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '?')}.{named.__qualname__}"


def _checksum(parts: Any) -> str:
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


class _Reader:
    """Reads values for one checksum; a value that occurs several times is read once.

    A value within itself is described by its distance, which depends on where reading began. So what refers to such a
    value is kept apart, and each element of a set is read without what was kept for the others: their order varies.

    Parameters
    ----------
    name : str
        The argument that the values come from, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._known: Texts = {}
        self._in_cycles: Texts = {}  # of values that are within themselves, or refer to one that is
        self._cycle = False  # whether the value that is being read has referred to such a value
        self._dropped = 0  # values of cycles that were read for one element of a set and not kept
        self._within: list[Any] = []  # the values that are being read, each within the one before

    def of(self, value: Any) -> str:
        """Return a text that stands for a value."""
        if type(value) in PLAIN:
            return hex(value) if type(value) is int else repr(value)  # decimal digits of long ones are refused
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._in_cycles:
            self._cycle = True
            return self._in_cycles[id(value)][1]
        for above, other in enumerate(reversed(self._within)):
            if other is value:
                self._cycle = True
                return f"the value {above} levels above"
        before, self._cycle = self._cycle, False
        self._within.append(value)
        try:
            text = _checksum([type(value).__qualname__, *self._parts(value)])
        finally:
            self._within.pop()
        texts = self._in_cycles if self._cycle else self._known
        texts[id(value)] = value, text
        self._cycle = self._cycle or before
        return text

    def _parts(self, value: Any) -> list[Any]:
        """Return texts, or lists of them, that stand for the parts of a value."""
        kind = type(value)
        if _is_installed(value):
            return [function_name(value)]
        if any(value is each for each in GLOBAL):
            return ["the generator that all functions share"]
        if isinstance(value, type):
            return self._class(value)
        if kind in (np.ndarray, np.memmap) or isinstance(value, np.generic):
            return self._array(np.asarray(value))
        if kind in (list, tuple):
            return [self.of(each) for each in value]
        if kind in (set, frozenset):
            return sorted(self._element(each) for each in value)
        if kind in (dict, types.MappingProxyType):
            return [[self.of(key), self.of(each)] for key, each in value.items()]
        if kind is types.FunctionType:
            return self._function(value)
        if kind is types.CodeType:
            return self._code(value)
        if kind is types.MethodType:
            return [self.of(value.__func__), self.of(value.__self__)]
        if kind in (classmethod, staticmethod):
            return [self.of(value.__func__)]
        if kind is property:
            return [self.of(each) for each in (value.fget, value.fset, value.fdel)]
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if kind in LOCKS or (isinstance(value, io.IOBase) and not value.closed and not value.readable()):
            return []
        return self._object(value)

    def _element(self, value: Any) -> str:
        """Return the text of an element of a set, which does not depend on the elements before."""
        known = len(self._in_cycles)
        text = self.of(value)
        self._dropped += len(self._in_cycles) - known
        if self._dropped > MOST_DROPPED:  # sets of objects that have sets of each other are read in all their orders
            raise TypeError(f"{self._name}: got sets of objects within one another, too many to be compared")
        while len(self._in_cycles) > known:
            self._in_cycles.popitem()
        return text

    def _module(self, module: types.ModuleType) -> list[Any]:
        if _in_package(module.__name__):
            return [module.__name__]
        names = sorted(name for name in vars(module) if not (name.startswith("__") and name.endswith("__")))
        return [module.__name__, [[name, self.of(vars(module)[name])] for name in names]]

    def _array(self, array: np.ndarray[Any, Any]) -> list[Any]:
        if array.dtype.hasobject:
            return [str(array.dtype), array.shape, self.of(array.tolist())]
        flat = np.ascontiguousarray(array).reshape(-1)
        data = flat.view(np.uint8).data if flat.nbytes else b""
        return [str(array.dtype), array.shape, hashlib.blake2b(data, digest_size=12).hexdigest()]

    def _function(self, function: types.FunctionType) -> list[Any]:
        values = (function.__code__, function.__defaults__, function.__kwdefaults__, vars(function))
        variables = _closure(function)
        filled = [name in variables for name in function.__code__.co_freevars]
        installed = _in_package(function.__globals__.get("__name__"))
        modules = {} if installed else {name: each for name, each in variables.items() if _is_own_module(each)}
        closure = [self.of(each) for name, each in variables.items() if name not in modules]
        return [*map(self.of, values), filled, closure, [] if installed else self._used(function, modules)]

    def _used(self, function: types.FunctionType, modules: Mapping[str, Any]) -> list[Any]:
        """Return the global variables that a function of the user's uses, and `modules` of its closure, by name.

        Of a module, these are the attributes that it takes, or the module itself where it is used otherwise.
        """
        found = {}
        for enclosed, (first, *attributes) in _used_names(function.__code__):
            variables = modules if enclosed else function.__globals__
            if first not in variables:
                continue  # a function of Python itself, or a variable of the closure that is no module
            value = variables[first]
            while attributes and _is_own_module(value):
                first, value = f"{first}.{attributes[0]}", getattr(value, attributes.pop(0), None)
            found[first, enclosed] = self.of(value)
        return sorted(found.items())

    def _code(self, code: types.CodeType) -> list[Any]:
        taken = code.co_argcount + code.co_kwonlyargcount
        numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & KINDS)
        constants = [self.of(each) for each in code.co_consts]
        return [code.co_code, code.co_exceptiontable, code.co_names, code.co_varnames[:taken], numbers, constants]

    def _class(self, kind: type) -> list[Any]:
        own = {}
        for name, value in vars(kind).items():
            if not (name in UNUSED or name.startswith("__dataclass_") or isinstance(value, SLOTS)):
                own[name] = self.of(value)
        bases = [self.of(base) for base in (type(kind), *kind.__bases__)]
        return [function_name(kind), bases, sorted(own.items())]

    def _object(self, value: Any) -> list[Any]:
        """Return the class of an object, and what pickle keeps of it."""
        torch = sys.modules.get("torch")
        try:
            if torch is not None and isinstance(value, torch.Tensor):  # a pickle of it has addresses
                data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
                return [str(value.dtype), tuple(value.shape), *self._array(data)]
            if isinstance(value, memoryview):  # may be released
                return [value.format, value.shape, self.of(value.tobytes())]
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
            module = _module_of(value, reduced) if isinstance(reduced, str) else ""
        except Exception as error:
            users = [each for each in self._within if isinstance(each, types.FunctionType)]
            used = f", which {users[-1].__qualname__} uses" if users else ""
            raise TypeError(
                f"{self._name}: got {shown(value)}{used}; expected values that can be pickled, as they are compared "
                f"with those of an earlier run ({type(error).__name__}: {error})"
            ) from error
        if isinstance(reduced, str):
            return [module, reduced, self.of(getattr(value, "__dict__", None))]
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        contents = [[self.of(each) for each in part] for part in (items or (), pairs or ())]
        return [self.of(type(value)), self.of(make), self.of(arguments), self.of(state), *contents]


def _closure(function: types.FunctionType) -> dict[str, Any]:
    """Return the variables of enclosing functions that a function uses; one that has no value yet is missing."""
    variables = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):
            variables[name] = cell.cell_contents
    return variables


def _used_names(code: types.CodeType) -> Iterator[tuple[bool, list[str]]]:
    """Yield each variable of elsewhere that code uses, with the names of the attributes that it takes of it: a.b.c.

    Before the names stands whether it is a variable of an enclosing function, not a global one.
    """
    names: list[str] = []
    enclosed = False
    for step in dis.get_instructions(code):
        if names and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            names.append(step.argval)
        elif step.opname != "EXTENDED_ARG":
            if names:
                yield enclosed, names
            enclosed = step.opname in CLOSURES
            names = [step.argval] if enclosed or step.opname in GLOBALS else []
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _used_names(each)


def _module_of(value: Any, name: str) -> str:
    """Return the module of an object that pickle keeps by its name; raise TypeError where it is not found by that."""
    if hasattr(value, "__wrapped__"):  # a function in a wrapper, as of functools.lru_cache: what it wraps counts
        return ""
    own = getattr(value, "__module__", None)
    modules = sorted(sys.modules) if own is None else [own]  # functions of SciPy do not know their module
    for each in modules:
        if (own or _in_package(each)) and getattr(sys.modules.get(each), "__dict__", {}).get(name) is value:
            return each
    raise TypeError("it is not found by its name")


def _is_installed(value: Any) -> bool:
    """Return whether a function or class of an installed package is found by its name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(name, str) or not isinstance(module, str) or not _in_package(module):
        return False
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _is_own_module(value: Any) -> bool:
    """Return whether a value is a module of the user's."""
    return isinstance(value, types.ModuleType) and not _in_package(value.__name__)


def _in_package(module: str | None) -> bool:
    """Return whether a module belongs to gdcore, to another installed package, or to the standard library."""
    if module is None or module == "__main__":
        return False
    if module.partition(".")[0] in ("gdcore", *sys.builtin_module_names):
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module in sys.stdlib_module_names
    parts = os.path.normpath(file).split(os.sep)
    return file.startswith(STANDARD_LIBRARY) or "site-packages" in parts or "dist-packages" in parts
