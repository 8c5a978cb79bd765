"""A derivation as a list of steps, which can be rendered, compared and evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sympy as sp


@dataclass(frozen=True)
class Step:
    """One step of a derivation.

    Attributes:
        text: what is done, as a sentence.
        formula: an equation.
        repeats: the right-hand side equals that of the step before, in another form.
    """

    text: str
    formula: sp.Eq
    repeats: bool = False


@dataclass(frozen=True)
class Derivation:
    """A statement derived step by step.

    Attributes:
        title: what is derived.
        number: statement numbers in MATHEMATICS.md.
        steps: the steps in order.
        results: derived expressions by name. The checks evaluate these, and nothing else, so a term
            missing here is missing from what is compared with numbers.
    """

    title: str
    number: str
    steps: tuple[Step, ...]
    results: Mapping[str, Any]

    def to_latex(self) -> str:
        """Title, and every step as its sentence and a displayed equation."""
        parts = [rf"\paragraph{{{self.title} ({self.number})}}"]
        parts += [f"{step.text}\n\\[{sp.latex(step.formula)}\\]" for step in self.steps]
        return "\n\n".join(parts) + "\n"

    def changed(self, results: Mapping[str, Any]) -> Derivation:
        """The derivation with other results; for negative controls."""
        return replace(self, results={**self.results, **results})


def equation(left: Any, right: Any) -> sp.Eq:
    """left = right, also where sympy would see that both are the same. A text is LaTeX."""
    # In braces sympy prints the name of a symbol as it is.
    name = sp.Symbol(f"{{{left}}}", commutative=False) if isinstance(left, str) else left
    return sp.Eq(name, right, evaluate=False)


def same(left: Any, right: Any) -> bool:
    """Whether two expressions or matrices are equal, by expansion and then by simplification."""
    gap = sp.expand(left - right)
    if isinstance(gap, sp.MatrixBase):
        return all(same(entry, 0) for entry in gap)
    return gap == 0 or sp.simplify(gap) == 0


def symbols_of(name: str, count: int) -> tuple[sp.Symbol, ...]:
    """`count` real symbols with indices, or one without an index."""
    if count == 1:
        return (sp.Symbol(name, real=True),)
    return tuple(sp.Symbol(f"{name}_{{{i + 1}}}", real=True) for i in range(count))


def functions_of(name: str, count: int, variables: Sequence[sp.Symbol]) -> list[sp.Expr]:
    """`count` unspecified functions of the variables, named like `symbols_of`."""
    names = [name] if count == 1 else [f"{name}_{{{i + 1}}}" for i in range(count)]
    return [sp.Function(each)(*variables) for each in names]
