"""Error messages for calls with wrong arguments: which one is missing, unknown, or of the wrong kind.

For functions and classes of `_core`, cpp/bindings/calls.cpp calls `refuse` with pybind11's signature after pybind11 has
refused a call. Functions written in Python use the decorator `explained`.
"""

from __future__ import annotations

import functools
import operator
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from .argument_names import NEEDED, hint
from .checks import has_keys, is_iterable, real, shown

if TYPE_CHECKING:
    import inspect  # imported inside the functions that use it, to keep `import gdcore` fast


def misfit(
    call: str,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    owner: type | None = None,
    called: object = None,
) -> str | None:
    """Return the error in the number or the names of a call's arguments; None if there is none.

    `owner` is the class of a method or constructor, `called` the object of the method.
    """
    import inspect

    parameters = signature.parameters
    if args and next(iter(parameters), "") == "lr" and (owner is not None or call == "AdamW") and _holds_many(args[0]):
        return (
            f"[{call}] lr: got {shown(args[0])}; expected a number: an optimiser takes no parameters here, "
            f"gd.Trainer(model, loss, optimizer=gd.{call}(lr=...)) gives it those of the model"
        )
    kinds = {name: parameter.kind for name, parameter in parameters.items()}
    positional = [name for name, kind in kinds.items() if kind in (kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD)]
    by_name = [name for name, kind in kinds.items() if kind in (kind.POSITIONAL_OR_KEYWORD, kind.KEYWORD_ONLY)]
    form = f"; expected {call}{plain(signature)}"
    if inspect.Parameter.VAR_KEYWORD not in kinds.values():
        for name in kwargs:
            if name not in by_name:
                return f"[{call}] {name} is not among its arguments{hint(name, by_name, call, owner, called)}{form}"
    if len(args) > len(positional) and inspect.Parameter.VAR_POSITIONAL not in kinds.values():
        others = [name for name in by_name if name not in positional and name not in kwargs]
        names = f"; the others have names, as in {others[0]}=..." if others else ""
        return f"[{call}] got {_count(args)} by position; at most {len(positional)} can be positional{names}{form}"
    for name in positional[: len(args)]:
        if name in kwargs:
            return f"[{call}] {name} is given twice, by position and by name{form}"
    given = {*positional[: len(args)], *kwargs}
    needed = [n for n in (*positional, *by_name) if parameters[n].default is inspect.Parameter.empty and n not in given]
    needed = list(dict.fromkeys(needed))
    advice = "".join(f"; {NEEDED[call, name]}" for name in needed if (call, name) in NEEDED)
    return f"[{call}] {' and '.join(needed)} {'are' if needed[1:] else 'is'} missing{advice}{form}" if needed else None


def plain(signature: inspect.Signature) -> str:
    """Return a signature without its types."""
    import inspect

    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def _holds_many(value: object) -> bool:
    """Return whether a value may be the parameters of a model, or a model."""
    many = is_iterable(value) and not isinstance(value, (str, bytes)) and not hasattr(value, "ndim")
    return many or hasattr(value, "parameters")


def _count(args: tuple[Any, ...]) -> str:
    return f"{len(args)} argument{'' if len(args) == 1 else 's'}"


# ---- Calls of C++ functions -----------------------------------------------------------------------------------------
class ConstructorSignature:
    """The ``__signature__`` of a class of `_core`, created when `inspect` reads it."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        """Return the constructor's signature; raise AttributeError if a Python class defines its own."""
        import inspect

        from .. import _core

        found = _core._constructor(owner)
        if found is None:
            raise AttributeError("__signature__")
        text, defaults = found
        parameters = list(_parsed(text).parameters.values())[1:]
        literal = {name: value for name, value in defaults.items() if type(value).__module__ == "builtins"}
        return inspect.Signature([p.replace(default=literal.get(p.name, p.default)) for p in parameters])


def refuse_base(cls: type) -> NoReturn:
    """Raise TypeError for a class of `_core` without a public constructor."""
    found: list[type] = cls.__subclasses__()
    kinds = ", ".join(kind.__name__ for kind in found if kind.__module__ == cls.__module__)
    expected = f"expected one of {kinds}" if kinds else "gdcore creates the objects of this class"
    raise TypeError(f"[{cls.__name__}] cannot be created directly; {expected}")


