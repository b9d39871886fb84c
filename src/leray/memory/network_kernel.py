"""Small dense networks, trained minibatch by minibatch in one compiled loop.

A network f: ℝ^d → ℝ has hidden layers h_l = mask ∘ φ(W_l h_{l−1} + b_l) and a linear output. Its
parameters lie in one flat vector, layer by layer: W_l [out, in] by rows, then b_l [out].

Activations are stored a unit a row, the rows of a minibatch side by side, so that every inner
loop runs over the minibatch and vectorises; four units in and four units out are taken together,
so that each value loaded is used four times. One network with its minibatch stays in the
second-level cache, and no operation has an overhead of its own.

Legend: ``p`` parameters, ``g`` their gradient, ``s`` the activations; an index ending in 0 is
where something starts. Every index is ``uintp``, which keeps numba from testing for negative ones.
"""

from __future__ import annotations

import numpy as np

from leray.evidence.compiled import compiled, inlined

LANES = 512  # places in a minibatch; those beyond its rows have weight 0
STRIDE = 528  # floats from a row to the next: no power of two, so that rows share no cache set
POOL = 65_536  # random bytes drawn an epoch, from which every dropout mask is cut
PEARSON, LOGISTIC = 0, 1
RELU, TANH, ELU = 0, 1, 2

_U = np.uintp
_L, _S = np.uintp(LANES), np.uintp(STRIDE)
_0, _1, _2, _3, _4 = (np.uintp(k) for k in range(5))
_F = np.float32
_ZERO, _ONE, _HALF, _TWO = (np.float32(v) for v in (0.0, 1.0, 0.5, 2.0))
_TINY = np.float32(1e-20)
_BETA1, _BETA2, _EPS = np.float32(0.9), np.float32(0.999), np.float32(1e-8)


@compiled
def train_epoch(
    data, num_batches, params, first, second, starts, widths, rates, dropped, activations, alive,
    loss, steps_before, pool, seed, s, g, losses
):  # fmt: skip
    """One epoch of Adam for every network in ``alive``.

    Args:
        data: Minibatches, flat ``[batches, inputs + 2, STRIDE]``: inputs, truth, weight.
        num_batches: How many.
        params, first, second: Parameters and Adam's two moments of all networks, flat.
        starts: Where each network begins in them.
        widths: ``[networks, layers + 1]``: inputs, hidden units, 1; then zeros.
        rates: Adam's learning rates.
        dropped: Each network's dropout rate in 256ths.
        activations: RELU, TANH or ELU.
        alive: Indices of the networks to train.
        loss: PEARSON or LOGISTIC.
        steps_before: Adam steps made before.
        pool: POOL random bytes; masks are cut from it at hashed places.
        seed: Changes every epoch.
        s, g: Work space: ``[hidden units + 4, STRIDE]`` flat; the gradient.
        losses: Filled with the mean loss of each network's minibatches.
    """
    for c in alive:
        total = 0.0
        for batch in range(num_batches):
            step = steps_before + batch + 1
            total += loss_gradient(
                data, _U(batch), params, _U(starts[c]), widths[c], dropped[c], activations[c],
                loss, pool, seed + batch, s, g
            )  # fmt: skip
            _adam(params, first, second, starts[c], starts[c + 1], g, rates[c], step)
        losses[c] = total / num_batches


@inlined
def loss_gradient(
    data, batch, p, p0, widths, dropped, activation, loss, pool, seed, s, g
):  # fmt: skip
    """The loss of one network on one minibatch, and its gradient into ``g``."""
    num_layers = 0
    while num_layers + 1 < len(widths) and widths[num_layers + 1] > 0:
        num_layers += 1
    x0 = batch * _U(widths[0] + 2) * _S
    y0 = x0 + _U(widths[0]) * _S
    f0 = _forward(data, x0, p, p0, widths, num_layers, dropped, activation, pool, seed, s)
    value = _loss(data, y0, s, f0, loss)
    _backward(
        data, x0, p, p0, widths, num_layers, dropped, activation, pool, seed, s, g, f0
    )  # fmt: skip
    if loss == PEARSON:  # r does not change with the output's bias: its slope is rounding alone
        g[_size(widths, num_layers) - _1] = _ZERO
    return value


@compiled
def scores_kernel(x, p, widths, activation, s, data, out):
    """f of every row of ``x [inputs, rows]``, without dropout."""
    num_layers = 0
    while num_layers + 1 < len(widths) and widths[num_layers + 1] > 0:
        num_layers += 1
    pool = np.zeros(0, np.uint8)
    n = x.shape[1]
    for start in range(0, n, LANES):
        m = min(LANES, n - start)
        for j in range(x.shape[0]):
            for t in range(m):
                data[j * STRIDE + t] = x[j, start + t]
        f0 = _forward(data, _0, p, _0, widths, num_layers, 0, activation, pool, 0, s)
        for t in range(m):
            out[start + t] = s[f0 + _U(t)]


