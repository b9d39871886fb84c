"""`ImportanceModel`: the exact optimum, as scikit-learn expects an estimator to be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from leray.errors import LerayError
from leray.memory.blocks import FOUR
from leray.memory.importance import ImportanceModel
from leray.memory.methods import simplex_grid


def planted(
    num_rows: int = 400, num_signals: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals, a truth that two of them make, and ten conversations."""
    rng = np.random.default_rng(seed)
    X = rng.random((num_rows, num_signals))
    y = 0.3 * X[:, 1] + 0.7 * X[:, 2] + 0.3 * rng.standard_normal(num_rows)
    return X, y, np.arange(num_rows) * 10 // num_rows


@parametrize_with_checks([ImportanceModel()])
def test_scikit_learn_contract(estimator, check) -> None:
    """Oracle: every check of scikit-learn; none is expected to fail."""
    check(estimator)


def test_the_optimum_beats_every_grid_point() -> None:
    """Oracle: numpy's correlation on the rows, at the weights and on the grid of step .05."""
    X, y, _ = planted()
    model = ImportanceModel().fit(X, y)
    assert model.r_ == pytest.approx(np.corrcoef(X @ model.weights_, y)[0, 1], abs=1e-12)
    grid = [np.corrcoef(X @ w, y)[0, 1] for w in simplex_grid(4, 0.05)]
    assert model.r_ >= max(grid) - 1e-12
    assert model.weights_.sum() == pytest.approx(1)
    assert model.optimality_residual_ < 1e-12


def test_prediction_is_the_least_squares_line() -> None:
    """Oracle: numpy's polyfit of the truth on the score."""
    X, y, _ = planted()
    model = ImportanceModel().fit(X, y)
    slope, intercept = np.polyfit(X @ model.weights_, y, 1)
    np.testing.assert_allclose(model.predict(X), intercept + slope * (X @ model.weights_))
    np.testing.assert_allclose(model.coef_, slope * model.weights_, atol=1e-9)
    assert model.score(X, y) == pytest.approx(model.r_)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_weights_ignore_the_unit_of_the_truth(seed: int, scale: float, shift: float) -> None:
    """Identity: r does not change under y → scale · y + shift, nor under the order of rows."""
    X, y, _ = planted(60, 3, seed)
    order = np.random.default_rng(seed).permutation(len(y))
    one = ImportanceModel().fit(X, y)
    other = ImportanceModel().fit(X[order], scale * y[order] + shift)
    np.testing.assert_allclose(other.weights_, one.weights_, atol=1e-7)
    np.testing.assert_allclose(
        other.predict(X), scale * one.predict(X) + shift, rtol=1e-7, atol=1e-7 * (scale + 100)
    )


