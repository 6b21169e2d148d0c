r"""What a network predicts, and how one prediction becomes another. Nothing else in the project converts.

Letters: x = alpha x_0 + sigma eps with alpha^2 + sigma^2 = 1, the coordinates of step tables (x_t of any path divided
by sqrt(alpha_t^2 + sigma_t^2)). The names are those of diffusers:

    "epsilon"        eps
    "sample"         x_0
    "v_prediction"   v = alpha eps - sigma x_0      (Salimans & Ho 2022, section 4)
    "flow"           u = eps - x_0                  (the velocity of rectified flow)

eps, x_0 and u do not depend on the coordinates; v is defined in these, as in diffusers' ``EulerDiscreteScheduler``.

Shapes: ``x``, ``x0``, ``eps`` and a prediction have one shape (*batch, *shape); ``alpha`` and ``sigma`` have one shape,
which broadcasts to it.
"""

from __future__ import annotations

from torch import Tensor

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow")


def check_prediction(kind: str) -> str:
    """``kind`` itself; ValueError where it is none of `PREDICTIONS`."""
    if kind not in PREDICTIONS:
        raise ValueError(f"Unknown prediction {kind!r}. A network predicts one of {list(PREDICTIONS)}.")
    return kind


def target(kind: str, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a network of ``kind`` should predict for data ``x0`` and noise ``eps`` (*batch, *shape each)."""
    _assert_shapes(x0, eps, alpha, sigma)
    match check_prediction(kind):
        case "epsilon":
            return eps
        case "sample":
            return x0
        case "v_prediction":
            return alpha * eps - sigma * x0
        case _:
            return eps - x0


def to_epsilon(kind: str, prediction: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """eps (*batch, *shape) from the ``prediction`` of ``kind`` at ``x``. A "sample" needs sigma > 0."""
    _assert_shapes(prediction, x, alpha, sigma)
    match check_prediction(kind):
        case "epsilon":
            return prediction
        case "sample":
            return (x - alpha * prediction) / sigma
        case "v_prediction":
            return alpha * prediction + sigma * x
        case _:
            return (x + alpha * prediction) / (alpha + sigma)


def to_sample(kind: str, prediction: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_0 (*batch, *shape) from the ``prediction`` of ``kind`` at ``x``. An "epsilon" needs alpha > 0."""
    _assert_shapes(prediction, x, alpha, sigma)
    match check_prediction(kind):
        case "epsilon":
            return (x - sigma * prediction) / alpha
        case "sample":
            return prediction
        case "v_prediction":
            return alpha * x - sigma * prediction
        case _:
            return (x - sigma * prediction) / (alpha + sigma)


def convert(kind: str, prediction: Tensor, to: str, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The prediction of kind ``to`` (*batch, *shape) from that of ``kind``, through x_0 and eps.

    Not through eps alone: where alpha is near 0, eps says next to nothing about x_0.
    """
    x0, eps = (read(kind, prediction, x, alpha, sigma) for read in (to_sample, to_epsilon))
    return target(to, x0, eps, alpha, sigma)


def squared_slope(kind: str, alpha_bar: Tensor) -> Tensor:
    """(d eps / d prediction)^2 at levels with ``alpha_bar`` = alpha^2, of the same shape.

    A squared error of eps divided by it is the squared error of the prediction of ``kind``.
    """
    match check_prediction(kind):
        case "epsilon":
            return alpha_bar.new_ones(alpha_bar.shape)
        case "sample":
            return alpha_bar / (1 - alpha_bar)
        case "v_prediction":
            return alpha_bar
        case _:
            return alpha_bar / (alpha_bar.sqrt() + (1 - alpha_bar).sqrt()) ** 2


def _assert_shapes(first: Tensor, second: Tensor, alpha: Tensor, sigma: Tensor) -> None:
    assert first.shape == second.shape, (first.shape, second.shape)
    assert alpha.shape == sigma.shape, (alpha.shape, sigma.shape)
    assert alpha.broadcast_to(first.shape).shape == first.shape