def refuse(owner: type | None, name: str, text: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NoReturn:
    """Raise the error for a call that pybind11 has refused.

    Parameters
    ----------
    owner : type, optional
        The class of the method, constructor or property.
    name : str
        The function's name.
    text : str
        Its signature as pybind11 writes it: "(self: gdcore._core.Dense, in_features: int, ...) -> None".
    args, kwargs
        The arguments of the call.

    Raises
    ------
    TypeError
        For arguments that are missing, unknown or of the wrong kind.
    ValueError
        For integers and floats that overflow the machine type.
    """
    signature, call = _parsed(text), name
    if owner is not None:
        cls = type(args[0]) if args and isinstance(args[0], owner) else owner
        call = cls.__name__ if name == "__init__" else f"{cls.__name__}.{name}"
        if not args or not isinstance(args[0], owner):
            got = shown(args[0]) if args else "nothing"
            raise TypeError(f"[{call}] self: got {got}; expected an object of the class {owner.__name__}")
        parameters = list(signature.parameters.values())[1:]
        if isinstance(vars(owner).get(name), property):  # pybind11 gives the setter's argument no name
            parameters = [p.replace(name=name) for p in parameters]
        signature, args = signature.replace(parameters=parameters), args[1:]
    wrong = misfit(call, signature, args, kwargs, owner)
    if wrong is not None:
        raise TypeError(wrong)
    given = signature.bind(*args, **kwargs).arguments
    for parameter, value in given.items():
        kind = signature.parameters[parameter].annotation
        if not _accepts(kind, value):
            expected = f"{_in_words(kind)}{_meant(kind, value)}"
            raise TypeError(f"[{call}] {parameter}: got {_described(value)}; expected {expected}")
    for parameter, value in given.items():
        kind = signature.parameters[parameter].annotation
        limits = _limits(kind, value)
        if limits is not None:
            raise ValueError(f"[{call}] {parameter}: got {shown(value)}; expected {_in_words(kind)} {limits}")
    got = ", ".join(f"{parameter}={shown(value)}" for parameter, value in given.items())
    raise TypeError(f"[{call}] got {got}; expected {call}{signature}")


@functools.cache
def _parsed(text: str) -> inspect.Signature:
    """Return pybind11's signature text as a Signature; annotations and defaults stay text."""
    import ast
    import inspect

    arguments = ast.parse(f"def f{text}: ...").body[0].args  # type: ignore[attr-defined]
    kind = inspect.Parameter
    plain_defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    groups = (
        (arguments.posonlyargs + arguments.args, plain_defaults, kind.POSITIONAL_OR_KEYWORD),
        (arguments.kwonlyargs, arguments.kw_defaults, kind.KEYWORD_ONLY),
    )
    made = [
        kind(
            parameter.arg,
            how,
            default=kind.empty if default is None else _Text(ast.unparse(default)),
            annotation=_short(ast.unparse(parameter.annotation)) if parameter.annotation else kind.empty,
        )
        for parameters, defaults, how in groups
        for parameter, default in zip(parameters, defaults, strict=True)
    ]
    return inspect.Signature(made)


class _Text(str):
    """The text of a default value, with a repr without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _short(annotation: str) -> str:
    for module in ("collections.abc.", "gdcore._core.", "numpy.typing.", "typing."):
        annotation = annotation.replace(module, "")
    return annotation


def _split(kind: str, at: str) -> list[str]:
    """Split text such as "int | None" or "str, float" at a separator outside of brackets."""
    parts, depth = [""], 0
    for letter in kind:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == at and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _class_named(kind: str) -> type | None:
    from .. import _core

    found = getattr(_core, kind, None)
    return found if isinstance(found, type) else None


def _accepts(kind: str, value: object) -> bool:
    """Return whether a value is of the kind that a signature names; unknown kinds accept any value."""
    if "|" in kind and len(_split(kind, "|")) > 1:
        return any(_accepts(part, value) for part in _split(kind, "|"))
    name, _, inner = kind.partition("[")
    parts = _split(inner.removesuffix("]"), ",") if inner else []
    if name in ("tuple", "Sequence", "list"):
        if isinstance(value, (str, bytes, set, frozenset)) or not is_iterable(value) or has_keys(value):
            return False
        items = list(value)
        if name == "tuple" and "..." not in parts:
            return len(items) == len(parts) and all(map(_accepts, parts, items))
        return all(_accepts(part, item) for part in parts[:1] for item in items)
    if name in _PLAIN:
        return _PLAIN[name](value)
    cls = _class_named(name)
    return cls is None or isinstance(value, cls)


def _is_whole(value: object) -> bool:
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return not isinstance(value, bool)


def _is_number(value: object) -> bool:
    if type(value).__name__ in ("bool", "bool_"):
        return False
    try:
        real(value, "")
    except TypeError:
        return False
    except ValueError:  # nan and infinity are numbers, and 10**400
        return True
    return True


_PLAIN: dict[str, Callable[[object], bool]] = {
    "int": _is_whole,
    "float": _is_number,
    "bool": lambda value: type(value).__name__ in ("bool", "bool_"),  # NumPy's too
    "str": lambda value: isinstance(value, str),
    "None": lambda value: value is None,
    "dict": lambda value: isinstance(value, dict),
}
_WORDS = {  # of one, and of several
    "int": ("a whole number", "whole numbers"),
    "float": ("a number", "numbers"),
    "bool": ("True or False", "True or False"),
    "str": ("a string", "strings"),
    "dict": ("a dict", "dicts"),
}
_EXAMPLES = {"Initializer": "gd.HeNormal()", "Loss": "gd.CrossEntropy()", "Optimizer": "gd.Adam(lr=1e-3)"}


def _in_words(kind: str, several: bool = False) -> str:
    parts = _split(kind, "|")
    if len(parts) > 1:
        return " or ".join(_in_words(part, several) for part in parts)
    name, _, inner = kind.partition("[")
    inside = _split(inner.removesuffix("]"), ",") if inner else []
    if name == "tuple":
        return f"{'tuples of ' if several else ''}{len(inside)} values: {', '.join(map(_in_words, inside))}"
    if name in ("Sequence", "list"):
        what = "sequences" if several else "a sequence"
        return f"{what} of {_in_words(inside[0], True)}" if inside else what
    if _class_named(kind) is None:
        return _WORDS.get(kind, (kind, kind))[several]
    what = "objects" if several else "an object"
    return f"{what} of the class {kind}" + (f", such as {_EXAMPLES[kind]}" if kind in _EXAMPLES else "")


def _meant(kind: str, value: object) -> str:
    """Return a hint for the name of a class in place of an object: "he" for an initialiser."""
    from .foreign_names import meant  # here, to keep `import gdcore` fast

    classes = [found for found in map(_class_named, _split(kind, "|")) if found is not None]
    hints = [hint for hint in (meant(value, each) for each in classes) if hint and hint not in _in_words(kind)]
    return f"; did you mean {hints[0]}?" if hints else ""


def _described(value: object) -> str:
    return shown(value) if value is None or isinstance(value, type) else f"{type(value).__name__} {shown(value)}"


def _limits(kind: str, value: Any) -> str | None:
    """Return the limits of the machine type if `value` may be outside them, else None."""
    kinds = _split(kind, "|")
    if "int" in kinds and _is_whole(value) and not 0 <= operator.index(value) < 2**63:
        return "from 0 to 2**64 - 1" if value < 0 else "below 2**63"
    if "float" in kinds and _is_number(value):
        try:
            float(value)
        except OverflowError:
            return "below 1.8e308"
    return None


# ---- Calls of Python functions --------------------------------------------------------------------------------------
Explained = TypeVar("Explained", bound=Callable[..., Any])
# Methods that take only a few µs: the wrapper's 0.1 µs would be noticeable, so they keep Python's own message, unless a
# quicker way stands before them (`face_of`).
QUICK = ("step", "optimizer_step", "predict", "forward", "backward")


def explained(face: Explained) -> Explained:
    """Make calls of a function, or of all methods of a class, explain wrong arguments."""
    if not isinstance(face, type):
        return _explained(face)
    for name, member in list(vars(face).items()):
        if isinstance(member, types.FunctionType) and (name == "__init__" or name[0] != "_") and name not in QUICK:
            setattr(face, name, _explained(member))
    return face


def face_of(whole: Explained) -> Callable[[Callable[..., Any]], Explained]:
    """Return a decorator that gives a quicker way the name, signature and docstring of the `whole` method."""
    return functools.wraps(whole)  # type: ignore[return-value]


def _explained(function: Explained) -> Explained:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:  # raised inside the function
                raise
            refused = error
        import inspect

        signature, call, owner, called = inspect.signature(function), function.__qualname__, None, None
        if "." in call:  # a method
            if args:
                called, owner = args[0], args[0] if isinstance(args[0], type) else type(args[0])
            found = getattr(type(args[0]), function.__name__, None) if args else None
            if wrapper in (found, getattr(found, "__wrapped__", None)):  # called by the name of its class
                call = f"{type(args[0]).__name__}.{function.__name__}"
            parameters = list(signature.parameters.values())[1:]
            signature, args = signature.replace(parameters=parameters), args[1:]
        raise TypeError(misfit(call.removesuffix(".__init__"), signature, args, kwargs, owner, called) or str(refused))

    return wrapper  # type: ignore[return-value]
