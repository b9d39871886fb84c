"""Word problems: groups against their axioms, words against products taken one by one."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from leray.lm.words import drawn_words, group_of


@pytest.mark.parametrize(("name", "order"), [("S3", 6), ("A5", 60)])
def test_identity_the_axioms_of_a_group(name, order):
    group = group_of(name)
    assert group.order == order
    table = group.table
    assert table[0].tolist() == table[:, 0].tolist() == list(range(order))
    assert all(sorted(row) == list(range(order)) for row in table.tolist())
    assert torch.equal(table[table, :], table[:, table])  # (ab)c = a(bc)
    assert not torch.equal(table, table.T)


@pytest.mark.parametrize("name", ["S3", "A5"])
def test_letters_reach_the_whole_group(name):
    group = group_of(name)
    found = {0}
    while True:
        more = found | {int(group.table[a, b]) for a, b in product(group.letters, found)}
        if more == found:
            break
        found = more
    assert len(found) == group.order


@pytest.mark.parametrize("name", ["S3", "A5"])
def test_oracle_running_products_as_permutations(name):
    group = group_of(name)
    letters, products = drawn_words(group, 5, 9, torch.Generator().manual_seed(0))
    for word, said in zip(letters.tolist(), products.tolist(), strict=True):
        done = group.elements[0]
        for letter, place in zip(word, said, strict=True):
            g = group.elements[group.letters[letter]]
            done = tuple(g[i] for i in done)
            assert group.elements[place] == done


def test_refusal():
    with pytest.raises(ValueError, match="group must be S3 or A5; got 'S4'"):
        group_of("S4")
