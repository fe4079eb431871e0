"""Expressions over the columns of a table: ``rlnDefocusU > 10000 and rlnMicrographName.contains('_007')``.

Python's syntax, of which only what is listed here has a meaning: numbers, texts, column names, arithmetic, comparison,
``and or not in if-else``, the functions and methods below. Nothing is ever executed: the syntax tree is walked and
every node that is not known is refused, so that an expression may come from anywhere.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.records.table import Table
from vitrea.tables.names import find_column

Value = Any  # numpy array of rows or numpy scalar: float64, int64, bool, or object holding str

_LONGEST = 10_000  # characters
_EXCERPT = 60  # characters of an expression that a message shows

CONSTANTS: Mapping[str, Value] = {
    "pi": np.float64(np.pi),
    "nan": np.float64(np.nan),
    "inf": np.float64(np.inf),
}


def _as_text(values: Value) -> Value:
    if _is_text(values):
        return values
    return _each(_plain_text, values)


def _plain_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _divide(first: Value, second: Value) -> Value:
    return np.true_divide(first, second)


def _power(first: Value, second: Value) -> Value:
    return np.power(np.asarray(first, dtype=np.float64), second)[()]


def _to_int(values: Value) -> Value:
    return np.asarray(_to_float(values)).astype(np.int64)[()]


def _to_float(values: Value) -> Value:
    if not _is_text(values):
        return np.asarray(values, dtype=np.float64)[()]
    try:
        return np.asarray(values).astype(np.float64)[()]
    except ValueError as error:
        raise ValueError(f"float() of a text that is no number ({error})") from None


_Function = Callable[..., Value]
# Name: function, least and most number of arguments.
FUNCTIONS: Mapping[str, tuple[_Function, int, int]] = {
    **{name: (getattr(np, name), 1, 1) for name in (
        "abs", "sqrt", "exp", "log", "log10", "log2", "sin", "cos", "tan", "degrees", "radians", "floor", "ceil",
        "sign", "isnan", "isfinite")},
    "round": (lambda values, digits=0: np.round(values, int(digits)), 1, 2),
    "arctan2": (np.arctan2, 2, 2),
    "hypot": (np.hypot, 2, 2),
    "minimum": (np.minimum, 2, 2),
    "maximum": (np.maximum, 2, 2),
    "where": (lambda test, yes, no: _choose(test, yes, no), 3, 3),
    # Of a whole column:
    "min": (np.min, 1, 1), "max": (np.max, 1, 1), "mean": (np.mean, 1, 1), "median": (np.median, 1, 1),
    "std": (np.std, 1, 1), "sum": (np.sum, 1, 1), "quantile": (np.quantile, 2, 2),
    "int": (_to_int, 1, 1), "float": (_to_float, 1, 1), "str": (_as_text, 1, 1),
}  # fmt: skip
_ANY_TYPE = {"str", "int", "float", "where"}  # the functions that take texts

# Methods of texts: function of one text and of the arguments, number of arguments.
METHODS: Mapping[str, tuple[Callable[..., Any], int]] = {
    "contains": (lambda text, part: part in text, 1),
    "startswith": (str.startswith, 1),
    "endswith": (str.endswith, 1),
    "matches": (lambda text, pattern: re.search(pattern, text) is not None, 1),
    "replace": (str.replace, 2),
    "lower": (str.lower, 0),
    "upper": (str.upper, 0),
    "file": (lambda text: text.rpartition("/")[2], 0),
    "folder": (lambda text: text.rpartition("/")[0], 0),
    "before": (lambda text, mark: text.partition(mark)[0], 1),
    "after": (lambda text, mark: text.partition(mark)[2], 1),
}

_ARITHMETIC: Mapping[type[ast.operator], tuple[_Function, str]] = {
    ast.Add: (operator.add, "+"),
    ast.Sub: (operator.sub, "-"),
    ast.Mult: (operator.mul, "*"),
    ast.Div: (_divide, "/"),
    ast.FloorDiv: (np.floor_divide, "//"),
    ast.Mod: (np.mod, "%"),
    ast.Pow: (_power, "**"),
}
_COMPARISONS: Mapping[type[ast.cmpop], tuple[_Function, str]] = {
    ast.Lt: (operator.lt, "<"),
    ast.LtE: (operator.le, "<="),
    ast.Gt: (operator.gt, ">"),
    ast.GtE: (operator.ge, ">="),
    ast.Eq: (operator.eq, "=="),
    ast.NotEq: (operator.ne, "!="),
}


def evaluate(text: str, table: Table) -> NDArray[Any]:
    """Evaluate an expression for every row of a table.

    Parameters
    ----------
    text : str
        The expression. Columns are written by name, ``rln`` may be left out (as `find_column` has it); names that are
        no identifiers as ``column('ctf/df1_A')``. ``row`` is the number of the row, from 1.
    table : Table

    Returns
    -------
    ndarray, shape [rows]
        bool, int64, float64, or object holding str.

    Raises
    ------
    ValueError
        If the text is not such an expression, a column is not there, or texts and numbers are mixed.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"the expression is longer than {_LONGEST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        with np.errstate(all="ignore"):
            result = _Evaluation(table).value(tree.body)
    except SyntaxError as error:
        raise ValueError(f"'{_short(text)}' is not an expression ({error.msg})") from None
    except (RecursionError, MemoryError):
        raise ValueError("the expression is nested too deeply") from None
    column = np.broadcast_to(np.asarray(result), (len(table),)) if np.ndim(result) == 0 else np.asarray(result)
    if column.dtype.kind == "U":
        column = column.astype(object)
    return np.array(column, dtype=np.int64) if column.dtype.kind in "iu" else np.array(column)


