"""Particles: many unrelated perturbed parameter vectors theta* + sigma F z of one model, z standard normal.

Splitting and weight noise ask for thousands of these. A particle is a row of numbers z; how many it has is the path's business,
since coordinates that the samples cannot see need not be drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from minima_volume.errors import ConfigError
from minima_volume.perturbation.cnn_path import CNNPath
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.general_path import GeneralPath
from minima_volume.perturbation.mlp_particles import MLPParticles
from minima_volume.perturbation.mlp_path import MLPPath
from minima_volume.perturbation.tiles import Tile
from minima_volume.perturbation.values import Values


class Runner(Protocol):
    """One way of running a model at unrelated parameter vectors."""

    dim: int  # numbers that make one particle
    chunk: int  # particles that are best run together
    drawn: int  # particles whose numbers come from one call of the generator; other numbers come from other calls

    def stack(self, z: Tensor, sigma: float) -> Any: ...

    def take(self, stacked: Any, rows: Tensor) -> Any: ...

    def outputs(self, stacked: Any, tiles: Sequence[Tile]) -> Iterable[Any]: ...


class WholeParticles:
    """Particles of all n numbers, for the paths that run one parameter vector after the other."""

    def __init__(self, path: GeneralPath | CNNPath) -> None:
        self.path, self.base = path, path.base
        self.counts = [shape.numel() for shape in self.base.shapes]
        self.dim, self.chunk, self.drawn = sum(self.counts), path.chunk_for(path.tiles[-1].stop), path.chunk

    def stack(self, z: Tensor, sigma: float) -> Any:
        """Parameter vectors theta* + sigma F z, one for each row of z (B, dim)."""
        return self.path.written([partial(self._write, row, sigma) for row in z])

    def _write(self, z: Tensor, sigma: float, out: Sequence[Tensor]) -> None:
        parts = zip(z.split(self.counts), self.base.minimum, self.base.factors, out, strict=True)
        for part, minimum, factor, place in parts:
            torch.addcmul(minimum, part.view(minimum.shape), factor, value=sigma, out=place)

    def take(self, stacked: Sequence[Any], rows: Tensor) -> Sequence[Any]:
        """Some of the stacked parameter vectors."""
        return [stacked[row] for row in rows.tolist()]

    def outputs(self, stacked: Any, tiles: Sequence[Tile]) -> Iterable[Any]:
        """Outputs (B, samples, ...) of each tile."""
        return self.path.outputs_at(stacked, tiles)


class Particles:
    """Losses of one model at theta* + sigma F z for rows of z, in nested landscapes.

    Attributes:
        dim: numbers that make one particle. With independent standard normals for them, losses have the law that
            independent standard normals for all n parameters give.
        chunk: particles that are best run together. Values do not depend on which particles are.
        device, dtype: of z.

    Args:
        engine: of the model.
        sigma: size of the perturbation, in units of the scaling.
        sizes: the landscapes, (K,) of the engine's sizes, ascending; all by default.

    Raises:
        ConfigError: sigma is not a positive number.
    """

    def __init__(self, engine: LossEngine, sigma: float, sizes: Sequence[int] | None = None) -> None:
        if not 0 < sigma <= torch.finfo(engine.dtype).max:
            raise ConfigError(
                f"sigma {sigma} is not allowed: it must be a positive number that {engine.dtype} can hold"
            )
        self.engine, self.sigma = engine, float(sigma)
        self.sizes = engine.sizes if sizes is None else tuple(sizes)
        path = engine.path
        assert isinstance(path, MLPPath | CNNPath | GeneralPath)
        self.runner: Runner = MLPParticles(path, self.sizes[-1]) if isinstance(path, MLPPath) else WholeParticles(path)
        self.dim, self.chunk = self.runner.dim, self.runner.chunk
        self.device, self.dtype = engine.device, engine.dtype

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Standard normals (count, dim), drawn on the device of the generator and the model."""
        return torch.empty(count, self.dim, dtype=self.dtype, device=self.device).normal_(generator=generator)

    def draw_into(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normals into `out` (B, dim), in as many calls as the path is used to, so that a seed means the same numbers."""
        for rows in out.split(self.runner.drawn):
            rows.normal_(generator=generator)
        return out

    def generator(self, seed: int) -> torch.Generator:
        """A generator on the device where the particles are drawn."""
        return torch.Generator(self.device).manual_seed(seed)

    @torch.inference_mode()
    def evaluate(self, z: Tensor, wrong_allowed: Sequence[int] | None = None, accuracy: bool = True) -> Values:
        """Measure B particles.

        Args:
            z: (B, dim).
            wrong_allowed, accuracy: see `Rays.evaluate`.

        Returns:
            Values of shape (K, B).
        """
        engine, parts = self.engine, []
        with engine.at_work():
            for chunk in z.split(self.chunk):
                run = partial(self.runner.outputs, self.runner.stack(chunk, self.sigma))
                parts.append(engine.measure(engine.path, run, self.sizes, wrong_allowed, accuracy))
        return Values.join(parts)
