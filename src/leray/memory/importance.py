"""`ImportanceModel`: the weights on the simplex that correlate best with what mattered, exactly.

Notation: n rows (query, turn), d signals, w on the simplex {w ≥ 0, Σw = 1}; score s = Xw. The
optimum comes from the moment table alone (`leray.evidence.optimum`), so a fit is one pass over the
rows, and each resample of conversations a product and a small refit.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from leray.errors import LerayError
from leray.evidence.bootstrap import Interval, leave_one_out, resample_counts, weight_intervals
from leray.evidence.moments import Covariances, MomentTable, covariances, moment_table
from leray.evidence.optimum import simplex_optimum
from leray.memory.weights import Calibration, Embedder, Fact, LinearWeights

Array = np.ndarray
_CONSTANT = 1e-12  # of the whole variance: what is left below it is rounding


class ImportanceModel(RegressorMixin, BaseEstimator):
    """Linear weights on the simplex with the largest Pearson correlation, as a regressor.

    w = argmax r(Xw, y) over {w ≥ 0, Σw = 1}; the prediction is the least-squares line
    intercept + slope · Xw. Where every signal correlates negatively with y, the best single one is
    chosen and the slope is negative.

    Parameters
    ----------
    level : float, default=0.95
        Of the intervals, between 0 and 1.
    num_resamples : int, default=2000
        Cluster bootstrap resamples, which tell the weights on the boundary.
    random_state : int, default=0
        Seed of the resamples.
    signals : sequence of str or None, default=None
        Names of the columns of X, where X does not carry them.

    Attributes
    ----------
    weights_ : ndarray of shape (n_features_in_,)
        On the simplex; a constant signal has 0.
    coef_ : ndarray of shape (n_features_in_,)
        slope · weights.
    intercept_, slope_ : float
        Of the prediction.
    r_ : float
        Pearson's r of the score with y.
    optimality_residual_ : float
        The largest violation of the optimality conditions, relative; 0 certifies the optimum.
    signals_ : tuple of str
        The names of the columns; x0, x1, … where nobody named them.
    intervals_ : list of Interval or None
        One a weight: jackknife-t inside the simplex, a one-sided upper bound on its boundary.
        None without at least two conversations.
    n_features_in_ : int
        Number of signals.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Defined where X names its columns.

    Notes
    -----
    Cost: one pass, n·d²/2 multiplications; then one refit for each resample.

    Examples
    --------
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> model = ImportanceModel().fit(X, X @ [3.0, 1.0])
    >>> model.weights_.round(3).tolist(), round(model.r_, 3), round(model.slope_, 3)
    ([0.75, 0.25], 1.0, 4.0)
    """

    n_features_in_: int  # set by scikit-learn's validation, and by from_json
    feature_names_in_: Array

    def __init__(
        self,
        *,
        level: float | Any = 0.95,  # scikit-learn checks in fit, so that any value may be set
        num_resamples: int | Any = 2_000,
        random_state: int | Any = 0,
        signals: Sequence[str] | Any = None,
    ) -> None:
        self.level = level
        self.num_resamples = num_resamples
        self.random_state = random_state
        self.signals = signals

    def fit(self, X: Any, y: Any, conversations: Any = None) -> ImportanceModel:
        """Find the weights.

        Args:
            X: The signals, ``[rows, signals]``.
            y: What mattered, ``[rows]``.
            conversations: The conversation of each row (any labels), for the intervals.

        Raises:
            LerayError: y is constant, or every signal is: there is no correlation.
        """
        if not 0 < self.level < 1:
            raise LerayError(f"level is {self.level}; allowed: between 0 and 1, such as 0.95")
        if self.num_resamples < 1:
            raise LerayError(f"num_resamples is {self.num_resamples}; allowed: at least 1")
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        self.signals_ = self._names()
        _refuse_constants(X, y)
        table = _table(X, np.asarray(y, dtype=np.float64), conversations, self.signals_)
        moments = covariances(table.total)
        best = simplex_optimum(moments)
        self.weights_ = best.w
        self.r_, self.optimality_residual_ = float(best.r), float(best.residual)
        self._calibrate(table, moments)
        self.intervals_ = self._intervals(table, moments) if len(table.clusters) > 1 else None
        return self

    def decision_score(self, X: Any) -> Array:
        """The score Xw, ``[rows]``: what ranks the turns."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False) @ self.weights_

    def predict(self, X: Any) -> Array:
        """intercept + slope · Xw, ``[rows]``."""
        score = self.decision_score(X)
        return self.intercept_ + self.slope_ * score

    def score(self, X: Any, y: Any, sample_weight: None = None) -> float:
        """Pearson's r of the prediction with y; 0 where either is constant.

        Raises:
            LerayError: Where sample weights are given: they would have no effect.
        """
        if sample_weight is not None:
            raise LerayError("score takes no sample_weight: Pearson's r here counts rows alike")
        predicted = self.predict(X)
        a = predicted - predicted.mean()
        truth = column_or_1d(y).astype(np.float64)
        check_consistent_length(predicted, truth)
        b = truth - truth.mean()
        scale = np.sqrt((a @ a) * (b @ b))
        return float(a @ b / scale) if scale > 0 else 0.0

    def to_weights(
        self,
        *,
        tau: float | None = None,
        embedder: Embedder | None = None,
        provenance: Mapping[str, Fact] | None = None,
    ) -> LinearWeights:
        """The fitted weights, ready to rank with and to keep.

        Args:
            tau: The time constant of ``decay`` in X, in seconds; needed where it has a weight.
            embedder: What gave the embeddings behind X.
            provenance: Data, run, seed, date, version and the like.

        Raises:
            LerayError: A column is not named as one of the signals of `leray.memory.blocks.ALL`.
        """
        check_is_fitted(self)
        return LinearWeights(
            method="pearson",
            signals=self.signals_,
            values=self.weights_,
            tau=tau,
            intervals=None if self.intervals_ is None else tuple(self.intervals_),
            calibration=Calibration(
                intercept=self.intercept_,
                slope=self.slope_,
                r=self.r_,
                optimality_residual=self.optimality_residual_,
                named_columns=hasattr(self, "feature_names_in_"),
            ),
            embedder=embedder,
            provenance={} if provenance is None else provenance,
        )

    def to_json(
        self,
        *,
        tau: float | None = None,
        embedder: Embedder | None = None,
        provenance: Mapping[str, Fact] | None = None,
    ) -> str:
        """`to_weights` as one readable JSON object."""
        return self.to_weights(tau=tau, embedder=embedder, provenance=provenance).to_json()

    @classmethod
    def from_json(cls, text: str) -> ImportanceModel:
        """The fitted model that `to_json` wrote.

        Raises:
            LerayError: The text is no weights file, or its weights are not on the simplex, or it
                has no line from score to importance.
        """
        read = LinearWeights.from_json(text)
        if read.calibration is None or read.kind != "simplex":
            raise LerayError(
                f"these weights ({read.method}, {read.kind}) are not of an ImportanceModel, which "
                "needs weights on the simplex and a 'calibration'; rank with them instead"
            )
        intervals = None if read.intervals is None else list(read.intervals)
        model = cls(signals=None if read.calibration.named_columns else read.signals)
        if intervals:
            model.level = intervals[0].level
        if read.calibration.named_columns:
            model.feature_names_in_ = np.array(read.signals, dtype=object)
        model.signals_, model.n_features_in_ = read.signals, len(read.signals)
        model.weights_ = np.array(read.values)
        model.intercept_, model.slope_ = read.calibration.intercept, read.calibration.slope
        model.coef_ = model.slope_ * model.weights_
        model.r_ = read.calibration.r
        model.optimality_residual_ = read.calibration.optimality_residual
        model.intervals_ = intervals
        return model

    def _names(self) -> tuple[str, ...]:
        d = self.n_features_in_
        own = getattr(self, "feature_names_in_", None)
        given = None if self.signals is None else tuple(self.signals)
        if given is not None and len(given) != d:
            raise LerayError(f"signals names {len(given)} columns, but X has {d}")
        if given is not None and own is not None and given != tuple(own):
            raise LerayError(f"signals is {given}, but X names its columns {tuple(own)}")
        names = own if own is not None else given
        return tuple(f"x{j}" for j in range(d)) if names is None else tuple(map(str, names))

    def _calibrate(self, table: MomentTable, moments: Covariances) -> None:
        w = self.weights_
        mean = table.origin + table.total[1 : len(w) + 2] / table.total[0]
        self.slope_ = float(w @ moments.b / (w @ moments.S @ w))
        self.intercept_ = float(mean[-1] - self.slope_ * (w @ mean[:-1]))
        self.coef_ = self.slope_ * w

    def _intervals(self, table: MomentTable, moments: Covariances) -> list[Interval] | None:
        left = covariances(leave_one_out(table.sums))
        if not _varies(left, moments).all():
            warnings.warn(
                "no intervals: without one of the conversations the truth or every signal is "
                "constant, so the others say nothing of the weights",
                stacklevel=3,
            )
            return None
        rng = np.random.default_rng(self.random_state)
        counts = resample_counts(self.num_resamples, len(table.clusters), rng)
        drawn = covariances(counts @ table.sums)
        usable = _varies(drawn, moments)
        resampled = simplex_optimum(Covariances(*(m[usable] for m in drawn))).w
        return weight_intervals(self.weights_, resampled, simplex_optimum(left).w, self.level)