def evaluate_mask(text: str, table: Table) -> NDArray[np.bool_]:
    """Evaluate a condition for every row of a table; NaN meets no condition but ``!=``.

    Raises
    ------
    ValueError
        As `evaluate`; also if the result is not true or false.
    """
    mask = evaluate(text, table)
    if mask.dtype.kind != "b":
        raise ValueError(
            f"'{_short(text)}' is not a condition: it is neither true nor false; compare it with something"
        )
    return mask


@dataclass(frozen=True)
class _Evaluation:
    """Walks through a syntax tree."""

    table: Table

    def value(self, node: ast.expr) -> Value:
        """Return the value of a node: an array of all rows, or a scalar."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise ValueError(f"{_source(node)} is not possible in an expression")
        return method(node)

    def _constant(self, node: ast.Constant) -> Value:
        value = node.value
        if isinstance(value, bool):
            return np.bool_(value)
        if isinstance(value, str):
            return value
        if isinstance(value, int) and abs(value) < 2**63:
            return np.int64(value)
        if isinstance(value, (int, float)):
            return np.float64(value)
        raise ValueError(f"{_source(node)} is not possible in an expression")

    def _name(self, node: ast.Name) -> Value:
        if node.id == "row":
            return np.arange(1, len(self.table) + 1)
        try:
            return self.table[find_column(node.id, self.table)]
        except ValueError:
            if node.id in CONSTANTS:
                return CONSTANTS[node.id]
            if node.id.lower() in ("true", "false"):
                return np.bool_(node.id.lower() == "true")
            raise

    def _unaryop(self, node: ast.UnaryOp) -> Value:
        value = self.value(node.operand)
        if isinstance(node.op, (ast.Not, ast.Invert)):
            return np.logical_not(_truth(value, node.operand))
        _check_numbers(node, value)
        return -value if isinstance(node.op, ast.USub) else +value

    def _binop(self, node: ast.BinOp) -> Value:
        if isinstance(node.op, (ast.BitAnd, ast.BitOr)):  # as in numpy and pandas
            both = [_truth(self.value(part), part) for part in (node.left, node.right)]
            return np.logical_and(*both) if isinstance(node.op, ast.BitAnd) else np.logical_or(*both)
        if type(node.op) not in _ARITHMETIC:
            raise ValueError(f"{_source(node)} is not possible in an expression")
        function, sign = _ARITHMETIC[type(node.op)]
        first, second = self.value(node.left), self.value(node.right)
        if sign == "+" and _is_text(first) and _is_text(second):
            return _each(operator.add, first, second)
        _check_numbers(node, first, second)
        return function(_number(first), _number(second))

    def _boolop(self, node: ast.BoolOp) -> Value:
        parts = [_truth(self.value(part), part) for part in node.values]
        combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        result = parts[0]
        for part in parts[1:]:
            result = combine(result, part)
        return result

    def _compare(self, node: ast.Compare) -> Value:
        result: Value = np.bool_(True)
        left = self.value(node.left)
        for sign, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(sign, (ast.In, ast.NotIn)):
                found = self._is_in(left, right_node)
                step, left = np.logical_not(found) if isinstance(sign, ast.NotIn) else found, None
            elif type(sign) in _COMPARISONS:
                right = self.value(right_node)
                if _is_text(left) != _is_text(right):
                    raise ValueError(f"{_source(node)} compares a text with a number")
                step, left = np.asarray(_COMPARISONS[type(sign)][0](left, right), dtype=bool), right
            else:
                raise ValueError(f"{_source(node)} is not possible in an expression; write == for 'is'")
            result = np.logical_and(result, step)
        return result

    def _is_in(self, value: Value, node: ast.expr) -> Value:
        """Tell whether values are among those of a list, or inside a text."""
        if not isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            text = self.value(node)
            if not (_is_text(value) and _is_text(text)):
                raise ValueError(f"'in' needs a list such as (1, 2), or two texts, not {_source(node)}")
            return _each(lambda part, whole: part in whole, value, text)
        found: Value = np.zeros(np.shape(value), dtype=bool)[()]
        for item in node.elts:
            one = self.value(item)
            if _is_text(one) != _is_text(value):
                raise ValueError(f"{_source(node)} is compared with a value of another kind (text or number)")
            found = np.logical_or(found, np.asarray(value == one, dtype=bool))
        return found

    def _ifexp(self, node: ast.IfExp) -> Value:
        return _choose(_truth(self.value(node.test), node.test), self.value(node.body), self.value(node.orelse))

    def _call(self, node: ast.Call) -> Value:
        if node.keywords:
            raise ValueError(f"{_source(node)}: arguments have no names here")
        if isinstance(node.func, ast.Attribute):
            return self._method(node.func, node)
        if not isinstance(node.func, ast.Name):
            raise ValueError(f"{_source(node)} is not possible in an expression")
        name = node.func.id
        if name == "column" and len(node.args) == 1 and isinstance(node.args[0], ast.Constant):
            return self.table[find_column(str(node.args[0].value), self.table)]
        if name not in FUNCTIONS:
            raise ValueError(f"there is no function {name}; there are column, {', '.join(FUNCTIONS)}")
        function, least, most = FUNCTIONS[name]
        if not least <= len(node.args) <= most:
            raise ValueError(f"{name} takes {least if least == most else f'{least} or {most}'} arguments")
        arguments = [self.value(argument) for argument in node.args]
        if name not in _ANY_TYPE:
            _check_numbers(node, *arguments)
        return function(*arguments)

    def _method(self, function: ast.Attribute, node: ast.Call) -> Value:
        name = function.attr
        if name not in METHODS:
            raise ValueError(f"texts have no method {name}; they have {', '.join(METHODS)}")
        method, count = METHODS[name]
        value = self.value(function.value)
        if not _is_text(value):
            raise ValueError(f"{_source(function.value)} holds numbers; .{name} is for texts, of numbers made by str()")
        if len(node.args) != count:
            raise ValueError(f".{name} takes {count} arguments")
        arguments = [self.value(argument) for argument in node.args]
        if not all(isinstance(argument, str) for argument in arguments):
            raise ValueError(f".{name} takes texts in quotes: {_source(node)}")
        try:
            return _each(lambda text: method(text, *arguments), value)
        except re.error as error:
            raise ValueError(f"{arguments[0]!r} is not a regular expression ({error})") from None


def _each(function: Callable[..., Any], *values: Value) -> Value:
    """Apply a function of plain values to every row."""
    if all(np.ndim(value) == 0 for value in values):
        result = function(*(value.item() if isinstance(value, np.generic) else value for value in values))
        return result if isinstance(result, str) else np.asarray(result)[()]
    length = max(len(value) for value in values if np.ndim(value))
    columns = [value.tolist() if np.ndim(value) else [value] * length for value in values]
    results = list(map(function, *columns))
    if all(isinstance(result, bool) for result in results):
        return np.array(results, dtype=bool)
    column = np.empty(length, dtype=object)
    column[:] = results
    return column


def _choose(test: Value, yes: Value, no: Value) -> Value:
    if _is_text(yes) != _is_text(no):
        raise ValueError("a choice between a text and a number")
    chosen = np.where(test, np.asarray(yes, dtype=object) if _is_text(yes) else yes, no)
    return chosen if np.ndim(chosen) else chosen[()]


def _is_text(value: Value) -> bool:
    return isinstance(value, str) or getattr(value, "dtype", np.dtype(float)).kind in "OU"


def _number(value: Value) -> Value:
    """Return truth values as 0 and 1, others as they are."""
    return np.asarray(value, dtype=np.int64)[()] if np.asarray(value).dtype.kind == "b" else value


def _check_numbers(node: ast.AST, *values: Value) -> None:
    if any(_is_text(value) for value in values):
        raise ValueError(f"{_source(node)} computes with a text; float() turns texts into numbers")


def _truth(value: Value, node: ast.expr) -> Value:
    if np.asarray(value).dtype.kind != "b":
        raise ValueError(f"{_source(node)} is not a condition: it is neither true nor false; compare it with something")
    return value


def _source(node: ast.AST) -> str:
    return f"'{_short(ast.unparse(node))}'"


def _short(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]} ..."
