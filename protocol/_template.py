"""Fill in the strings of a herd file: `${VAR}`, `{n}`, `{2000 + n}`, `{number}`.

One pass over the text, so that what a variable holds is never taken for a template.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["Expansion", "expand"]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
# All that arithmetic may consist of. The length bounds the size of the numbers, too.
_ARITHMETIC = re.compile(r"[0-9n+*/%() -]{1,64}")
_FORMAT = re.compile(r"0?[0-9]{0,2}[dxX]?")
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class Expansion(NamedTuple):
    """A filled-in string, and what was put into it."""

    text: str
    has_template: bool
    has_variable: bool


def expand(
    text: str,
    environ: Mapping[str, str],
    values: Mapping[str, int | str] | None,
) -> Expansion:
    """Fill in `${VAR}`, `${VAR:-default}`, `$$`; unless `values` is None also `{...}`, `{{`, `}}`.

    `values` holds what a template may name: `n`, an int, takes part in arithmetic; text (`name`,
    `number`) stands alone.

    Raises:
        ValueError: a variable is unset or a template can't be evaluated.
    """
    out: list[str] = []
    has_template = has_variable = False
    at = 0
    while at < len(text):
        pair = text[at : at + 2]
        if pair == "$$":
            out.append("$")
            at += 2
        elif pair == "${":
            match = _VARIABLE.match(text, at)
            if match is None:
                raise ValueError("expected ${VAR} or ${VAR:-default} after $, or $$ for a dollar")
            out.append(_variable(match[1], match[2], environ))
            has_variable = True
            at = match.end()
        elif values is not None and pair in ("{{", "}}"):
            out.append(pair[0])
            at += 2
        elif values is not None and pair[0] in "{}":
            match = _PLACEHOLDER.match(text, at)
            if match is None:
                raise ValueError("a single brace: expected {...}, or {{ and }} for braces")
            out.append(_placeholder(match[1], values))
            has_template = True
            at = match.end()
        else:
            out.append(text[at])
            at += 1
    return Expansion("".join(out), has_template, has_variable)


def _variable(name: str, default: str | None, environ: Mapping[str, str]) -> str:
    value = environ.get(name)
    if default is not None:
        return value or default  # as in a shell, :- also replaces an empty value
    if value is None:
        raise ValueError(f"environment variable {name} is not set, expected a value for it")
    return value


def _placeholder(source: str, values: Mapping[str, int | str]) -> str:
    expression, colon, spec = source.partition(":")
    expression = expression.strip()
    value = values.get(expression)
    if isinstance(value, str):
        if colon:
            raise ValueError(f"{{{source}}}: only numbers can have a format")
        return value
    if not _FORMAT.fullmatch(spec):
        raise ValueError(f"{{{source}}}: expected a format such as 03d after the colon")
    if not _ARITHMETIC.fullmatch(expression):
        known = "{n}, {2000 + n}, {n:03d}, {name} and {number}"
        raise ValueError(f"{{{source}}} can't be filled in here, expected one of {known}")
    if "n" in expression and "n" not in values:
        raise ValueError(f"{{{source}}}: n counts the phones of an entry with count, expected one")
    try:
        number = _evaluate(ast.parse(expression, mode="eval").body, values)
    except (SyntaxError, TypeError):
        raise ValueError(
            f"{{{source}}}: expected whole numbers and n with + - * // % and parentheses"
        ) from None
    except ZeroDivisionError:
        raise ValueError(f"{{{source}}}: division by zero") from None
    return format(number, spec)


def _evaluate(node: ast.expr, values: Mapping[str, int | str]) -> int:
    """The value of an arithmetic expression; TypeError for any other."""
    match node:
        case ast.Constant(value=int(literal)):
            return literal
        case ast.Name(id="n"):
            return int(values["n"])
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left, values), _evaluate(right, values))
    raise TypeError