def test_intervals_come_from_leaving_conversations_out() -> None:
    """Oracle: Student's t on refits without each conversation in turn."""
    from scipy import stats

    X, y, conversations = planted()
    model = ImportanceModel(level=0.9).fit(X, y, conversations)
    left = np.array(
        [
            ImportanceModel().fit(X[c], y[c]).weights_
            for k in range(10)
            for c in [conversations != k]
        ]
    )
    se = np.sqrt(0.9 * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    half = stats.t.ppf(0.95, 9) * se
    assert model.intervals_ is not None
    for j in (1, 2):
        interval = model.intervals_[j]
        assert (interval.kind, interval.level, interval.n) == ("jackknife-t", 0.9, 10)
        assert interval.low == pytest.approx(model.weights_[j] - half[j])
        assert interval.high == pytest.approx(model.weights_[j] + half[j])


def test_a_weight_on_the_boundary_has_an_upper_bound() -> None:
    """Identity: signals that do not matter are bounded from above only."""
    X, y, conversations = planted()
    X[:, 0] = -y
    intervals = ImportanceModel().fit(X, y, conversations).intervals_
    assert intervals is not None
    assert (intervals[0].kind, intervals[0].low) == ("upper", 0.0)


def test_labels_of_conversations_do_not_matter() -> None:
    """Identity: words for numbers, the same intervals."""
    X, y, conversations = planted()
    names = np.array([f"conversation {k}" for k in conversations])
    one = ImportanceModel().fit(X, y, conversations).intervals_
    assert ImportanceModel().fit(X, y, names).intervals_ == one


def test_no_interval_without_two_conversations() -> None:
    """Identity: none asked for, or a single one: None."""
    X, y, _ = planted()
    assert ImportanceModel().fit(X, y).intervals_ is None
    assert ImportanceModel().fit(X, y, np.zeros(len(y))).intervals_ is None


def test_a_truth_that_lives_in_one_conversation_has_no_interval() -> None:
    """Oracle: the warning says why."""
    X, _, conversations = planted()
    y = (conversations == 3) * X[:, 0]
    with pytest.warns(UserWarning, match="without one of the conversations the truth"):
        assert ImportanceModel().fit(X, y, conversations).intervals_ is None


def test_constant_signals_get_no_weight() -> None:
    """Identity: a constant column is as good as absent."""
    X, y, _ = planted(num_signals=3)
    with_constant = np.column_stack([X, np.full(len(X), 7.0)])
    model = ImportanceModel().fit(with_constant, y)
    np.testing.assert_allclose(model.weights_, [*ImportanceModel().fit(X, y).weights_, 0.0])


def test_a_column_that_comes_twice_changes_nothing() -> None:
    """Identity: the same prediction, though the covariances of nine columns are singular."""
    X, y, _ = planted(num_signals=8)
    once, twice = ImportanceModel().fit(X, y), ImportanceModel()
    twice.fit(np.column_stack([X, X[:, 2]]), y)
    np.testing.assert_allclose(twice.predict(np.column_stack([X, X[:, 2]])), once.predict(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, np.ones(len(y))), "y is 1 in all 400 rows"),
        (lambda X, y: (np.ones_like(X), y), "every column of X is constant"),
    ],
)
def test_nothing_to_correlate(change, message: str) -> None:
    """Oracle: the line that the user reads."""
    X, y, _ = planted()
    with pytest.raises(LerayError, match=message):
        ImportanceModel().fit(*change(X, y))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 95}, "level is 95; allowed: between 0 and 1"),
        ({"num_resamples": 0}, "num_resamples is 0"),
        ({"signals": ("decay",)}, "signals names 1 columns, but X has 4"),
    ],
)
def test_settings_that_make_no_sense(settings: dict, message: str) -> None:
    """Oracle: the line that the user reads."""
    X, y, _ = planted()
    with pytest.raises(LerayError, match=message):
        ImportanceModel(**settings).fit(X, y)


def test_works_in_cross_validation() -> None:
    """Golden: scikit-learn's own cross-validation, scored by Pearson's r."""
    X, y, _ = planted()
    scores = cross_val_score(ImportanceModel(), X, y, cv=4)
    assert scores.shape == (4,)
    assert (scores > 0.4).all()


def test_json_keeps_the_fitted_model() -> None:
    """Identity: what is read back predicts and knows the same, to the last bit."""
    X, y, conversations = planted()
    model = ImportanceModel(signals=FOUR, level=0.9).fit(X, y, conversations)
    text = model.to_json(tau=3600.0, provenance={"data": "planted", "seed": 0})
    back = ImportanceModel.from_json(text)
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    assert back.intervals_ == model.intervals_
    assert (back.signals_, back.r_, back.level) == (FOUR, model.r_, 0.9)
    assert back.to_json(tau=3600.0, provenance={"data": "planted", "seed": 0}) == text


def test_json_needs_the_names_of_signals() -> None:
    """Oracle: columns that nobody named cannot be ranked with."""
    X, y, _ = planted()
    with pytest.raises(LerayError, match="unknown signal 'x0'"):
        ImportanceModel().fit(X, y).to_json(tau=1.0)


def test_json_of_another_method_is_refused() -> None:
    """Oracle: the line that the user reads."""
    text = '{"format": "leray.weights/1", "method": "logistic", "weights": {"length": -1.5}}'
    with pytest.raises(LerayError, match=r"\(logistic, signed\) are not of an ImportanceModel"):
        ImportanceModel.from_json(text)
