"""The worked example of docs/algebra.md: the torus, then a two-layer network.

    python examples/algebra.py --out docs/algebra

prints every number of the text in its order, and writes three files of simplices for the command
line, and the figure of the network. A few seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product
from math import cos, pi
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from leray.algebra.covers import mayer_vietoris
from leray.algebra.defects import STATISTICS, exactness_defect
from leray.algebra.fields import GF, Field, Q
from leray.algebra.jacobians import jacobian_complex
from leray.algebra.nearest import nearest_complex
from leray.algebra.simplicial import SimplicialComplex
from leray.algebra.spectral import FilteredComplex, SpectralSequence
from leray.errors import LerayError
from leray.figures.defects import defect_against_null

N = 3  # squares along each side of a surface
FINE = 10  # and of the torus that stands on its rim


def surface(columns: range, flip: bool, n: int = N) -> SimplicialComplex:
    """Columns of a grid of n × n squares, two triangles each, top and bottom glued.

    The last column is glued to the first: straight, which gives a torus, or with a flip, which
    gives a Klein bottle. Vertex i n + j lies over vertex i of the base circle.
    """

    def vertex(i: int, j: int) -> int:
        if i == n:
            i, j = 0, -j if flip else j
        return i * n + j % n

    corners = (((0, 0), (1, 0), (1, 1)), ((0, 0), (0, 1), (1, 1)))
    return SimplicialComplex.of(
        [
            [vertex(i + a, j + b) for a, b in triangle]
            for i, j in product(columns, range(n))
            for triangle in corners
        ]
    )


def over_the_circle(space: SimplicialComplex, field: Field) -> SpectralSequence:
    """Serre's filtration: the level of a face is the dimension of its image in the circle."""
    levels = {
        k: [len({v // N for v in face}) - 1 for face in faces.tolist()]
        for k, faces in enumerate(space.faces)
    }
    return SpectralSequence(FilteredComplex(space.cochains(field), levels))


def write_filtered(space: SimplicialComplex, level: Callable[[list[int]], float], to: Path) -> None:
    """All faces with their levels, one a line."""
    lines = [
        f"{' '.join(map(str, face))} # {level(face):g}"
        for faces in space.faces
        for face in faces.tolist()
    ]
    to.write_text("\n".join(lines) + "\n", encoding="utf-8")


def height(vertex: int) -> float:
    """Of a vertex of the fine torus, standing on its rim: radii 2 and 1."""
    around, across = divmod(vertex, FINE)
    return -(2 + cos(2 * pi * across / FINE)) * cos(2 * pi * around / FINE)


def surfaces(out: Path) -> None:
    """Betti numbers, Mayer–Vietoris and the spectral sequence of two surfaces."""
    for name, flip in (("torus", False), ("Klein bottle", True)):
        space = surface(range(N), flip)
        print(f"{name}: f = {space.f_vector}, Euler characteristic {space.euler_characteristic}")
        for field in (Q, GF(2)):
            print(f"  Betti numbers over {field.name}: {space.betti_numbers(field)}")
        halves = surface(range(1), flip), surface(range(1, N), flip)
        sequence = mayer_vietoris(*halves, Q)
        long = sequence.long_exact_sequence((name, "A ⊔ B", "A ∩ B"))
        print(f"  A is the first column of squares, B the others: {long}")
        for n in (0, 1):
            delta = sequence.connecting_homomorphism(n)
            print(f"  rank of δ: H^{n}(A ∩ B) → H^{n + 1}({name}): {Q.rank(delta).rank}")
        for field in (Q, GF(2)):
            pages = over_the_circle(space, field)
            print(f"  over {field.name}: E_2 = {pages.dimensions(2)}, E_r = E_∞ from r = "
                  f"{pages.stabilizes_at}, abutment {pages.abutment()}")  # fmt: skip
        file = out / f"{name.replace(' ', '-').lower()}.txt"
        write_filtered(space, lambda face: len({v // N for v in face}) - 1, file)
    standing = surface(range(FINE), flip=False, n=FINE)
    write_filtered(standing, lambda face: max(map(height, face)), out / "standing-torus.txt")


def network(out: Path) -> None:
    """A two-layer network on 8 × 8 digits: its weights against exactness, before and after."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float64) / 16, torch.tensor(labels)
    x = (x - x.mean(0)) @ torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][:8].T
    train, test = slice(0, 1200), slice(1200, None)
    torch.manual_seed(0)
    first, second = nn.Linear(8, 18).double(), nn.Linear(18, 10).double()
    net = nn.Sequential(first, nn.ReLU(), second)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)

    def accuracy() -> float:
        return float((net(x[test]).argmax(1) == y[test]).double().mean())

    def report(when: str) -> None:
        a, b = first.weight.detach(), second.weight.detach()
        found = exactness_defect(a, b, null="rotated", generator=generator, num_null=1000)
        print(f"{when}, accuracy on {len(y[test])} digits held out {accuracy():.2f}\n{found}")
        for name in STATISTICS:
            print(f"  p that a random rotation is as exact in {name}: {found.p_value(name):.3f}")
        if when == "trained":
            picture = defect_against_null(found, data="A two-layer network trained on digits")
            (out / "network.svg").write_text(picture.svg, encoding="utf-8")

    report("untrained")
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[train]), y[train]).backward()
        optimizer.step()
    report("trained")
    at_point = jacobian_complex([nn.Sequential(first, nn.ReLU()), second], x[0])
    print(f"Jacobians at the first digit: {at_point}")
    try:
        print(at_point.complex.betti_numbers())
    except LerayError as error:
        print(f"  refused: {error}")
    nearest = at_point.nearest()
    print(f"  nearest complex: {nearest}")
    print(f"  its Betti numbers: {nearest.complex.betti_numbers()}")
    lost, exact = [], 0
    for _ in range(200):
        pair = [
            torch.randn(j.shape, generator=generator, dtype=j.dtype) for j in at_point.jacobians
        ]
        drawn = nearest_complex(pair)
        lost.append(drawn.residual)
        exact += drawn.complex.betti_numbers() == (0, 0, 0)
    low, middle, high = torch.tensor(lost).quantile(torch.tensor([0.025, 0.5, 0.975])).tolist()
    print(
        f"  of 200 random normal pairs: residual {middle:.3f} ({low:.3f} to {high:.3f}), "
        f"{exact} with these Betti numbers"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where the figures go")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    surfaces(args.out)
    network(args.out)


if __name__ == "__main__":
    main()
