"""Double complexes: sums of squares, zig-zags and dots, whose pages are known from the shapes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra.spaces import RP2, TORUS, random_automorphism, random_complex, sphere
from leray.algebra.complexes import CochainComplex
from leray.algebra.double import DoubleComplex, NotADoubleComplexError, tensor
from leray.algebra.fields import GF, Floats, Q
from leray.algebra.simplicial import SimplicialComplex
from leray.algebra.spectral import SpectralSequence

FIELDS = (Q, GF(2), GF(3), Floats())
SEEDS = st.integers(0, 10_000)
every_field = pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)


class Shapes:
    """A sum of indecomposable double complexes, and what is known of its spectral sequences."""

    def __init__(self):
        self.dims = Counter()
        self.across, self.up = [], []
        self.lives = {"columns": [], "rows": []}  # (place, last page on which it is not zero)
        self.total = Counter()

    def _new(self, place):
        self.dims[place] += 1
        return (*place, self.dims[place] - 1)

    def square(self, p, q):
        """Killed by d_0 both ways."""
        a, b, c, d = (self._new(at) for at in ((p, q), (p + 1, q), (p, q + 1), (p + 1, q + 1)))
        self.across += [(a, b), (c, d)]
        self.up += [(a, c), (b, d)]
        for which in self.lives.values():
            which += [(e[:2], 0) for e in (a, b, c, d)]

    def zigzag(self, p, q, length, source_first):
        """Elements down a staircase, d_h and d_v in turn; a dot where there is one.

        A source at (p, q) goes by d_h to (p + 1, q) and by d_v to (p, q + 1). In pairs by d_v
        (for columns) or d_h (for rows) all die on page 0 but the ends that the pairs leave over; of
        two ends left over the source hits the target by d_r, as far apart as they are.
        """
        found, source = [], source_first
        for _ in range(length):
            found.append((self._new((p, q)), source))
            p, q = (p + 1, q) if source else (p, q - 1)
            source = not source
        for (a, a_source), (b, _) in pairwise(found):
            self.across += [(a, b)] if a_source else []
            self.up += [] if a_source else [(b, a)]
        self._live("columns", found, pairs_start=1 if source_first else 0)
        self._live("rows", found, pairs_start=0 if source_first else 1)
        if length % 2:
            self.total[sum(found[0][0][:2])] += 1

    def _live(self, which, found, pairs_start):
        paired = (len(found) - pairs_start) // 2 * 2
        inside = found[pairs_start : pairs_start + paired]
        left = found[:pairs_start] + found[pairs_start + paired :]
        self.lives[which] += [(e[:2], 0) for e, _ in inside]
        level = 0 if which == "columns" else 1
        far = abs(left[0][0][level] - left[1][0][level]) if len(left) == 2 else 10**6
        self.lives[which] += [(e[:2], far) for e, _ in left]

    def page(self, which, r):
        """dim E_r at (level, the other)."""
        turn = slice(None) if which == "columns" else slice(None, None, -1)
        return dict(Counter(place[turn] for place, last in self.lives[which] if last >= r))

    def hidden(self, field, rng):
        """The double complex, in random bases."""
        turns = {place: random_automorphism(n, field, rng) for place, n in self.dims.items()}

        def maps(arrows, step):
            out = {}
            for a, b in arrows:
                end = (a[0] + step[0], a[1] + step[1])
                assert b[:2] == end
                shape = (self.dims[end], self.dims[a[:2]])
                out.setdefault(a[:2], np.zeros(shape, dtype=int))[b[2], a[2]] = 1
            return {
                (p, q): field.mul(
                    turns[p + step[0], q + step[1]][0],
                    field.mul(field.matrix(m), turns[p, q][1]),
                )
                for (p, q), m in out.items()
            }

        return DoubleComplex(
            dict(self.dims), maps(self.across, (1, 0)), maps(self.up, (0, 1)), field
        )


def random_shapes(rng, size=3, largest=6):
    shapes = Shapes()
    for _ in range(rng.integers(0, 3)):
        shapes.square(*rng.integers(-1, size, 2).tolist())
    for _ in range(rng.integers(1, 5)):
        p, q = rng.integers(-1, size, 2).tolist()
        shapes.zigzag(p, q, int(rng.integers(1, largest)), bool(rng.integers(2)))
    return shapes


def sequences(double):
    return {
        "columns": SpectralSequence(double.by_columns()),
        "rows": SpectralSequence(double.by_rows()),
    }


@every_field
@settings(max_examples=6)
@given(SEEDS)
def test_oracle_every_page_is_known_from_the_shapes(field, seed):
    """And both abutments are the graded cohomology of the total complex."""
    rng = np.random.default_rng(seed)
    shapes = random_shapes(rng)
    double = shapes.hidden(field, rng)
    total = double.total()
    assert {n: b for n in total.degrees if (b := total.betti_number(n))} == shapes.total
    for which, sequence in sequences(double).items():
        for r in range(5):
            assert sequence.dimensions(r) == shapes.page(which, r)
        assert sequence.abutment() == shapes.page(which, 100)


@every_field
@settings(max_examples=3)
@given(SEEDS)
def test_identity_the_second_pages_are_iterated_cohomology(field, seed):
    rng = np.random.default_rng(seed)
    double = random_shapes(rng).hidden(field, rng)
    for given_, sequence in (
        (double, SpectralSequence(double.by_columns())),
        (double.transposed(), SpectralSequence(double.by_rows())),
    ):
        one, two = sequence.page(1).dimensions, sequence.page(2).dimensions
        for q in given_.rows:
            row = given_.vertical_cohomology(q)
            for p in given_.columns:
                assert one.get((p, q), 0) == row.dim(p) == given_.column(p).betti_number(q)
                assert two.get((p, q), 0) == row.betti_number(p)


@every_field
@pytest.mark.parametrize("r", [1, 2, 3, 4])
def test_oracle_a_staircase_has_a_long_differential_one_way_and_none_the_other(field, r):
    """From (0, r − 1) to (r, 0) by columns; by rows E_1 = 0."""
    shapes = Shapes()
    shapes.zigzag(0, r - 1, 2 * r, source_first=True)
    double = shapes.hidden(field, np.random.default_rng(r))
    both = sequences(double)
    d = both["columns"].page(r).differentials
    assert list(d) == [(0, r - 1)]
    assert field.rank(d[0, r - 1], field.tolerance).value() == 1
    assert both["columns"].stabilizes_at == r + 1
    assert both["columns"].page(r + 1).dimensions == both["rows"].page(1).dimensions == {}
    turned = sequences(double.transposed())
    assert turned["rows"].dimensions(r) == both["columns"].dimensions(r) != {}
    assert not any(double.total().betti_numbers())


@every_field
@settings(max_examples=4)
@given(SEEDS)
def test_identity_the_total_complex_of_a_tensor_product_is_the_tensor_product(field, seed):
    rng = np.random.default_rng(seed)
    (c, first), (d, second) = (random_complex(field, rng, length=2) for _ in range(2))
    c, d = c.shifted(int(rng.integers(-2, 3))), d.shifted(int(rng.integers(-2, 3)))
    double, product = tensor(c, d), c @ d
    total = double.total()
    assert total.degrees == product.degrees
    for n in product.degrees:
        apart = field.add(total.d(n), field.scale(-1, product.d(n)))
        assert field.is_zero(apart, field.size(product.d(n)))
    for which, sequence in sequences(double).items():
        turn = slice(None) if which == "columns" else slice(None, None, -1)
        kuenneth = {
            (c.degrees[i], d.degrees[j])[turn]: a * b
            for i, a in enumerate(first)
            for j, b in enumerate(second)
            if a * b
        }
        assert sequence.dimensions(2) == sequence.abutment() == kuenneth


@pytest.mark.parametrize(
    ("dtype", "arrows"), [(torch.float64, 0), (torch.float32, 0), (torch.float64, 3)]
)
def test_identity_what_rounding_leaves_of_a_zero_map_is_no_map(dtype, arrows):
    """Dots in a row and squares over them, mixed: d_h is not zero, but on these classes it is.

    With arrows it is not on others, so that a map has true and spurious singular values.
    """
    field = Floats(dtype=dtype)
    for seed in range(5):
        shapes = Shapes()
        for p in range(4):
            shapes.zigzag(p, 0, 1, source_first=True)
            shapes.zigzag(p, 0, 1, source_first=True)
            shapes.square(p, 0)
            shapes.square(p - 1, -1)
        for p in range(arrows):
            shapes.zigzag(p, 0, 2, source_first=True)
        double = shapes.hidden(field, np.random.default_rng(seed))
        assert all(field.size(double.d_h(p, 0)) > 1 for p in range(3))
        assert double.vertical_cohomology(0).betti_numbers()[1:5] == (2, 2, 2, 2)


def test_oracle_kuenneth_of_spaces():
    """RP² × S¹ over F_2, and torus × S² over Q."""
    plane, torus, circle, ball = (
        SimplicialComplex.of(facets) for facets in (RP2, TORUS, sphere(1), sphere(2))
    )
    first = tensor(plane.cochains(GF(2)), circle.cochains(GF(2))).total()
    assert first.betti_numbers() == (1, 2, 2, 1)
    second = tensor(torus.cochains(Q), ball.cochains(Q))
    assert second.total().betti_numbers() == (1, 2, 2, 2, 1)
    assert second.vertical_cohomology(2).betti_numbers() == (1, 2, 1)


def test_identity_one_space_and_no_space_are_double_complexes():
    dot = DoubleComplex({(3, -1): 2}, {}, {}, Q)
    assert dot.total().lowest == 2
    assert dot.total().betti_numbers() == (2, 0)
    assert SpectralSequence(dot.by_rows()).limit.dimensions == {(-1, 3): 2}
    assert dot.vertical_cohomology(-1).betti_number(3) == 2
    assert DoubleComplex({(0, 0): 0}, {}, {}, Q).total().betti_numbers() == (0, 0)


@every_field
def test_what_is_no_double_complex_is_refused_and_the_place_named(field):
    one, line = field.identity(1), {(p, 0): 1 for p in range(3)}
    square = {(p, q): 1 for p in (0, 1) for q in (0, 1)}
    sides = {(0, 0): one, (0, 1): one}, {(0, 0): one, (1, 0): field.scale(2, one)}
    with pytest.raises(NotADoubleComplexError, match=r"d_h d_h from \(0, 0\) is not zero"):
        DoubleComplex(line, {(0, 0): one, (1, 0): one}, {}, field)
    up = {(q, p): n for (p, q), n in line.items()}
    with pytest.raises(NotADoubleComplexError, match=r"d_v d_v from \(0, 0\) is not zero"):
        DoubleComplex(up, {}, {(0, 0): one, (0, 1): one}, field)
    with pytest.raises(NotADoubleComplexError, match=r"\(0, 0\) to \(1, 1\) does not commute"):
        DoubleComplex(square, *sides, field)
    with pytest.raises(NotADoubleComplexError, match=r"\(0, 0\) to \(1, 1\) does not commute"):
        DoubleComplex(square, {(0, 0): one}, {(1, 0): one}, field)
    with pytest.raises(NotADoubleComplexError, match=r"d_v from \(0, 0\) to \(0, 1\) must have"):
        DoubleComplex({(0, 0): 1}, {}, {(0, 0): one}, field)
    with pytest.raises(NotADoubleComplexError, match="at least one space"):
        DoubleComplex({}, {}, {}, field)
    with pytest.raises(NotADoubleComplexError, match=r"at \(0, 0\) must be ≥ 0; got -1"):
        DoubleComplex({(0, 0): -1}, {}, {}, field)
    anti = DoubleComplex(square, {(0, 0): one, (0, 1): one}, {(0, 0): one, (1, 0): one}, field)
    assert not any(anti.total().betti_numbers())
    assert isinstance(anti.row(0), CochainComplex)
