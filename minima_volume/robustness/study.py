"""One study: its networks, its files, and the settings that decide each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from minima_volume.arguments import as_path
from minima_volume.config.noise import NoiseConfig, parse_noise_config
from minima_volume.errors import ConfigError, StaleError
from minima_volume.files.yaml import dotted, read_yaml, set_dotted
from minima_volume.robustness.architectures import build_architecture
from minima_volume.robustness.images import Images

CLEAN, NOISY = "clean", "noisy"
REGIMES = (CLEAN, NOISY)


@dataclass(frozen=True, order=True)
class Network:
    """One network of a study."""

    architecture: str
    regime: str
    seed: int

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.architecture}_{self.regime}_seed{self.seed}"


@dataclass(frozen=True)
class Study:
    """A configuration and the folders that are written to.

    Attributes:
        config: all settings.
        checkpoints: of trained networks.
        results: of tables and sweeps.
    """

    config: NoiseConfig
    checkpoints: Path
    results: Path

    @classmethod
    def of(cls, config: NoiseConfig, folder: Path) -> Study:
        """A study that writes below one folder."""
        return cls(config, folder / "checkpoints", folder / "results")

    @property
    def results_file(self) -> Path:
        """Everything the study found."""
        return self.results / "results.json"

    def checkpoint(self, network: Network) -> Path:
        """A trained network."""
        return self.checkpoints / f"{network.name}.pt"

    def unfinished(self, network: Network) -> Path:
        """A network whose training is under way, after its last whole epoch."""
        return self.checkpoints / "unfinished" / f"{network.name}.pt"

    def sweep(self, network: Network) -> Path:
        """Which test images a network classifies under which noise."""
        return self.results / "sweeps" / f"{network.name}.npz"

    def networks(self, architectures: Sequence[str] | None = None) -> list[Network]:
        """Every network of some architectures, in the order of the configuration; of all by default.

        Raises:
            ConfigError: an architecture is not in the configuration.
        """
        have = list(self.config.architectures)
        for name in architectures or []:
            if name not in have:
                raise ConfigError(f"architecture {name!r} is not known; allowed: {', '.join(have)}")
        chosen = [name for name in have if not architectures or name in architectures]
        seeds = self.config.seeds.training
        return [Network(name, regime, seed) for name in chosen for regime in REGIMES for seed in seeds]

    def alpha_train(self, network: Network) -> float:
        """The noise that a network is trained with."""
        return self.config.noise.alpha_train if network.regime == NOISY else 0.0

    def build(self, network: Network, images: Images) -> nn.Module:
        """The network with its initial weights."""
        options = self.config.architectures[network.architecture]  # type: ignore[index]
        return build_architecture(network.architecture, options, images.shape, images.num_classes, network.seed)

    def training_settings(self, network: Network) -> dict[str, Any]:
        """Everything in the configuration that decides the weights, by dotted key."""
        config = self.config
        data = {"source": config.data.source, "train_size": config.data.train_size}
        return dotted(
            {
                "data": data,
                "architectures": {network.architecture: config.architectures[network.architecture]},  # type: ignore[index]
                "training": config.training.model_dump(),
                "noise": {"alpha_train": self.alpha_train(network)},
                "seeds": {"training": network.seed},
            }
        )

    def shared_settings(self) -> dict[str, Any]:
        """What must be equal in all rows of one table: the settings of training that no architecture has for itself."""
        config = self.config
        data = {"source": config.data.source, "train_size": config.data.train_size, "test_size": config.data.test_size}
        noise = {"alpha_train": config.noise.alpha_train}
        return dotted({"data": data, "training": config.training.model_dump(), "noise": noise})

    def with_settings(self, **sections: Mapping[str, Any]) -> Study:
        """The study with some keys of some sections replaced."""
        changed = {name: getattr(self.config, name).model_copy(update=dict(keys)) for name, keys in sections.items()}
        return replace(self, config=self.config.model_copy(update=changed))


def open_study(
    folder: str | Path, overrides: Mapping[str, Any] | None = None, output: str | Path | None = None
) -> Study:
    """The study of a folder that holds a config.yaml.

    Args:
        folder: of the study.
        overrides: settings by dotted key, e.g. {"noise.draws": 100}; config.yaml stays as it is.
        output: where checkpoints and results go; by default as `experiment.output_dir` says, relative to the folder.

    Raises:
        ConfigError: a setting is not allowed.
    """
    folder = as_path(folder, "folder")
    path = folder / "config.yaml"
    content = read_yaml(path)
    set_dotted(content, overrides or {})
    config = parse_noise_config(content, str(path))
    return Study.of(config, folder / config.experiment.output_dir if output is None else as_path(output, "output"))


def refuse_others(stored: Mapping[str, Any], wanted: Mapping[str, Any], what: str, way_out: str) -> None:
    """Raise StaleError, naming keys and values, if something was made with other settings than a run's.

    Args:
        stored: settings by dotted key, as they were.
        wanted: as they are.
        what: what was made.
        way_out: what the user can do.
    """
    keys = [key for key in dict.fromkeys([*stored, *wanted]) if stored.get(key) != wanted.get(key)]
    if keys:
        listed = "; ".join(f"{key} {stored.get(key)!r}, now {wanted.get(key)!r}" for key in keys)
        raise StaleError(f"{what} was made with other settings: {listed}. {way_out}")
