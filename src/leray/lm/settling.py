"""Which level learns when, and through which window: curricula over levels.

- local first: a window w opens in stages s = 0, 1, …, min(w, w₀ · 2ˢ), until every layer sees what
  its configuration says;
- rates by level: the rate of a level's weights times a factor to the power of its place, lower
  levels first (factor < 1) or last (factor > 1);
- opening: a level's weights stay as drawn until its turn: level ℓ of L learns from the fraction
  ``opening`` · ℓ/L of the run on. Branches begin as nothing, so that a closed level is skipped.

Source: Bengio et al., Curriculum learning (ICML 2009); Press et al., Shortformer (arXiv
2012.15832), for short windows first; Raghu et al., SVCCA (arXiv 1706.05806), for layers that settle
from below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from leray.lm.checks import check_bounds
from leray.lm.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class SettlingConfig:
    """Curricula over levels; as it stands, none."""

    local_first: float = 0.0
    """The fraction of the run by whose end all windows are open."""
    first_window: int = 16
    """Tokens that layers see at first, where windows open."""
    level_rate: float = 1.0
    """A level's rate relative to that of the level below."""
    opening: float = 0.0
    """The fraction of the run by whose end all levels learn."""

    def __post_init__(self) -> None:
        check_bounds(
            local_first=(self.local_first, 0, 1),
            opening=(self.opening, 0, 1),
            first_window=(self.first_window, 1, 2**24),
            level_rate=(self.level_rate, 1e-3, 1e3),
        )

    def check(self, model: ModelConfig) -> None:
        """Refuse what has no effect.

        Raises:
            ValueError: A curriculum over levels for a model of one level.
        """
        if model.num_levels < 2 and (self.level_rate != 1 or self.opening):
            raise ValueError("level_rate and opening have no effect without two windows")
        if model.gluing and self.local_first:
            raise ValueError("gluing takes whole patches: leave local_first out")
        if self.first_window != 16 and not self.local_first:
            raise ValueError("first_window has no effect without local_first")

    def window(self, window: int | None, frac: float, context: int) -> int | None:
        """What a layer of this window sees when ``frac`` of the run is done: doubling stages."""
        if not self.local_first or frac >= self.local_first:
            return window
        stages = max(1, math.ceil(math.log2(max(2, context / self.first_window))))
        open_now = self.first_window * 2 ** int(frac / self.local_first * stages)
        return open_now if window is None else min(window, open_now)

    def rate(self, level: int, num_levels: int, frac: float) -> float:
        """What the rate of a level's weights is multiplied by; 0 where it is closed."""
        if frac < self.opening * level / num_levels:
            return 0.0
        return self.level_rate**level


def level_of_layer(model: ModelConfig, layer: int) -> int:
    """The place of a layer's level, from 0."""
    return sum(end < layer for end in model.level_ends)
