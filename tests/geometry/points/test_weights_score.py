"""The score that weights are chosen by: in distances, whatever the function's scale."""

import numpy as np
import pytest

from isolux.geometry.points.weights import _unscaled


def test_a_function_that_is_pressed_flat_predicts_no_better() -> None:
    draw = np.random.default_rng(3)
    normal = draw.normal(size=(400, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    value, gradient = draw.normal(size=400), normal + 0.1 * draw.normal(size=(400, 3))

    def squares(factor: float) -> tuple[float, float]:
        return _unscaled(factor * value, factor * gradient, normal)

    plain = squares(1.0)
    for factor in (0.02, 0.5, 3.0):
        assert squares(factor) == pytest.approx(plain, rel=1e-6)
    assert plain[1] == pytest.approx(0.03, rel=0.3)
