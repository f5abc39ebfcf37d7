"""The commands of experiment directories: `minima-volume train`, `embed`, `predict`, `volume`, `series`, `draw`, `archive`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from minima_volume.cli.options import Quiet
from minima_volume.errors import ConfigError, MissingStageError

group = typer.Typer()
ConfigFile = Annotated[Path, typer.Argument(help="A config file, such as configs/train_vae.yaml.", metavar="CONFIG")]
DirectoryFolder = Annotated[
    Path, typer.Argument(help="An experiment directory, such as experiments/vae/baseline.", metavar="DIRECTORY")
]


@group.command()
def train(
    config: ConfigFile,
    on_exists: Annotated[
        str | None,
        typer.Option(help="overwrite, timestamp, error or resume; instead of what the config says.", metavar="WHAT"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train an autoencoder into the directory {output_dir}/{name} that a config file names.

    minima-volume train configs/train_vae.yaml

    minima-volume train configs/train_vae.yaml --on-exists resume
    """
    from minima_volume.config.directory import load_train_config
    from minima_volume.directories.build import places_of
    from minima_volume.directories.train import train_directory

    print(train_directory(load_train_config(_there(config), on_exists), places_of(config), _say(quiet)))


@group.command()
def embed(config: ConfigFile, quiet: Quiet = False) -> None:
    """Write the embeddings of a trained model into its directory.

    minima-volume embed configs/extract_embeddings.yaml
    """
    from minima_volume.config.directory import load_embed_config
    from minima_volume.directories.build import places_of
    from minima_volume.directories.embed import embed_directory

    print(*embed_directory(load_embed_config(_there(config)), places_of(config), _say(quiet)), sep="\n")


@group.command()
def predict(config: ConfigFile, quiet: Quiet = False) -> None:
    """Write the predictions of a trained model into its directory.

    minima-volume predict configs/predict.yaml
    """
    from minima_volume.config.directory import load_predict_config
    from minima_volume.directories.build import places_of
    from minima_volume.directories.embed import predict_directory

    print(predict_directory(load_predict_config(_there(config)), places_of(config), _say(quiet)))


@group.command()
def volume(
    directory: DirectoryFolder,
    sigma: Annotated[list[float], typer.Option(help="Size of the perturbation; may be repeated.")],
    threshold: Annotated[float | None, typer.Option(help="The loss that ends the minimum, of any sign.")] = None,
    rise: Annotated[
        float | None,
        typer.Option(help="Instead: how far above the minimum's own loss that is; a tenth of it by default."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="The first training samples.")] = 500,
    load: Annotated[str, typer.Option(help="best, last or epoch_<N>.")] = "best",
    quiet: Quiet = False,
) -> None:
    """Measure how large the minimum in an experiment directory is, with the loss that it was trained with.

    minima-volume volume experiments/vae/baseline --sigma 0.05 --rise 1
    """
    from minima_volume.directories.build import places_of
    from minima_volume.directories.volume import Landscape, measure_directory
    from minima_volume.volume.gaussian.settings import Gaussian

    if threshold is not None and rise is not None:
        raise ConfigError(f"--threshold {threshold:g} and --rise {rise:g} are both given; give one")
    found = measure_directory(
        directory,
        Gaussian(sigma=sigma[0] if len(sigma) == 1 else sigma),
        Landscape(samples, threshold, rise),
        strategy=load,
        places=places_of(directory / "config.yaml"),
        progress=not quiet,
    )
    print(f"loss at the minimum {found.loss:.6g}, threshold {found.threshold:.6g}")
    for size, mass in zip(sigma, getattr(found.volume, "volumes", (found.volume,)), strict=True):
        print(f"sigma {size:g}: log mass {mass.verdict}")


@group.command()
def series(
    config: ConfigFile,
    key: Annotated[
        str,
        typer.Argument(help="A number of the config, such as model.params.k or train.loss.params.beta.", metavar="KEY"),
    ],
    values: Annotated[list[float], typer.Argument(help="Its values.", metavar="VALUE...")],
    sigma: Annotated[
        float | None, typer.Option(help="Measure the volumes of the minima, too, with perturbations of this size.")
    ] = None,
    rise: Annotated[
        float | None, typer.Option(help="How far above a minimum's own loss it ends; a tenth of that loss by default.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Of the volumes: the first training samples.")] = 500,
    on_exists: Annotated[
        str,
        typer.Option(help="Of each directory: resume (what is finished stays), overwrite or error.", metavar="WHAT"),
    ] = "resume",
    quiet: Quiet = False,
) -> None:
    """Train at several values of one setting; a table (CSV) and a figure of what comes out of each, beside the directories.

    minima-volume series configs/train_sae.yaml model.params.sparsity_weight 0.03 0.1 0.3 1

    minima-volume series configs/train_vae.yaml train.loss.params.beta 0.5 1 2 4 --sigma 0.02 --rise 1
    """
    from minima_volume.directories.build import places_of
    from minima_volume.directories.series import series_of, tabulate_series, train_series
    from minima_volume.directories.volume import Landscape
    from minima_volume.files.yaml import read_yaml, set_dotted
    from minima_volume.plots.series import series_figure
    from minima_volume.plots.style import save_figure
    from minima_volume.volume.gaussian.settings import Gaussian

    if on_exists not in ("resume", "overwrite", "error"):
        raise ConfigError(f"--on-exists {on_exists!r} is not allowed for a series; allowed: resume, overwrite, error")
    content, places = read_yaml(_there(config)), places_of(config)
    set_dotted(content, {"experiment.on_exists": on_exists})
    made = series_of(content, key, values, str(config))
    train_series(made, places, _say(quiet))
    how = None if sigma is None else Gaussian(sigma=sigma)
    table = tabulate_series(made, places, how, Landscape(samples, rise=rise), progress=not quiet)
    save_figure(series_figure(table), made.figure_file)
    print(table.to_string(index=False, float_format="%.6g"), made.table_file, made.figure_file, sep="\n")


@group.command()
def draw(directory: DirectoryFolder) -> None:
    """Draw loss curves, reconstructions and the latent variables of an experiment directory, into its figures/."""
    from minima_volume.directories.build import places_of
    from minima_volume.plots.directories import draw_directory

    print(*draw_directory(directory, places_of(directory / "config.yaml")), sep="\n")


@group.command()
def archive(
    directory: DirectoryFolder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file, .tar.gz or .tgz; DIRECTORY.tar.gz by default.")
    ] = None,
) -> None:
    """Pack an experiment directory into a .tar.gz; the directory stays."""
    from minima_volume.directories.directory import Directory
    from minima_volume.directories.keep import archive as pack

    path = pack(Directory(directory), output)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; to remove the directory: rm -r {directory}")


def _there(config: Path) -> Path:
    if not config.is_file():
        raise MissingStageError(f"there is no config file {config}; configs/ holds examples")
    return config


def _say(quiet: bool) -> Callable[[str], object]:
    """Progress goes to standard error; the result to standard output."""
    return (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr))