def _refuse_constants(X: Array, y: Array) -> None:
    mend = "Pearson's r needs both to vary"
    if y.min() == y.max():
        raise LerayError(
            f"y is {y[0]:g} in all {len(y)} rows, so nothing correlates with it; {mend}"
        )
    if (X.min(axis=0) == X.max(axis=0)).all():
        raise LerayError(f"every column of X is constant in all {len(y)} rows; {mend}")


def _varies(some: Covariances, whole: Covariances) -> Array:
    """Whether the truth and at least one signal vary in each problem of a batch."""
    variance = np.einsum("...jj->...j", some.S).max(axis=-1)
    return (some.s > _CONSTANT * whole.s) & (variance > _CONSTANT * np.diagonal(whole.S).max())


def _table(X: Array, y: Array, conversations: Any, signals: tuple[str, ...]) -> MomentTable:
    """The moment table of the rows, a cluster a conversation."""
    if conversations is None:
        return moment_table([("all", X.T, y)], signals)
    labels = column_or_1d(conversations).tolist()
    check_consistent_length(X, labels)
    place = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    index = np.array([place[label] for label in labels])
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(1, len(place)))
    rows = zip(place.values(), np.split(order, starts), strict=True)
    return moment_table(((str(k), X[r].T, y[r]) for k, r in rows), signals)
