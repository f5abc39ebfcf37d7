"""Other views of one minimum: Hessian, SAM-sharpness and learning coefficient, beside which its volume can be checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from minima_volume.arguments import check_count, check_names, check_positive, check_seed
from minima_volume.curvature.density import Density, eigenvalue_density
from minima_volume.curvature.derivatives import is_symmetric, slope_fault
from minima_volume.curvature.hessian import MeanLoss
from minima_volume.curvature.learning_coefficient import LearningCoefficient, learning_coefficient
from minima_volume.curvature.sam_sharpness import Sharpness, sam_sharpness
from minima_volume.curvature.spectrum import Spectrum, top_eigenvalues
from minima_volume.curvature.trace import Trace, hessian_trace
from minima_volume.errors import ConfigError
from minima_volume.isolation import isolated
from minima_volume.losses.loss import LossLike
from minima_volume.perturbation.directions import SCALINGS
from minima_volume.perturbation.given import prepare
from minima_volume.result import Result, limits, number
from minima_volume.samples import Samples

SMALLEST = {
    "num_eigenvalues": 1,
    "num_products": 6,
    "density_vectors": 0,
    "density_steps": 1,
    "ascent_steps": 1,
    "num_chains": 0,
    "num_draws": 8,
    "num_burn_in": 0,
}


@dataclass(frozen=True)
class ViewSettings:
    """How the views are measured; everything that decides their numbers besides model and data.

    Attributes:
        scaling: of the coordinates z of trace, eigenvalues and learning coefficient: `filter`, in which the volumes are measured,
            or `none`, the parameters themselves, as most papers have it (also `layer`, `tensor_std`, `sample_std`).
        names: parameters that move: `weight_bias`, `weights`, `all`, or a list of names, see `perturbation.names`.
        num_eigenvalues: the largest ones.
        num_products: Hessian-vector products for the trace, which is estimated from random vectors (Hutch++); more make its
            error smaller.
        density_vectors, density_steps: random vectors, and products with the Hessian from each (Lanczos' method), for the density of
            all eigenvalues; density_vectors = 0 leaves it out.
        sam_rho, asam_rho: radii of the balls of SAM and ASAM.
        ascent_steps: steps towards the largest loss in them; 1 is SAM's own.
        num_chains, num_draws, num_burn_in, localisation, step_size: of the learning coefficient, which comes from the mean excess loss
            along chains of noisy gradient steps: how many there are, draws kept from each and dropped before, the strength of the
            spring to the minimum, the size of a step (None: found). Chains must agree, that is R-hat (their common spread over
            that within each) is close to 1. num_chains = 0 leaves it out.
        seed: of all that is random.

    Raises:
        ConfigError: a value is not allowed.
    """

    scaling: str = "filter"
    names: str | Sequence[str] = "weight_bias"
    num_eigenvalues: int = 5
    num_products: int = 60
    density_vectors: int = 4
    density_steps: int = 40
    sam_rho: float = 0.05
    asam_rho: float = 0.5
    ascent_steps: int = 1
    num_chains: int = 4
    num_draws: int = 700
    num_burn_in: int = 300
    localisation: float = 100.0
    step_size: float | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        if self.scaling not in SCALINGS:
            raise ConfigError(f"scaling {self.scaling!r} is not known; allowed: {', '.join(SCALINGS)}")
        checked: dict[str, Any] = {"names": check_names(self.names), "seed": check_seed(self.seed)}
        checked |= {name: check_count(name, getattr(self, name), smallest) for name, smallest in SMALLEST.items()}
        checked |= {name: check_positive(name, getattr(self, name)) for name in ("sam_rho", "asam_rho", "localisation")}
        if self.num_chains == 1:
            raise ConfigError(
                "num_chains 1 is not allowed: chains are compared with each other, so take 0 or at least 2"
            )
        if self.step_size is not None:
            checked["step_size"] = check_positive("step_size", self.step_size)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def num_parts(self) -> int:
        """Parts that a progress bar counts: spectrum, density and trace, sharpness, and each chain."""
        return 3 + self.num_chains


@dataclass(frozen=True)
class OtherViews(Result):
    """Other views of one minimum; a view that is None has its reason in `notes`.

    They can be tabled (`mv.table`), drawn (`plot`), saved (`save`; without the eigenvectors) and loaded (`mv.load`).

    Attributes:
        start_loss: L*, the mean loss at the minimum.
        num_params: n, the perturbed entries.
        left_out: parameters that do not move in any view; `notes` says so under the same name.
        spectrum, density, trace: of the Hessian with respect to z.
        sam, asam: sharpness in balls of theta and of theta / |theta*|.
        learning_coefficient: with its chains.
        sigma_at_threshold: the sigma at which noise sigma F z raises the mean loss to the threshold, to second order:
            sqrt(2 (threshold - L*) / tr H). Where log_mass(sigma) falls off if the minimum is a quadratic; None without a threshold,
            and where the minimum is outside or the trace is not positive.
        notes: view -> why it is None; `left_out` and `model` -> what the numbers leave out, and what a reader must know about the model.
        settings: how they were measured.
    """

    start_loss: float
    num_params: int
    left_out: tuple[str, ...]
    spectrum: Spectrum | None
    trace: Trace | None
    sam: Sharpness | None
    asam: Sharpness | None
    learning_coefficient: LearningCoefficient | None
    sigma_at_threshold: float | None
    notes: dict[str, str]
    settings: ViewSettings
    density: Density | None = None

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.facts())

    def facts(self) -> list[tuple[str, str]]:
        """As `Result.facts`; in the place of what is None stands the reason."""
        trace, spectrum, coefficient = self.trace, self.spectrum, self.learning_coefficient
        found = {
            "trace": trace
            and f"{number(trace.value)} (standard error {number(trace.standard_error, 2)}, {trace.method})",
            "spectrum": spectrum
            and f"largest eigenvalues {', '.join(number(v, 4) for v in spectrum.eigenvalues.tolist())}",
            "density": self.density
            and f"{self.density.share_below(-self.density.width):.1%} of {self.density.num_entries:,} eigenvalues clearly below 0",
            "sam": self.sam and f"{number(self.sam.value)} within rho {self.sam.rho:g}",
            "asam": self.asam and f"{number(self.asam.value)} within rho {self.asam.rho:g}",
            "learning_coefficient": coefficient
            and f"{number(coefficient.value)} ({limits(coefficient.interval)}); {coefficient.verdict}",
        }
        shown = [(name.replace("_", " "), value or self.notes.get(name, "left out")) for name, value in found.items()]
        where = f"scaling {self.settings.scaling}, {self.num_params:,} parameters"
        notes = [(name.replace("_", " "), self.notes[name]) for name in ("left_out", "model") if name in self.notes]
        start = [("loss at the minimum", number(self.start_loss)), ("coordinates", where)]
        return [*start, *shown, ("sigma at threshold", number(self.sigma_at_threshold)), *notes]


def views_row(views: OtherViews) -> dict[str, Any]:
    """A minimum as a row of a table; what is undefined is None."""
    low, high = (views.learning_coefficient and views.learning_coefficient.interval) or (None, None)
    spectrum = views.spectrum
    return {
        "start_loss": views.start_loss,
        "trace": views.trace and views.trace.value,
        "trace_standard_error": views.trace and views.trace.standard_error,
        "top_eigenvalue": float(spectrum.eigenvalues[0])
        if spectrum is not None and len(spectrum.eigenvalues)
        else None,
        "sam_sharpness": views.sam and views.sam.value,
        "asam_sharpness": views.asam and views.asam.value,
        "learning_coefficient": views.learning_coefficient and views.learning_coefficient.value,
        "learning_coefficient_low": low,
        "learning_coefficient_high": high,
        "learning_coefficient_verdict": views.learning_coefficient and views.learning_coefficient.verdict,
        "sigma_at_threshold": views.sigma_at_threshold,
        "num_params": views.num_params,
    }


@isolated
def other_views(
    model: nn.Module,
    x: Samples | DataLoader[Any] | Dataset[Any],
    y: Any = None,
    loss: LossLike = "cross_entropy",
    *,
    threshold: float | None = None,
    settings: ViewSettings | None = None,
    class_axis: int | None = None,
    device: str | torch.device | None = None,
    on_part: Callable[[], object] | None = None,
) -> OtherViews:
    """Measure how sharp a minimum is in the ways that others do, as a check on its volume.

    Args:
        model: a trained model; it comes back unchanged.
        x: (T, ...) inputs, one landscape, or several inputs or a DataLoader as of `measure_volume`.
        y: (T, ...) targets.
        loss: `cross_entropy`, `bce_with_logits`, `mse`, or a callable (outputs, targets) -> (T,) losses, or one loss of all samples.
            One without a second derivative has no Hessian: trace and eigenvalues are then None, with the reason.
        threshold: the loss that ends the minimum, for `sigma_at_threshold`.
        settings: coordinates, seeds and sizes; `ViewSettings()` by default.
        class_axis: of `cross_entropy`, see `measure_volume`.
        device: where to compute; the model's by default.
        on_part: called after each of `settings.num_parts` parts, for a progress bar.

    Raises:
        ConfigError: an argument is not allowed, or the loss at the minimum is not finite.

    >>> _ = torch.manual_seed(0)
    >>> x, model = torch.randn(64, 3), nn.Linear(3, 1, bias=False)
    >>> views = other_views(model, x, model(x).detach(), "mse", settings=ViewSettings(scaling="none", num_eigenvalues=1, num_chains=0))
    >>> bool(abs(views.trace.value - (2 * x.T @ x / 64).trace()) < 1e-4)
    True
    """
    settings = ViewSettings() if settings is None else settings
    if threshold is not None:
        threshold = check_positive("threshold", threshold, "it must be a positive loss")
    host, x, y, read = prepare(model, x, y, settings.names, device, loss)
    with host.borrowed():
        mean_loss = MeanLoss.of(host, x, y, loss, scaling=settings.scaling, names=settings.names, class_axis=class_axis)
        return _views(mean_loss, threshold, settings, on_part, read)


def _views(
    mean_loss: MeanLoss,
    threshold: float | None,
    settings: ViewSettings,
    on_part: Callable[[], object] | None,
    read: str | None,
) -> OtherViews:
    start = mean_loss.value()
    if not math.isfinite(start):
        raise ConfigError(f"the loss at the minimum is {start:g}; it must be finite")
    still = mean_loss.directions.note
    notes: dict[str, str] = {} if still is None else {"left_out": still}
    fault = slope_fault(mean_loss)

    def attempt(name: str, measure: Callable[[], Any]) -> Any:
        if fault is not None:
            notes[name] = fault
            return None
        try:
            return measure()
        except ConfigError as error:
            notes[name] = str(error)
            return None

    def done() -> None:
        if on_part is not None:
            on_part()

    seed, largest = settings.seed, min(settings.num_eigenvalues, mean_loss.num_entries)
    spectrum = trace = density = None
    if attempt("trace", lambda: is_symmetric(mean_loss, seed)):
        spectrum = attempt("spectrum", lambda: top_eigenvalues(mean_loss, largest, seed=seed))
        done()
        trace = attempt("trace", lambda: hessian_trace(mean_loss, num_products=settings.num_products, seed=seed))
        if settings.density_vectors:
            density = attempt("density", lambda: _density(mean_loss, settings))
    else:
        notes["spectrum"] = notes["trace"]
        if settings.density_vectors:
            notes["density"] = notes["trace"]
        done()
    done()
    steps = settings.ascent_steps
    sam = attempt("sam", lambda: sam_sharpness(mean_loss, settings.sam_rho, num_steps=steps, seed=seed))
    asam = attempt(
        "asam", lambda: sam_sharpness(mean_loss, settings.asam_rho, adaptive=True, num_steps=steps, seed=seed)
    )
    done()
    coefficient = None
    if settings.num_chains:
        coefficient = attempt(
            "learning_coefficient",
            lambda: learning_coefficient(
                mean_loss,
                num_chains=settings.num_chains,
                num_draws=settings.num_draws,
                num_burn_in=settings.num_burn_in,
                localisation=settings.localisation,
                step_size=settings.step_size,
                seed=seed,
                on_chain=done,
            ),
        )
    else:
        notes["learning_coefficient"] = "left out: num_chains is 0"
    if about := "; ".join(filter(None, (*mean_loss.notes, read))):
        notes["model"] = about
    return OtherViews(
        start_loss=start,
        num_params=mean_loss.directions.num_params,
        left_out=mean_loss.directions.left_out,
        spectrum=spectrum,
        trace=trace,
        sam=sam,
        asam=asam,
        learning_coefficient=coefficient,
        sigma_at_threshold=sigma_at_threshold(start, None if trace is None else trace.value, threshold),
        notes=notes,
        settings=settings,
        density=density,
    )


def _density(mean_loss: MeanLoss, settings: ViewSettings) -> Density:
    vectors, steps = settings.density_vectors, settings.density_steps
    return eigenvalue_density(mean_loss, num_vectors=vectors, num_steps=steps, seed=settings.seed)


def sigma_at_threshold(start_loss: float, trace: float | None, threshold: float | None) -> float | None:
    """sqrt(2 (threshold - L*) / tr H); None if that is undefined.

    >>> sigma_at_threshold(0.0, 20.0, 0.1)
    0.1
    """
    if threshold is None or trace is None or trace <= 0 or start_loss >= threshold:
        return None
    return math.sqrt(2 * (threshold - start_loss) / trace)


def settings_record(settings: ViewSettings) -> dict[str, Any]:
    """The settings of a run's views as JSON has them; a run has no density."""
    names = settings.names if isinstance(settings.names, str) else list(settings.names)
    record = asdict(settings) | {"names": names}
    return {key: value for key, value in record.items() if not key.startswith("density_")}
