"""Zero-mean Gaussian vectors by what is known of them: their inner products.

n vectors v_i = Σ_{j ≤ i} L_ij z_j in R^dim, z_j independent N(0, I), L lower triangular. Two ways
to their Gram matrix G = V Vᵀ:

- *literal*: draw Z [n, dim], form V = L Z, multiply;
- *gram*: Z Zᵀ = A Aᵀ in law, with A lower triangular and independent entries,
  A_ii² ~ χ²(dim − i) for i = 0 … n − 1 and A_ij ~ N(0, 1) below the diagonal, so
  G = (L A)(L A)ᵀ needs n(n − 1)/2 normals and n chi-squares instead of n · dim normals.

Here L is a tree: every vector continues one parent, v_i = a_i v_{p(i)} + √(1 − a_i²) z_i with
p(i) < i (or none, a_i = 0), so that a row of L Z, or of L A, costs one scaled addition, every v_i
is N(0, I), and E v_i·v_j/dim is the product of the a's along the path between them.

Randomness is a function of a place: block b of conversation c under the key k is Threefry(k; b, c),
so no draw depends on which others were made, or in which order. The n · dim normals of literal mode
come from dim/2 streams of xoshiro128++ a conversation, a quarter of the work a word, whose states
are such blocks: two streams meet within a run with a probability under 2⁻⁶⁰.

Source: Bartlett (Proc. Royal Soc. Edinburgh 1933); Salmon, Moraes, Dror and Shaw, Parallel random
numbers: as easy as 1, 2, 3 (SC 2011) for Threefry-2x32-20; Blackman and Vigna, Scrambled linear
pseudorandom number generators (ACM TOMS 2021) for xoshiro128++; Marsaglia and Tsang (ACM TOMS 2000)
for χ²; the polynomials of the logarithm, sine and cosine are those of Cephes (Moshier).
"""

from __future__ import annotations

import math

import numpy as np

from leray.evidence.compiled import compiled

U = np.uint32
F = np.float32
LANES = 8  # float32 numbers in a register
STRUCTURE, TRUTH, GAUSS, CHI = 0, 1 << 14, 1 << 16, 1 << 29  # the first block of each use
_EXTRA = 1 << 30  # blocks of the proposals after a rejected one
_PARITY = U(0x1BD11BDA)
_HALF_ROOT = np.int32(0x3F3504F3)  # the bits of √½
_PER_TURN = F(2 * np.pi / 2**32)


@compiled
def threefry(k0, k1, c0, c1):
    """Two random 32-bit words for the counter (c0, c1) under the key (k0, k1): 20 rounds."""
    k2 = U(k0 ^ k1 ^ _PARITY)
    x0, x1 = U(c0 + k0), U(c1 + k1)
    x0, x1 = _four_rounds(x0, x1, 13, 15, 26, 6)
    x0, x1 = U(x0 + k1), U(x1 + k2 + U(1))
    x0, x1 = _four_rounds(x0, x1, 17, 29, 16, 24)
    x0, x1 = U(x0 + k2), U(x1 + k0 + U(2))
    x0, x1 = _four_rounds(x0, x1, 13, 15, 26, 6)
    x0, x1 = U(x0 + k0), U(x1 + k1 + U(3))
    x0, x1 = _four_rounds(x0, x1, 17, 29, 16, 24)
    x0, x1 = U(x0 + k1), U(x1 + k2 + U(4))
    x0, x1 = _four_rounds(x0, x1, 13, 15, 26, 6)
    return U(x0 + k2), U(x1 + k0 + U(5))


@compiled
def box_muller(w0, w1):
    """Two independent N(0, 1), float32, from two 32-bit words; the largest possible is 6.66.

    √(−2 ln u) (cos φ, sin φ), u = (⌊w0/2⌋ + ½)/2³¹ and φ = 2π w1/2³²; right to 2·10⁻⁶.
    """
    radius = math.sqrt(max(F(-2) * _log((F(np.int32(w0 >> U(1))) + F(0.5)) * F(2.0**-31)), F(0)))
    quarter = U(w1 + U(1 << 29)) >> U(30)
    a = F(np.int32(U(w1 - U(quarter << U(30))))) * _PER_TURN  # in [−π/4, π/4)
    z = a * a
    sine = ((F(-1.9515295891e-4) * z + F(8.3321608736e-3)) * z + F(-1.6666654611e-1)) * z * a + a
    cosine = (F(2.443315711809948e-5) * z + F(-1.388731625493765e-3)) * z
    cosine = (cosine + F(4.166664568298827e-2)) * z * z - F(0.5) * z + F(1)
    odd = (quarter & U(1)) != U(0)
    first = sine if odd else cosine
    second = cosine if odd else sine
    first = -first if (quarter == U(1)) or (quarter == U(2)) else first
    second = -second if quarter >= U(2) else second
    return radius * first, radius * second