@inlined
def _size(widths, num_layers):
    total = _0
    for layer in range(num_layers):
        total += _U((widths[layer] + 1) * widths[layer + 1])
    return total


@inlined
def _forward(data, x0, p, p0, widths, num_layers, dropped, activation, pool, seed, s):
    """Fill the activations; returns where the output's row starts."""
    w0, z0 = p0, _0
    _affine(p, w0, _U(widths[0]), _U(widths[1]), data, x0, s, z0)
    unit = 0
    for layer in range(1, num_layers):
        for k in range(widths[layer]):
            _activate(s, z0 + _U(k) * _S, activation)
            if dropped > 0:
                _drop(s, z0 + _U(k) * _S, dropped, pool, _place(seed, unit + k))
        unit += widths[layer]
        w0 += _U((widths[layer - 1] + 1) * widths[layer])
        a0 = z0
        z0 += _U(widths[layer]) * _S
        _affine(p, w0, _U(widths[layer]), _U(widths[layer + 1]), s, a0, s, z0)
    return z0


@inlined
def _backward(data, x0, p, p0, widths, num_layers, dropped, activation, pool, seed, s, g, f0):
    """From the slopes in the output's row to the gradient; slopes replace activations."""
    d0, w0 = f0, p0
    unit = 0
    for layer in range(num_layers - 1):
        w0 += _U((widths[layer] + 1) * widths[layer + 1])
        unit += widths[layer + 1]
    for layer in range(num_layers, 1, -1):
        n_in, n_out = _U(widths[layer - 1]), _U(widths[layer])
        a0 = d0 - n_in * _S
        unit -= widths[layer - 1]
        _weight_slopes(g, w0 - p0, n_in, n_out, s, a0, s, d0)
        e0 = f0 + _S  # four rows beyond the output's
        for i in range(_0, n_in, _4):
            _back(p, w0, i, n_in, n_out, s, d0, e0)
            for k in range(_4):
                row = a0 + (i + k) * _S
                if dropped > 0:
                    place = _place(seed, unit + np.int64(i + k))
                    _undrop(s, row, e0 + k * _S, dropped, pool, place)
                _derivative(s, row, e0 + k * _S, activation)
        d0 = a0
        w0 -= _U((widths[layer - 2] + 1) * widths[layer - 1])
    _weight_slopes(g, w0 - p0, _U(widths[0]), _U(widths[1]), data, x0, s, d0)


@inlined
def _affine(p, w0, n_in, n_out, a, a0, z, z0):
    """Rows z = W a + b."""
    b0 = w0 + n_in * n_out
    if n_out == _1:
        for t in range(_L):
            z[z0 + t] = p[b0]
        for i in range(_0, n_in, _4):
            w, r = w0 + i, a0 + i * _S
            w0_, w1_, w2_, w3_ = p[w], p[w + _1], p[w + _2], p[w + _3]
            for t in range(_L):
                z[z0 + t] += (
                    w0_ * a[r + t] + w1_ * a[r + _S + t]
                    + w2_ * a[r + _2 * _S + t] + w3_ * a[r + _3 * _S + t]
                )  # fmt: skip
        return
    for o in range(_0, n_out, _4):
        q = z0 + o * _S
        for k in range(_4):
            for t in range(_L):
                z[q + k * _S + t] = p[b0 + o + k]
        for i in range(_0, n_in, _4):
            w = w0 + o * n_in + i
            _four_by_four(p, w, _1, n_in, a, a0 + i * _S, z, q)


@inlined
def _four_by_four(p, w, across, down, a, r, z, q):
    """Add a 4 × 4 block of weights times four rows of a to four rows of z."""
    a00, a01, a02, a03 = p[w], p[w + across], p[w + _2 * across], p[w + _3 * across]
    w += down
    a10, a11, a12, a13 = p[w], p[w + across], p[w + _2 * across], p[w + _3 * across]
    w += down
    a20, a21, a22, a23 = p[w], p[w + across], p[w + _2 * across], p[w + _3 * across]
    w += down
    a30, a31, a32, a33 = p[w], p[w + across], p[w + _2 * across], p[w + _3 * across]
    for t in range(_L):
        x0, x1, x2, x3 = a[r + t], a[r + _S + t], a[r + _2 * _S + t], a[r + _3 * _S + t]
        z[q + t] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
        z[q + _S + t] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
        z[q + _2 * _S + t] += a20 * x0 + a21 * x1 + a22 * x2 + a23 * x3
        z[q + _3 * _S + t] += a30 * x0 + a31 * x1 + a32 * x2 + a33 * x3


