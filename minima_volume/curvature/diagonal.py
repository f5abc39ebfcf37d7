"""The diagonal of the Gauss-Newton matrix: exact where the landscape is small, else by random signs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from minima_volume.curvature.hessian import MeanLoss
from minima_volume.curvature.kernels import plain_kernels
from minima_volume.errors import ConfigError
from minima_volume.losses.loss import Loss, Root
from minima_volume.seeding import generator

EXACT_PASSES = 4096
RANDOM_PASSES = 512
BATCH_BYTES = 2**28  # gradients that are taken at once


def gauss_newton_diagonal(mean_loss: MeanLoss, *, num_passes: int | None = None, seed: int = 1) -> Tensor:
    """The diagonal of G = mean_i J_i' H_i J_i with respect to z, (N,) float64, N entries with those where F = 0 (there it is 0).

    J_i are the derivatives of the outputs of sample i and H_i = S_i S_i' the Hessian of its loss with respect to them, so with
    any e of independent random signs diag G = E (J' S e)^2 over the samples: one backward pass for all of them at a relative
    standard deviation of sqrt(2), and nothing that can become negative. Summed over unit vectors e instead, one sample and
    output at a time, it is exact. Where the outputs fit the targets, G is the Hessian.

    Args:
        mean_loss: the loss and its coordinates.
        num_passes: random passes; by default the diagonal is exact where samples x outputs are at most 4,096, else 512.
        seed: of the signs.

    Raises:
        ConfigError: the loss has no second derivative.

    Source: Martens and Sutskever 2012, "Estimating the Hessian by Back-propagating Curvature", for the random estimate.
    """
    minimum = mean_loss.directions.minimum
    sums = [torch.zeros_like(tensor, dtype=torch.float64) for tensor in minimum]
    at_once = max(1, BATCH_BYTES // sum(tensor.nbytes for tensor in minimum))
    random = generator(seed, "curvature signs")
    with mean_loss.at() as parameters, torch.enable_grad(), plain_kernels():
        for x, y in mean_loss._tiles():
            outputs = mean_loss.outputs(x)
            if not isinstance(outputs, Tensor):
                raise ConfigError(
                    f"the Gauss-Newton matrix needs a model that returns one tensor, not a {type(outputs).__name__}; take preconditioner "
                    "'full' or 'adam'"
                )
            root = _hessian_root(mean_loss.loss, outputs.detach(), y)
            exact = num_passes is None and mean_loss.num_samples * outputs[0].numel() <= EXACT_PASSES
            passes = outputs.numel() if exact else num_passes or RANDOM_PASSES
            for start in range(0, passes, at_once):
                count = min(at_once, passes - start)
                if exact:
                    signs = torch.eye(outputs.numel(), dtype=outputs.dtype, device=outputs.device)[
                        start : start + count
                    ]
                else:
                    draws = torch.randint(0, 2, (count, outputs.numel()), generator=random, device="cpu")
                    signs = (2 * draws - 1).to(outputs)
                weighted = root(signs.reshape(count, *outputs.shape))
                gradients = torch.autograd.grad(
                    outputs, parameters, weighted, is_grads_batched=True, retain_graph=True, materialize_grads=True
                )
                for total, gradient in zip(sums, gradients, strict=True):
                    total += gradient.double().square().sum(0) / (1 if exact else passes)
    factors = zip(sums, mean_loss.directions.factors, strict=True)
    diagonal = torch.cat([(total * factor.double().square()).reshape(-1).cpu() for total, factor in factors])
    return diagonal / mean_loss.num_samples


def _hessian_root(loss: Loss, outputs: Tensor, y: Tensor) -> Root:
    """e -> S e, where S S' is the Hessian of each sample's loss with respect to its outputs.

    Args:
        outputs: (T, ..., C), as the loss reads them; e is (B, T, ..., C).
        y: (T, ...) targets.
    """
    if loss.hessian_root is not None:
        return loss.hessian_root(outputs)
    values, vectors = torch.linalg.eigh(_output_hessian(loss, outputs, y))
    roots = vectors * values.clamp(min=0).sqrt().unsqueeze(1)
    return lambda e: (roots @ e.flatten(2).unsqueeze(-1)).reshape(e.shape)


def _output_hessian(loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """(T, M, M) of a loss without a closed form, by differentiating twice."""
    loss, outputs = replace(loss, arrange=None), outputs.clone().requires_grad_()  # they have been read
    first = torch.autograd.grad(loss.per_sample(outputs, y).sum(), outputs, create_graph=True)[0].flatten(1)
    if not first.requires_grad:
        raise ConfigError(f"loss {loss.name!r} has no second derivative with respect to the outputs")
    rows = [
        torch.autograd.grad(first[:, column].sum(), outputs, retain_graph=True, materialize_grads=True)[0].flatten(1)
        for column in range(first.shape[1])
    ]
    hessian = torch.stack(rows, 1)
    return (hessian + hessian.transpose(1, 2)) / 2
