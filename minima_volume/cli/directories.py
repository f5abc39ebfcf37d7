"""The commands of experiment directories: `minima-volume train`, `embed` and `predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from minima_volume.cli.options import Quiet
from minima_volume.errors import MissingStageError

group = typer.Typer()
ConfigFile = Annotated[Path, typer.Argument(help="A config file, such as configs/train_vae.yaml.", metavar="CONFIG")]


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


def _there(config: Path) -> Path:
    if not config.is_file():
        raise MissingStageError(f"there is no config file {config}; configs/ holds examples")
    return config


def _say(quiet: bool) -> Callable[[str], object]:
    """Progress goes to standard error; the result to standard output."""
    return (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr))