@inlined
def _back(p, w0, i, n_in, n_out, d, d0, e0):
    """Four rows e = (Wᵀ d) of the units i, …, i + 3."""
    if n_out == _1:
        for k in range(_4):
            for t in range(_L):
                d[e0 + k * _S + t] = p[w0 + i + k] * d[d0 + t]
        return
    for k in range(_4):
        for t in range(_L):
            d[e0 + k * _S + t] = _ZERO
    for o in range(_0, n_out, _4):
        _four_by_four(p, w0 + o * n_in + i, n_in, _1, d, d0 + o * _S, d, e0)


@inlined
def _weight_slopes(g, w0, n_in, n_out, a, a0, d, d0):
    """g of W (Σ_t d_o a_i) and of b (Σ_t d_o)."""
    b0 = w0 + n_in * n_out
    for o in range(n_out):
        total = _ZERO
        for t in range(_L):
            total += d[d0 + o * _S + t]
        g[b0 + o] = total
    if n_out == _1:
        for i in range(n_in):
            total = _ZERO
            for t in range(_L):
                total += d[d0 + t] * a[a0 + i * _S + t]
            g[w0 + i] = total
        return
    for o in range(_0, n_out, _4):
        q = d0 + o * _S
        for i in range(_0, n_in, _2):
            r = a0 + i * _S
            a0_ = a1_ = b0_ = b1_ = c0_ = c1_ = e0_ = e1_ = _ZERO
            for t in range(_L):
                x, y = a[r + t], a[r + _S + t]
                u, v = d[q + t], d[q + _S + t]
                a0_ += u * x
                a1_ += u * y
                b0_ += v * x
                b1_ += v * y
                u, v = d[q + _2 * _S + t], d[q + _3 * _S + t]
                c0_ += u * x
                c1_ += u * y
                e0_ += v * x
                e1_ += v * y
            k = w0 + o * n_in + i
            g[k], g[k + _1] = a0_, a1_
            g[k + n_in], g[k + n_in + _1] = b0_, b1_
            g[k + _2 * n_in], g[k + _2 * n_in + _1] = c0_, c1_
            g[k + _3 * n_in], g[k + _3 * n_in + _1] = e0_, e1_


@inlined
def _tanh_parts(x):
    """tanh x = a/b by a rational function, within 4 units in the last place of float32.

    Callers divide by ``np.divide``: Python's own division tests for zero, and a loop with a test
    in it does not vectorise.
    """
    x = min(max(x, _F(-7.9)), _F(7.9))
    q = x * x
    a = _F(2.00018790482477e-13) - q * _F(2.76076847742355e-16)
    a = q * a - _F(8.60467152213735e-11)
    a = q * a + _F(5.12229709037114e-08)
    a = q * a + _F(1.48572235717979e-05)
    a = q * a + _F(6.37261928875436e-04)
    a = q * a + _F(4.89352455891786e-03)
    b = q * _F(1.19825839466702e-06) + _F(1.18534705686654e-04)
    b = q * b + _F(2.26843463243900e-03)
    b = q * b + _F(4.89352518554385e-03)
    return x * a, b


@inlined
def _activate(s, r, activation):
    """φ in place: max(z, 0); tanh z; z or e^z − 1 = 2a/(b − a) with tanh(z/2) = a/b."""
    if activation == RELU:
        for t in range(_L):
            s[r + t] = max(s[r + t], _ZERO)
    elif activation == TANH:
        for t in range(_L):
            a, b = _tanh_parts(s[r + t])
            s[r + t] = np.divide(a, b)
    else:
        for t in range(_L):
            z = s[r + t]
            a, b = _tanh_parts(_HALF * min(z, _ZERO))
            s[r + t] = max(z, _ZERO) + np.divide(_TWO * a, b - a)


@inlined
def _derivative(s, r, e, activation):
    """Where s[r] holds φ(z), put φ'(z) times the slope s[e]."""
    if activation == RELU:
        for t in range(_L):
            s[r + t] = s[e + t] if s[r + t] > _ZERO else _ZERO
    elif activation == TANH:
        for t in range(_L):
            s[r + t] = s[e + t] * (_ONE - s[r + t] * s[r + t])
    else:
        for t in range(_L):
            s[r + t] = s[e + t] * (_ONE + min(s[r + t], _ZERO))


