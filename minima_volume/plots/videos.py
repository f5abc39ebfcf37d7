"""Videos, drawn from saved models: a landscape as data is added, a decision boundary and a ray as a model is perturbed."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from minima_volume.analysis.quantities import AXIS_LABELS
from minima_volume.analysis.subjects import subject
from minima_volume.arguments import as_path
from minima_volume.errors import ConfigError
from minima_volume.files.atomic import write_bytes
from minima_volume.files.boundary import check_way
from minima_volume.perturbation.directions import Directions
from minima_volume.plots.predictions import CLASSES, probability
from minima_volume.plots.samples import scatter
from minima_volume.plots.slices import CMAP, SHADOW, draw_plane, loss_norm
from minima_volume.plots.style import BLUE, GREEN, GREY, RED, new_figure, style
from minima_volume.stages.plane import run_plane, three_of
from minima_volume.stages.run import Run, minimum_name
from minima_volume.stages.trained import Trained, load_models_and_data
from minima_volume.training.evaluation import per_sample

GRID, DPI, COLOURS = 120, 80, 192


def landscape_frames(run: Run, frames: int = 40, *, resolution: int = 31, progress: bool = True) -> Iterator[Figure]:
    """The plane through the smallest, the middle and the largest minimum of a run, as samples are added to the landscape.

    Args:
        run: a run with three minima or more.
        frames: how many landscapes, from the base samples to all, in geometric steps.
        resolution: grid points along each side.
        progress: show a bar.
    """
    config, minima = run.config, three_of(run.config.minima)
    sizes = np.geomspace(config.data.sizes[0], config.data.sizes[-1], frames).round().astype(int).tolist()
    plane = run_plane(run, minima, sorted(set(sizes)), resolution=resolution, progress=progress)
    threshold, norm = config.volume.headline, loss_norm(plane, config.volume.headline)
    base = config.data.base_size if config.variation == "level" else 0
    middle = sum(plane.u[[0, -1]]) / 2
    for size in sizes:
        with style():
            figure = new_figure(6.4, 5.2)
            axis = figure.subplots()
            draw_plane(axis, plane, plane.sizes.index(size), norm, threshold)
            for minimum, point in zip(minima, plane.points, strict=True):
                way = 1 if point[0] <= middle else -1
                axis.annotate(
                    f"{base + minimum:,}",
                    point,
                    xytext=(9 * way, 0),
                    textcoords="offset points",
                    ha="left" if way > 0 else "right",
                    va="center",
                    color="white",
                    path_effects=SHADOW,
                )
            axis.set(
                xlabel=f"radius (filter norms); at the minima: {AXIS_LABELS[config.variation]}",
                ylabel="radius across (filter norms)",
                title=f"landscape of {size:,} samples; line: loss {threshold:g}; hollow: outside",
            )
            figure.suptitle(subject(config.model_dump()), fontsize=10.5)
            figure.colorbar(ScalarMappable(norm, CMAP), ax=axis, label="mean loss", extend="max")
        yield figure


def boundary_frames(
    run: Run, frames: int = 40, *, minimum: int | None = None, seed: int = 1, progress: bool = True
) -> Iterator[Figure]:
    """The decision regions of a model of points in the plane as it moves along one random direction, to twice its radius.

    Raises:
        ConfigError: the samples are not points in the plane.
    """
    trained, minimum, walk = _prepare(run, minimum, seed)
    data, size = trained.dataset, trained.records[minimum]["train_size"]
    if tuple(data.x_train.shape[1:]) != (2,):
        raise ConfigError(
            f"{run.folder.name} has samples of shape {tuple(data.x_train.shape[1:])}, not points in the plane, which swiss_roll has"
        )
    low, high = data.x_train.amin(0), data.x_train.amax(0)
    first, second = (
        torch.linspace(float(a) * 1.1, float(b) * 1.1, GRID, dtype=torch.float32, device="cpu")
        for a, b in zip(low, high, strict=True)
    )
    grid = torch.cartesian_prod(first, second)
    crossing = walk.crossing(run.config.volume.headline)
    for c in np.linspace(0, 2 * crossing, frames):
        model = walk.at(c)
        loss = walk.loss(c)
        with torch.no_grad(), style():
            figure = new_figure(5.6, 5.4)
            axis = figure.subplots()
            values = probability(model(grid)).reshape(GRID, GRID).T.numpy()
            axis.contourf(first, second, values, levels=np.linspace(0, 1, 11), cmap=CLASSES)
            axis.contour(first, second, values, levels=[0.5], colors="black", linewidths=1)
            scatter(axis, data.x_train[:size], data.y_train[:size])
            axis.grid(False)
            axis.set_aspect("equal")
            axis.set(xlabel="first coordinate", ylabel="second coordinate")
            inside = loss <= run.config.volume.headline
            axis.set_title(
                f"radius {c * walk.norm:.2f}: loss {loss:.3f}, {'inside' if inside else 'outside'} the minimum "
                f"(threshold {run.config.volume.headline:g})",
                color="black" if inside else RED,
            )
        yield figure


def ray_frames(
    run: Run, frames: int = 40, *, minimum: int | None = None, seed: int = 1, progress: bool = True
) -> Iterator[Figure]:
    """One random direction walked from a minimum: the loss up to here, and the loss of every sample here."""
    _, minimum, walk = _prepare(run, minimum, seed)
    threshold = run.config.volume.headline
    crossing = walk.crossing(threshold)
    steps = np.linspace(0, 1.6 * crossing, frames)
    losses = np.array([walk.loss(c) for c in steps])
    top, highest = max(float(losses.max()), 2 * threshold), float(walk.sample_losses(steps[-1]).max())
    name = minimum_name(minimum, run.config.variation)
    for i, c in enumerate(steps):
        each = np.sort(walk.sample_losses(c))[::-1]
        with style():
            figure = new_figure(8.4, 3.8)
            left, right = figure.subplots(1, 2)
            left.plot(steps * walk.norm, losses, color=GREY, alpha=0.3)
            left.plot(steps[: i + 1] * walk.norm, losses[: i + 1], color=BLUE, linewidth=2.5)
            left.plot(c * walk.norm, losses[i], "o", color=BLUE, markersize=8)
            left.axhline(threshold, color=RED, linestyle="--", linewidth=1)
            left.axvline(crossing * walk.norm, color=RED, linestyle=":", linewidth=1)
            left.set(
                xlabel=r"radius $r = c\,\|\xi\|$",
                ylabel="mean loss",
                yscale="log",
                ylim=(max(losses.min() / 2, 1e-5), 1.5 * top),
                title=f"minimum {name}, direction {seed}; dashed: threshold, dotted: crossing",
            )
            right.bar(np.arange(1, len(each) + 1), each, width=1.0, color=GREEN if losses[i] <= threshold else RED)
            right.set(
                xlabel=f"the {len(each)} samples of the landscape, sorted",
                ylabel="loss of one sample",
                yscale="log",
                ylim=(threshold / 1000, 2 * highest),
                title="inside the minimum" if losses[i] <= threshold else "outside",
            )
        yield figure


class Walk:
    """A model along one of its directions, on the smallest landscape it is native to or a member of."""

    def __init__(self, run: Run, trained: Trained, minimum: int, seed: int) -> None:
        self.model = trained.models[minimum]
        config = run.config.perturbation
        self.directions = Directions.of(self.model, config.scaling, config.names)
        self.direction, self.norm = self.directions.draw(seed)
        size = run.config.data.sizes[0]
        self.samples = (trained.dataset.x_train[:size], trained.dataset.y_train[:size])
        self.kind = run.loss

    def at(self, c: float) -> nn.Module:
        """The model itself, moved to coefficient c."""
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, start, step in zip(self.directions.names, self.directions.minimum, self.direction, strict=True):
                parameters[name].copy_(start + c * step)
        return self.model

    def sample_losses(self, c: float) -> np.ndarray:
        """(N,) losses of the samples at coefficient c."""
        losses: Tensor = per_sample(self.at(c), self.samples, self.kind)[0]
        return losses.double().numpy()

    def loss(self, c: float) -> float:
        """Mean loss at coefficient c."""
        return float(self.sample_losses(c).mean())

    def crossing(self, threshold: float) -> float:
        """The first coefficient at which the loss passes the threshold: steps of a fiftieth of it, then halved."""
        c, step = 0.0, 0.002
        while self.loss(c + step) <= threshold:
            c += step
            step = max(step, 0.02 * c)
            if c > 1e3:
                raise ConfigError("the loss does not pass the threshold along this direction; take another seed")
        end = c + step
        for _ in range(10):
            middle = (c + end) / 2
            c, end = (c, middle) if self.loss(middle) > threshold else (middle, end)
        return end


def _prepare(run: Run, minimum: int | None, seed: int) -> tuple[Trained, int, Walk]:
    trained = load_models_and_data(run)
    minimum = run.config.minima[0] if minimum is None else minimum
    if minimum not in trained.models:
        raise ConfigError(f"minimum {minimum} is not in {run.folder.name}; it has {run.config.minima}")
    return trained, minimum, Walk(run, trained, minimum, seed)


VIDEOS: dict[str, Callable[..., Iterator[Figure]]] = {
    "landscape": landscape_frames,
    "boundary": boundary_frames,
    "ray": ray_frames,
}


def save_video(
    frames: Iterable[Figure], path: Path, *, fps: float = 8.0, total: int | None = None, progress: bool = True
) -> Path:
    """Write figures as an animated .gif, or as an .mp4 where the extra `video` is installed.

    Args:
        frames: figures of one size.
        path: ends in .gif or .mp4.
        fps: figures a second.
        total: how many there are, for the bar.
        progress: show a bar.

    Raises:
        ConfigError: another ending, or no ffmpeg.
    """
    path = as_path(path)
    kind = path.suffix.lower()
    if kind not in (".gif", ".mp4"):
        raise ConfigError(f"{path}: videos are .gif or .mp4")
    if kind == ".mp4":
        _ffmpeg()  # before anything is drawn
    images = [_image(figure) for figure in tqdm(frames, total=total, unit=" frames", disable=not progress)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == ".mp4":
        return _write_mp4(images, path, fps)
    colours = _palette([images[0], images[len(images) // 2], images[-1]])
    reduced = [image.quantize(palette=colours, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    options: dict[str, Any] = {"save_all": True, "append_images": reduced[1:], "loop": 0, "optimize": True}
    reduced[0].save(buffer, format="GIF", duration=round(1000 / fps), **options)
    return write_bytes(path, buffer.getvalue())


def _palette(images: Sequence[Image.Image]) -> Image.Image:
    """One palette for all frames, so that colours do not flicker; thin lines keep their colours in it, and rare ones are not merged."""
    joined = Image.fromarray(np.concatenate([np.asarray(image) for image in images]))
    fixed = np.array([[255 * part for part in to_rgb(colour)] for colour in ("black", "white", RED, BLUE, GREEN)])
    found = np.array(joined.quantize(COLOURS, Image.Quantize.MAXCOVERAGE).getpalette()[: 3 * COLOURS]).reshape(-1, 3)  # type: ignore[index]
    near = np.linalg.norm(found[:, None] - fixed, axis=2).min(axis=1) < 10  # Pillow may take them for the fixed ones
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([fixed, found[~near]]).round().astype(int).ravel().tolist())
    return palette


def _image(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=DPI)
    image = Image.open(buffer).convert("RGB")
    return image.crop((0, 0, image.width // 2 * 2, image.height // 2 * 2))  # video formats want even sides


def _write_mp4(images: list[Image.Image], path: Path, fps: float) -> Path:
    ffmpeg = _ffmpeg()
    check_way(path)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp.mp4")  # a name that no link can wait under
    writer = ffmpeg.write_frames(str(unfinished), images[0].size, fps=fps, macro_block_size=2, ffmpeg_log_level="error")
    writer.send(None)
    for image in images:
        writer.send(image.tobytes())
    writer.close()
    return unfinished.replace(path)


def _ffmpeg() -> Any:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise ConfigError(
            ".mp4 needs imageio-ffmpeg: `pip install minima_volume[video]`, or write a .gif, which needs nothing more"
        ) from error
    return imageio_ffmpeg
