"""The steps of a derivation, in the order in which one would do them on paper."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from eigenscope.explain import numbers
from eigenscope.explain.assembly import check, rank_and_lost_directions, terms
from eigenscope.explain.formula import Formula, Number, Operator, Root, Row, Scripts, Symbol, row
from eigenscope.explain.lesson import lesson
from eigenscope.explain.solution import Solution, floats
from eigenscope.explain.spectrum import Factor
from eigenscope.explain.steps import Display, Part, Picture, Prose, Step
from eigenscope.explain.surd import ZERO, Surd
from eigenscope.explain.vectors import completion, first_side, second_side
from eigenscope.explain.words import low, total
from eigenscope.words import counted

_DETERMINANT_SIZE = 4  # up to which the determinant is written out
_OTHER_GRAM_SIZE = 6  # up to which the Gram matrix that is not used is shown too


def written(solution: Solution) -> tuple[tuple[Step, ...], str]:
    """All steps, and what the matrix teaches."""
    first, second = ("right", "left") if solution.inputs else ("left", "right")
    what_it_teaches = lesson(solution)
    parts = {
        "The matrix": _matrix(solution),
        "The Gram matrix": _gram(solution),
        "The characteristic polynomial": _polynomial(solution),
        "The eigenvalues of the Gram matrix": _eigenvalues(solution),
        "Singular values": _singular_values(solution),
        f"The {first} singular vectors, from the eigenvalues": first_side(solution),
        f"The {second} singular vectors, from those": second_side(solution),
        "Zeros, and the rest of the bases": completion(solution),
        "Rank": rank_and_lost_directions(solution),
        "Check: the product is A again": check(solution),
        "A sum of matrices of rank 1": terms(solution),
        "The picture": _picture(solution),
        "What it teaches": iter([Prose(what_it_teaches)]),
    }
    steps = (Step(title, tuple(found)) for title, found in parts.items())
    return tuple(step for step in steps if step.parts), what_it_teaches


def _matrix(solution: Solution) -> Iterator[Part]:
    m, n = len(solution.matrix), len(solution.matrix[0])
    yield Display(row("A = ", numbers.matrix(solution.matrix)))
    yield Prose(
        f"`A` is {m} × {n}: it makes {counted(m, 'number')} out of {n}. Wanted are orthogonal directions `v` of the "
        "input that it sends to orthogonal directions `u` of the output, and how much it stretches each: `Av = σu`."
    )
    if any(entry.a.denominator > 1 for line in solution.matrix for entry in line):
        yield Prose("Decimals are taken as the exact fractions that they are: 0.1 is 1/10.")
    if not solution.exact:
        yield Prose(f"Not all of it can be exact here: {solution.reason}. What is rounded stands behind a `≈`.")


def _gram(solution: Solution) -> Iterator[Part]:
    m, n = len(solution.matrix), len(solution.matrix[0])
    name, other = ("AᵀA", "AAᵀ") if solution.inputs else ("AAᵀ", "AᵀA")
    same = solution.gram == solution.other_gram
    yield Display(row(f"G = {name}{' = AAᵀ' if same else ''}", numbers.equal_to(solution.gram)))
    if not same and len(solution.other_gram) <= _OTHER_GRAM_SIZE:
        yield Display(row(other, numbers.equal_to(solution.other_gram)))
    yield Prose(
        "`AᵀA` holds the products of the columns of `A` with each other, `AAᵀ` those of its rows. Apart from zeros "
        "they have the same eigenvalues: where `AᵀAv = λv`, also `AAᵀ(Av) = λ(Av)`."
    )
    if m == n:
        yield Prose(f"Both are {n} × {n}, so either will do: `G = AᵀA`, which gives the directions of the input first.")
    else:
        first = "input" if solution.inputs else "output"
        yield Prose(
            f"The smaller one is used, `G = {name}`: its polynomial has degree {min(m, n)} instead of {max(m, n)}, "
            f"and it gives the directions of the {first} first."
        )


# -- the polynomial and its roots -------------------------------------------------------------------------------------


def _polynomial(solution: Solution) -> Iterator[Part]:
    if not solution.polynomial:
        yield Prose(
            "It is left out here. Programs never use it, because its roots move far when its coefficients are rounded "
            "(Wilkinson 1959): from here on NumPy's SVD works on `A` itself."
        )
        return
    if 1 < len(solution.gram) <= _DETERMINANT_SIZE:
        yield Display(row("det(λI − G) = ", numbers.bars(_characteristic(solution))))
    yield Display(row("det(λI − G) = ", _expanded(solution.polynomial)))
    if sum(factor.multiplicity for factor in solution.factors) > 1:
        yield Display(row("det(λI − G) = ", *(_power(factor) for factor in reversed(solution.factors))))
    yield Prose("An eigenvalue is a `λ` that makes this 0: then `(G − λI)v = 0` for some direction `v`.")


def _characteristic(solution: Solution) -> list[list[Formula]]:
    """The entries of λI − G."""
    entries = [[numbers.surd(-entry) for entry in line] for line in solution.gram]
    for i, line in enumerate(solution.gram):
        entries[i][i] = row("λ − ", numbers.surd(line[i])) if line[i] else Symbol("λ")
    return entries


def _expanded(coefficients: tuple[Fraction, ...]) -> Row:
    items: list[Formula] = []
    for power, coefficient in zip(range(len(coefficients) - 1, -1, -1), coefficients, strict=True):
        if not coefficient:
            continue
        if items:
            items.append(Operator("+" if coefficient > 0 else "−"))
        if abs(coefficient) != 1 or not power:
            items.append(numbers.rational(abs(coefficient)))
            items += [Operator("·")] if power and coefficient.denominator > 1 else []
        if power:
            items.append(_raised(Symbol("λ"), power))
    return row(*items)


def _power(factor: Factor) -> Formula:
    inside = _expanded(factor.coefficients)
    if len(inside.items) == 1:
        return _raised(Symbol("λ"), factor.multiplicity)
    return Row((Operator("("), *inside.items, _raised(Operator(")"), factor.multiplicity)))


def _raised(base: Formula, power: int) -> Formula:
    return base if power == 1 else Scripts(base, exponent=str(power))


def _eigenvalues(solution: Solution) -> Iterator[Part]:
    if not solution.polynomial:
        yield Prose("They are the squares of the singular values that NumPy finds.")
    for factor in solution.factors:
        if factor.degree == 2:
            yield Prose("The factor of degree 2 is solved by the quadratic formula:")
            yield Display(_quadratic(factor))
        elif not factor.roots:
            yield Prose(_why_rounded(factor.degree))
    for index, (square, value) in enumerate(zip(solution.squares, solution.singular_values, strict=True), 1):
        exact = None if square is None else numbers.equals(numbers.surd(square), float(square))
        yield Display(row(f"λ{low(index)}", exact or numbers.approximately(value**2)))
    trace = sum((solution.gram[i][i] for i in range(len(solution.gram))), ZERO)
    yield Prose(
        "None is negative, because `λ = ‖Av‖²` where `v` has length 1. They add up to the sum of the diagonal of "
        "`G`, which is the sum of the squares of all entries of `A`:"
    )
    yield Display(row(total("λ", len(solution.squares)), numbers.equals(numbers.surd(trace), float(trace))))


def _quadratic(factor: Factor) -> Row:
    _, b, c = factor.coefficients
    half, sign, upper = numbers.rational(-b / 2), Operator("±"), factor.roots[0]
    squared = _raised(half, 2) if isinstance(half, Number) else row(Operator("("), half, _raised(Operator(")"), 2))
    under_the_root = Root(row(squared, Operator("−"), numbers.rational(c)))
    root = numbers.surd(Surd(Fraction(0), abs(upper.b), upper.d))
    return row("λ = ", half, sign, under_the_root, "=", half, sign, root)


def _why_rounded(degree: int) -> str:
    if degree == 3:
        return (
            "The factor of degree 3 doesn't split. Its three roots are real, but a formula with roots would have to "
            f"pass through complex numbers (the casus irreducibilis): they are given to {numbers.DIGITS} digits."
        )
    if degree == 4:
        return (
            "The factor of degree 4 doesn't split over the rationals. The formula for its roots would fill the page: "
            f"they are given to {numbers.DIGITS} digits."
        )
    return (
        f"The factor of degree {degree} doesn't split, and from degree 5 on there is no general formula with roots "
        f"(Abel and Ruffini): its roots are given to {numbers.DIGITS} digits."
    )


def _singular_values(solution: Solution) -> Iterator[Part]:
    yield Prose("The singular values are the square roots of these, in descending order: `σᵢ = √λᵢ`.")
    for index, (square, value) in enumerate(zip(solution.squares, solution.singular_values, strict=True), 1):
        found = numbers.approximately(value) if square is None else numbers.equals(numbers.root_of(square), value)
        yield Display(row(f"σ{low(index)}", found))


# -- the circle and its ellipse ---------------------------------------------------------------------------------------


def _picture(solution: Solution) -> Iterator[Part]:
    if (len(solution.matrix), len(solution.matrix[0])) != (2, 2) or not solution.rank:
        return
    long, short = solution.singular_values
    (a, b), (c, d) = floats(solution.matrix).tolist()
    pairs = zip(solution.u, solution.singular_values, strict=True)
    outputs = tuple(tuple(entry * value for entry in column.numbers) for column, value in pairs)
    shape = (
        f"an ellipse with the half-axes `σ₁u₁`, {long:.4g} long, and `σ₂u₂`, {short:.4g} long"
        if solution.rank == 2
        else f"a stretch of a line, as far as {long:.4g} along `u₁` and back: `v₂` is sent to 0"
    )
    if long - short <= 1e-12 * long:
        shape = f"a circle of radius {long:.4g}: `v₁` goes to `σ₁u₁` and `v₂` to `σ₂u₂`"
    yield Picture(
        ((a, b), (c, d)),
        tuple(column.numbers for column in solution.v),
        outputs,
        f'`A` sends the unit circle to {shape}. The area grows by `|"det "A| = σ₁σ₂` = {long * short:.4g}.',
    )