@inlined
def _place(seed, unit):
    """Where in the pool the mask of a unit starts: a hash of epoch, minibatch and unit."""
    h = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(unit + 1)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return _U((h ^ (h >> np.uint64(31))) % np.uint64(POOL - LANES))


@inlined
def _drop(s, r, dropped, pool, place):
    """Dropout: zero where the pool's byte is below the rate, the rest scaled up."""
    scale = _F(256.0 / (256.0 - dropped))
    bound = np.uint8(dropped)
    for t in range(_L):
        s[r + t] = scale * s[r + t] if pool[place + t] >= bound else _ZERO


@inlined
def _undrop(s, r, e, dropped, pool, place):
    """Give the slope its mask, and the activation its value before the scaling."""
    scale = _F(256.0 / (256.0 - dropped))
    back = _F((256.0 - dropped) / 256.0)
    bound = np.uint8(dropped)
    for t in range(_L):
        s[e + t] = scale * s[e + t] if pool[place + t] >= bound else _ZERO
    for t in range(_L):
        s[r + t] = back * s[r + t]


@inlined
def _loss(data, y0, s, f0, loss):
    """The loss with weights that sum to 1; its slope takes the place of the output."""
    w0 = y0 + _S
    if loss == PEARSON:
        return _pearson(data, y0, w0, s, f0)
    return _logistic(data, y0, w0, s, f0)


@inlined
def _pearson(data, y0, w0, s, f0):
    """−r, and −∂r/∂f_t = −w_t [(y_t − ȳ)/√(v_f v_y) − r (f_t − f̄)/v_f]."""
    total = mean_f = mean_y = _ZERO
    for t in range(_L):
        w = data[w0 + t]
        total += w
        mean_f += w * s[f0 + t]
        mean_y += w * data[y0 + t]
    mean_f /= total
    mean_y /= total
    v_f = v_y = c = _ZERO
    for t in range(_L):
        w, f, y = data[w0 + t], s[f0 + t] - mean_f, data[y0 + t] - mean_y
        v_f += w * f * f
        v_y += w * y * y
        c += w * f * y
    v_f, v_y, c = v_f / total, v_y / total, c / total
    if v_f <= _TINY or v_y <= _TINY:
        for t in range(_L):
            s[f0 + t] = _ZERO
        return 0.0
    scale = _ONE / np.sqrt(v_f * v_y)
    r = c * scale
    along = r / v_f
    each = _ONE / total
    for t in range(_L):
        w, f, y = data[w0 + t] * each, s[f0 + t] - mean_f, data[y0 + t] - mean_y
        s[f0 + t] = w * (along * f - scale * y)
    return -np.float64(r)


@inlined
def _logistic(data, y0, w0, s, f0):
    """Σ w_t [log(1 + e^{f_t}) − y_t f_t], and its slope w_t (σ(f_t) − y_t).

    With h = tanh(|f|/2): e^{−|f|} = u = (1 − h)/(1 + h), log(1 + u) = 2 artanh(v), v = u/(2 + u).
    """
    total = _ZERO
    for t in range(_L):
        total += data[w0 + t]
    each = _ONE / total
    value = _ZERO
    for t in range(_L):
        w, f, y = data[w0 + t] * each, s[f0 + t], data[y0 + t]
        a, b = _tanh_parts(_HALF * f)
        h = np.divide(a, b)
        k = abs(h)
        u = np.divide(_ONE - k, _ONE + k)
        v = np.divide(u, _TWO + u)
        q = v * v
        tail = _F(1 / 9) + q * (_F(1 / 11) + q * _F(1 / 13))
        log1p = _TWO * v * (_ONE + q * (_F(1 / 3) + q * (_F(1 / 5) + q * (_F(1 / 7) + q * tail))))
        value += w * (log1p + max(f, _ZERO) - y * f)
        s[f0 + t] = w * (_HALF + _HALF * h - y)
    return np.float64(value)


@inlined
def _adam(p, first, second, start, stop, g, rate, step):
    """θ ← θ − α m̂ / (√v̂ + ε), as torch.optim.Adam has it, from β = (.9, .999), ε = 1e-8."""
    size = _F(rate / (1.0 - 0.9**step))
    correct = _F(1.0 / np.sqrt(1.0 - 0.999**step))
    for k in range(stop - start):
        slope = g[k]
        m = _BETA1 * first[start + k] + (_ONE - _BETA1) * slope
        v = _BETA2 * second[start + k] + (_ONE - _BETA2) * slope * slope
        first[start + k], second[start + k] = m, v
        p[start + k] -= np.divide(size * m, np.sqrt(v) * correct + _EPS)
