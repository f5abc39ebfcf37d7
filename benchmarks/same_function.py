"""What log mass with filter norms does when a network is written down differently but computes the same.

    python benchmarks/same_function.py

The minimum of 600 digits of docs/measuring.md, in the landscape of 60. The table is written between the marks of that page.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from pages import between
from sklearn.datasets import load_digits
from torch import Tensor, nn

from minima_volume import measure_volume

PAGE = Path(__file__).parents[1] / "docs" / "measuring.md"
WEIGHTS = ("0.weight", "2.weight")
SIGMA = 0.1


def samples(size: int) -> tuple[Tensor, Tensor]:
    """The first digits."""
    digits = load_digits()
    return torch.tensor(digits.data[:size] / 16, dtype=torch.float32), torch.tensor(digits.target[:size])


def trained(size: int) -> nn.Sequential:
    """The network of docs/measuring.md."""
    x, y = samples(size)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def scaled(model: nn.Sequential, factors: Tensor | float) -> nn.Sequential:
    """Weights and biases of hidden units times these factors, their outgoing weights divided by them: a ReLU network computes the same."""
    model, factors = copy.deepcopy(model), torch.as_tensor(factors) * torch.ones(model[0].out_features)
    with torch.no_grad():
        model[0].weight *= factors[:, None]
        model[0].bias *= factors
        model[2].weight /= factors
    return model


def doubled(model: nn.Sequential) -> nn.Sequential:
    """Every hidden unit twice, each with half of the outgoing weight."""
    inner, outer = model[0], model[2]
    wide = nn.Sequential(
        nn.Linear(inner.in_features, 2 * inner.out_features), nn.ReLU(), nn.Linear(2 * inner.out_features, 10)
    )
    with torch.no_grad():
        wide[0].weight.copy_(inner.weight.repeat(2, 1))
        wide[0].bias.copy_(inner.bias.repeat(2))
        wide[2].weight.copy_(outer.weight.repeat(1, 2) / 2)
        wide[2].bias.copy_(outer.bias)
    return wide


def balanced(model: nn.Sequential) -> nn.Sequential:
    """One form for all factors: each unit's incoming weights and bias have norm 1 together."""
    incoming = torch.cat([model[0].weight, model[0].bias[:, None]], 1).norm(dim=1)
    return scaled(model, (1 / incoming).detach())


def factors_of_units(count: int) -> Tensor:
    """Between 1/3 and 3, evenly in log, in a fixed order."""
    return 3 ** (2 * torch.rand(count, generator=torch.Generator().manual_seed(0)) - 1)


FORMS: dict[str, Callable[[nn.Sequential], nn.Sequential]] = {
    "as trained": lambda model: model,
    "first layer × 2, second / 2": lambda model: scaled(model, 2.0),
    "first layer × 0.1, second / 0.1": lambda model: scaled(model, 0.1),
    "first layer × 10, second / 10": lambda model: scaled(model, 10.0),
    "each hidden unit × a factor of its own, 1/3 to 3": lambda model: scaled(model, factors_of_units(32)),
    "every hidden unit twice": doubled,
}


def log_mass(model: nn.Module, names: str | tuple[str, ...] = "weight_bias") -> str:
    """With its interval, to read; few repeats are enough for masses that differ by so much."""
    found = measure_volume(model, *samples(60), threshold=0.1, sigma=SIGMA, names=names, precision=3.0, progress=False)
    if found.log_mass is None:
        return found.verdict
    return f"{found.log_mass:.2f} ({found.interval[0]:.2f} to {found.interval[1]:.2f})".replace("-", "−")


def main() -> None:
    """Print the table and write it to the page."""
    model = trained(600)
    lines = ["| the same function | log mass | biases left out | balanced first |", "|---|---|---|---|"]
    for name, change in FORMS.items():
        other = change(model)
        cells = log_mass(other), log_mass(other, WEIGHTS), log_mass(balanced(other))
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    PAGE.write_text(between(PAGE.read_text(encoding="utf-8"), "same function", "\n".join(lines)), encoding="utf-8")


if __name__ == "__main__":
    main()