@compiled
def fill_normals(k0, k1, conversation, block, out):
    """N(0, 1) into ``out`` (float32, an even number): two a block, half a length apart."""
    half = len(out) // 2
    a, b = out[:half], out[half:]
    for i in range(half):
        w0, w1 = threefry(k0, k1, U(block + i), conversation)
        a[i], b[i] = box_muller(w0, w1)


@compiled
def fill_uniforms(k0, k1, conversation, block, out):
    """Uniforms in (0, 1) into ``out`` (float64, an even number): two a block."""
    half = len(out) // 2
    a, b = out[:half], out[half:]
    for i in range(half):
        w0, w1 = threefry(k0, k1, U(block + i), conversation)
        a[i] = (w0 + 0.5) * 2.0**-32
        b[i] = (w1 + 0.5) * 2.0**-32


@compiled
def streams(k0, k1, conversation, block, state):
    """States of xoshiro128++, one a column, into ``state [4, streams]`` uint32: two blocks each."""
    for j in range(state.shape[1]):
        state[0, j], state[1, j] = threefry(k0, k1, U(block + 2 * j), conversation)
        state[2, j], state[3, j] = threefry(k0, k1, U(block + 2 * j + 1), conversation)


@compiled
def xoshiro(s0, s1, s2, s3):
    """The next 32-bit word of xoshiro128++, and the state after it."""
    word = U(_rotate(U(s0 + s3), 7) + s0)
    t = U(s1 << U(9))
    s2, s3 = U(s2 ^ s0), U(s3 ^ s1)
    return word, U(s0 ^ s3), U(s1 ^ s2), U(s2 ^ t), _rotate(s3, 11)


@compiled
def next_normals(state, out):
    """N(0, 1) into ``out`` (float32): from each stream two, half a length apart."""
    half = len(out) // 2
    a, b, s0, s1, s2, s3 = out[:half], out[half:], state[0], state[1], state[2], state[3]
    for j in range(half):
        w0, x0, x1, x2, x3 = xoshiro(s0[j], s1[j], s2[j], s3[j])
        w1, s0[j], s1[j], s2[j], s3[j] = xoshiro(x0, x1, x2, x3)
        a[j], b[j] = box_muller(w0, w1)


@compiled
def literal_rows(k0, k1, conversation, parent, strength, state, V):
    """The n vectors themselves: V = L Z, into ``V [≥ n, dim]`` float32 with dim even.

    Args:
        state: Room for ``[4, dim/2]`` uint32.
    """
    n, dim = len(parent), V.shape[1]
    streams(k0, k1, conversation, GAUSS, state)
    for i in range(n):
        next_normals(state, V[i])
        _continue_parent(V, i, parent[i], strength[i], dim)


@compiled
def bartlett_columns(k0, k1, conversation, parent, strength, dim, normals, uniforms, C):
    """(L A)ᵀ in place of (L Z)ᵀ, into ``C [padded(n), padded(n)]`` float32, made of zeros.

    Only the upper triangle is written; n = len(parent), dim ≥ n + 1.

    Args:
        normals, uniforms: Room for ``n(n + 1)/2`` float32 and n float64, each an even number.
    """
    n = len(parent)
    fill_normals(k0, k1, conversation, GAUSS, normals)
    fill_uniforms(k0, k1, conversation, CHI, uniforms)
    place = n
    for i in range(n):
        square = chi_square(k0, k1, conversation, i, dim - i, normals[i], uniforms[i])
        before = max(parent[i], 0)
        a = F(strength[i] if parent[i] >= 0 else 0.0)
        own = F(math.sqrt(1.0 - a * a))
        for k in range(i):
            C[k, i] = a * C[k, before] + own * normals[place + k]
        C[i, i] = own * F(math.sqrt(square))
        place += i


@compiled
def gram_of_columns(n, C, G):
    """The upper triangle of CᵀC for C upper triangular, both ``[padded(n), padded(n)]`` float32.

    Entries below the diagonal come out as anything. Cost: n³/6 multiplications; four rows of G are
    made together, from two rows of C at a time, so that little is loaded twice.
    """
    for i in range(0, n, 4):
        first = i // LANES * LANES
        g0, g1, g2, g3 = G[i, first:], G[i + 1, first:], G[i + 2, first:], G[i + 3, first:]
        g0[:], g1[:], g2[:], g3[:] = 0, 0, 0, 0
        for k in range(0, i + 4, 2):  # C[k, i] = 0 for k > i
            a, b = C[k, i : i + 4], C[k + 1, i : i + 4]
            a0, a1, a2, a3 = a[0], a[1], a[2], a[3]
            b0, b1, b2, b3 = b[0], b[1], b[2], b[3]
            above, below = C[k, first:], C[k + 1, first:]
            for j in range(len(g0)):
                x, y = above[j], below[j]
                g0[j] += a0 * x + b0 * y
                g1[j] += a1 * x + b1 * y
                g2[j] += a2 * x + b2 * y
                g3[j] += a3 * x + b3 * y


