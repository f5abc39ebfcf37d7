"""How samples are made: drawn (data), with wrong labels (poison), from nothing (noise), or with imbalanced classes."""

from __future__ import annotations

import torch
from torch import Tensor

from minima_volume.config.run import Imbalance
from minima_volume.data.pool import Pool
from minima_volume.errors import DataError
from minima_volume.seeding import generator


def poison_labels(labels: Tensor, num_classes: int, seed: int) -> Tensor:
    """Replace every label by another one, uniformly among the others.

    Args:
        labels: (N,) integers, or 0.0 / 1.0 for a single logit.
        num_classes: number of classes; 1 means a single logit.
        seed: the data seed.

    Returns:
        (N,) labels, each different from the true one.

    >>> poison_labels(torch.tensor([0.0, 1.0]), 1, seed=3)
    tensor([1., 0.])
    """
    if labels.ndim != 1:
        raise DataError(f"poison needs class labels of shape (N,), the source gives {tuple(labels.shape)}")
    classes = max(num_classes, 2)
    shift = torch.randint(1, classes, labels.shape, generator=generator(seed, "poison"))
    return (labels.long() + shift).remainder(classes).to(labels.dtype)


def noise_samples(x_base: Tensor, y_base: Tensor, count: int, num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Gaussian inputs with the base set's mean and standard deviation (over all its entries) and random labels.

    Args:
        x_base: (B, ...) base inputs.
        y_base: (B,) base labels.
        count: samples to make.
        num_classes: number of classes; 1 means a single logit.
        seed: the data seed.

    Returns:
        (count, ...) inputs and (count,) labels.
    """
    if y_base.ndim != 1:
        raise DataError(f"noise needs class labels of shape (N,), the source gives {tuple(y_base.shape)}")
    random = generator(seed, "noise")
    x = x_base.mean() + x_base.std() * torch.randn((count, *x_base.shape[1:]), generator=random)
    y = torch.randint(0, max(num_classes, 2), (count,), generator=random).to(y_base.dtype)
    return x, y


def imbalanced_order(order: Tensor, labels: Tensor, size: int, drawn: int, imbalance: Imbalance) -> Tensor:
    """Samples in the order in which they are drawn when a share of them is to have certain labels.

    The favoured samples and the others each come in the order in which they would be drawn anyway. Where the draw is
    imbalanced, sample i (counted from 0 in its part, base or additional) is a favoured one exactly when the rounded number of
    them, floor(ratio * i + 1/2), rises from i to i + 1: every prefix, and so every level, has the ratio to within one sample,
    and does not change when more samples are asked for. Elsewhere the next sample is the next of the order that is left.

    Args:
        order: (N,) a permutation of the pool.
        labels: (N,) integer labels of the pool.
        size: base samples.
        drawn: base and additional samples.
        imbalance: labels, ratio, and where it holds.

    Returns:
        (drawn,) indices into the pool.

    Raises:
        DataError: the source has too few samples of either kind, or no such label.

    >>> order, labels = torch.arange(8), torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    >>> imbalanced_order(order, labels, 4, 6, Imbalance(labels=[1], ratio=0.75)).tolist()
    [1, 3, 0, 5, 2, 4]
    """
    if labels.ndim != 1 or not bool((labels == labels.long()).all()):
        raise DataError(f"data.imbalance needs class labels of shape (N,), the source gives {tuple(labels.shape)}")
    if absent := sorted(set(imbalance.labels) - set(labels.unique().tolist())):
        raise DataError(f"data.imbalance.labels: no sample of the source has label {', '.join(map(str, absent))}")
    favoured = torch.isin(labels, torch.tensor(imbalance.labels).to(labels.dtype))[order]
    left = torch.ones(len(order), dtype=torch.bool)
    chosen: list[Tensor] = []
    for count, applies in ((size, imbalance.base), (drawn - size, imbalance.additional)):
        positions = left.nonzero()[:count, 0]
        if applies:
            rises = (imbalance.ratio * torch.arange(count + 1, dtype=torch.float64) + 0.5).floor().diff().bool()
            for kind, word in ((True, "with"), (False, "without")):
                have, wanted = (left & (favoured == kind)).nonzero()[:, 0], rises == kind
                if len(have) < int(wanted.sum()):
                    raise DataError(
                        f"data.imbalance: ratio {imbalance.ratio:g} asks for {int(wanted.sum())} samples {word} labels "
                        f"{imbalance.labels} among {count} {'base' if not chosen else 'additional'} samples, "
                        f"but the source has {len(have)} (not drawn yet)"
                    )
                positions[wanted] = have[: int(wanted.sum())]
        left[positions] = False
        chosen.append(order[positions])
    return torch.cat(chosen)


def draw(
    pool: Pool, variant: str, base_size: int, count: int, seed: int, imbalance: Imbalance | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draw the base samples first, then one set of additional samples; level q is its first q.

    Args:
        pool: the source's samples.
        variant: data, poison or noise.
        base_size: samples that every model sees.
        count: additional samples, the largest level.
        seed: the data seed.
        imbalance: which classes are drawn more often than others; None for all alike.

    Returns:
        x_base, y_base, x_additional, y_additional, and the (base_size + count,) indices into the pool
        (-1 for samples that were made up).

    Raises:
        DataError: more samples are asked for than the source has.
    """
    available = len(pool.x_train)
    drawn = base_size + (0 if variant == "noise" else count)
    if drawn > available:
        raise DataError(
            f"data.base_size {base_size} + largest of data.levels {count} = {drawn} samples, "
            f"but the source has {available} training samples"
        )
    order = torch.randperm(available, generator=generator(seed, "draw"))
    indices = order[:drawn] if imbalance is None else imbalanced_order(order, pool.y_train, base_size, drawn, imbalance)
    base, additional = indices[:base_size], indices[base_size:]
    x_base, y_base = pool.x_train[base], pool.y_train[base]
    if variant == "noise":
        x, y = noise_samples(x_base, y_base, count, pool.num_classes, seed)
        return x_base, y_base, x, y, torch.cat([indices, torch.full((count,), -1)])
    x, y = pool.x_train[additional], pool.y_train[additional]
    if variant == "poison":
        y = poison_labels(y, pool.num_classes, seed)
    return x_base, y_base, x, y, indices