@compiled
def gram_of_rows(V, G):
    """The upper triangle of V Vᵀ, ``V [rows, dim]`` and ``G [rows, rows]`` float32, rows in threes.

    Entries below the diagonal come out as anything. Cost: rows²·dim/2 multiplications; nine entries
    of G are summed together, so that six loads serve nine products.
    """
    for i in range(0, len(V), 3):
        a0, a1, a2 = V[i], V[i + 1], V[i + 2]
        for j in range(i, len(V), 3):
            b0, b1, b2 = V[j], V[j + 1], V[j + 2]
            s00 = s01 = s02 = s10 = s11 = s12 = s20 = s21 = s22 = F(0)
            for k in range(len(a0)):
                x, y, z = b0[k], b1[k], b2[k]
                s00 += a0[k] * x
                s01 += a0[k] * y
                s02 += a0[k] * z
                s10 += a1[k] * x
                s11 += a1[k] * y
                s12 += a1[k] * z
                s20 += a2[k] * x
                s21 += a2[k] * y
                s22 += a2[k] * z
            G[i, j], G[i, j + 1], G[i, j + 2] = s00, s01, s02
            G[i + 1, j], G[i + 1, j + 1], G[i + 1, j + 2] = s10, s11, s12
            G[i + 2, j], G[i + 2, j + 1], G[i + 2, j + 2] = s20, s21, s22


@compiled
def padded(n):
    """n, rounded up to whole registers."""
    return (n + LANES - 1) // LANES * LANES


@compiled
def chi_square(k0, k1, conversation, row, freedom, x, u):
    """χ² with ``freedom`` ≥ 2 degrees, from a first proposal (x, u) and, if rejected, further ones.

    2d(1 + cx)³, d = freedom/2 − ⅓, c = 1/√(9d), kept when ln u < x²/2 + d(1 − v + ln v).
    """
    d = 0.5 * freedom - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    attempt = 0
    while True:
        v = (1.0 + c * x) ** 3
        if v > 0.0 and (
            u < 1.0 - 0.0331 * x**4 or math.log(u) < 0.5 * x * x + d * (1.0 - v + math.log(v))
        ):
            return 2.0 * d * v
        block = _EXTRA + 2 * (row * 1024 + attempt)
        w0, w1 = threefry(k0, k1, U(block), conversation)
        x, _ = box_muller(w0, w1)
        w0, w1 = threefry(k0, k1, U(block + 1), conversation)
        u = (w0 + 0.5) * 2.0**-32
        attempt += 1


@compiled
def _continue_parent(V, i, parent, strength, width):
    own = F(math.sqrt(1.0 - strength * strength))
    if parent < 0:
        return
    a = F(strength)
    row, before = V[i], V[parent]
    for k in range(width):
        row[k] = a * before[k] + own * row[k]


@compiled
def _four_rounds(x0, x1, r0, r1, r2, r3):
    x0 = U(x0 + x1)
    x1 = U(_rotate(x1, r0) ^ x0)
    x0 = U(x0 + x1)
    x1 = U(_rotate(x1, r1) ^ x0)
    x0 = U(x0 + x1)
    x1 = U(_rotate(x1, r2) ^ x0)
    x0 = U(x0 + x1)
    return x0, U(_rotate(x1, r3) ^ x0)


@compiled
def _rotate(x, r):
    return U((x << U(r)) | (x >> U(32 - r)))


@compiled
def _log(u):
    """ln u for float32 u > 0: u = m·2^e with m in [√½, √2), a polynomial in m − 1."""
    bits = np.float32(u).view(np.int32)
    # Each step is cast back to 32 bits, or the loop around it would not vectorise.
    e = np.int32(np.int32(bits - _HALF_ROOT) >> np.int32(23))
    x = np.int32(bits - np.int32(e << np.int32(23))).view(np.float32) - F(1)
    y = F(7.0376836292e-2) * x + F(-1.1514610310e-1)
    y = y * x + F(1.1676998740e-1)
    y = y * x + F(-1.2420140846e-1)
    y = y * x + F(1.4249322787e-1)
    y = y * x + F(-1.6668057665e-1)
    y = y * x + F(2.0000714765e-1)
    y = y * x + F(-2.4999993993e-1)
    y = y * x + F(3.3333331174e-1)
    z = x * x
    exponent = F(e)
    y = y * x * z + F(-2.12194440e-4) * exponent - F(0.5) * z
    return x + y + F(0.693359375) * exponent
