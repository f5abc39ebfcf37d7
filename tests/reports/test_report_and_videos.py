"""The HTML report in a real browser, and the videos frame by frame."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from typing import ClassVar

import imageio_ffmpeg
import pytest
from fake_results import fake_condition
from helpers import SWISS, make_run
from PIL import Image

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.plots.videos import Walk, boundary_frames, landscape_frames, ray_frames, save_video

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from minima_volume.reports.html import write_report

    condition = fake_condition(tmp_path_factory.mktemp("fake") / "base", seeds=2)
    text = (condition / "config.yaml").read_text(encoding="utf-8")
    (condition / "config.yaml").write_text(text.replace("tiny digits", "tiny <digits> & more"), encoding="utf-8")
    (condition / "model_7_data_17").mkdir()
    return write_report(condition)


def test_the_page_needs_nothing_else(page):
    """No link to any other file or host, every tag closed, and user text is escaped."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:|#)', text) and "<script" not in text and "url(" not in text
    assert "tiny &lt;digits&gt; &amp; more" in text and "tiny <digits>" not in text

    class Balance(HTMLParser):
        open: ClassVar[list[str]] = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "link", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(text)
    assert parser.open == []


def test_the_page_says_everything(page):
    """Settings, words, table, figures with captions, verdicts, what is missing, and how to reproduce."""
    text = page.read_text(encoding="utf-8")
    for section in ("In words", "Table", "Figures", "Verdicts", "Settings", "How to reproduce"):
        assert f"<h2>{section}</h2>" in text
    assert "not analyzed: model_7_data_17" in text and "num_directions: 12" in text
    assert text.count("<img ") == 11 == text.count("<figcaption>")
    assert text.index("log_mass_against_data") < text.index("log_volume_against_data")
    assert "minima-volume new base --pair 0:10 --pair 1:11" in text
    assert "cannot be trusted: one direction of 500 decides it" in text


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_page_opens_in_a_browser_without_errors(page, tmp_path):
    """Every image has pixels, nothing is wider than the window, the console is silent."""
    probe = (
        "<script>addEventListener('load', () => { const all = [...document.images];"
        "document.title = [all.length, all.filter(i => i.naturalWidth > 300).length,"
        "document.documentElement.scrollWidth <= innerWidth].join(' ') })</script>"
    )
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", probe + "</body>"), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    done = subprocess.run([*command, probed.as_uri()], capture_output=True, text=True, timeout=180, check=True)
    assert "<title>11 11 true</title>" in done.stdout
    assert "CONSOLE" not in done.stderr


def test_the_command_writes_the_page(page, cli, tmp_path, monkeypatch):
    """Where it is told to; a run folder is refused."""
    monkeypatch.setattr("minima_volume.reports.html.draw", lambda collected: {})  # drawn above
    code, out, _ = cli("report", page.parent.parent, "--output", tmp_path / "page.html")
    assert code == 0 and out.strip().endswith("page.html")
    assert "<h2>Verdicts</h2>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    code, _, err = cli("report", page.parent.parent / "model_0_data_10")
    assert code == 1 and "is a run folder; report takes a condition folder" in err


# ---- videos


def frames_of(path):
    with Image.open(path) as image:
        return image.n_frames, image.size, image.info["duration"]


def test_the_landscape_as_data_is_added(digits_run, tmp_path):
    """As many frames as asked for, of one size, at the speed asked for; nothing temporary is left."""
    pictures = landscape_frames(digits_run, 3, resolution=5, progress=False)
    path = save_video(pictures, tmp_path / "new" / "landscape.gif", fps=4, progress=False)
    count, size, duration = frames_of(path)
    assert count == 3 and size[0] > 400 and duration == 250
    assert [p.name for p in path.parent.iterdir()] == ["landscape.gif"]
    with Image.open(path) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
        corner = image.convert("RGB").getpixel((0, 0))
    assert corner == (255, 255, 255) and any(
        r > 230 and g > 200 and b < 90 for r, g, b in colours
    )  # the colour bar's top


def test_a_ray_is_walked_to_beyond_its_crossing(digits_run):
    """The first frame is inside, the last outside; samples of one picture together make its mean loss."""
    first, *_, last = ray_frames(digits_run, 4, minimum=0, seed=2)
    assert first.axes[1].get_title() == "inside the minimum" and last.axes[1].get_title() == "outside"
    heights = [bar.get_height() for bar in last.axes[1].patches]
    assert sum(heights) / len(heights) == pytest.approx(last.axes[0].lines[1].get_ydata()[-1], rel=1e-6)
    assert heights == sorted(heights, reverse=True) and len(heights) == 20
    walk = Walk(digits_run, mv.load_models_and_data(digits_run), 0, 2)
    assert walk.loss(walk.crossing(0.5)) == pytest.approx(0.5, rel=1e-3)


def test_the_decision_boundary_of_points_in_the_plane(tmp_path, digits_run):
    """Only for points: other samples are an error that says so."""
    run = make_run(tmp_path / "model_0_data_10", {**SWISS, "data.levels": [0]}, stages=("train",))
    first, last = boundary_frames(run, 2, seed=3)
    assert "radius 0.00" in first.axes[0].get_title() and "inside" in first.axes[0].get_title()
    assert "outside" in last.axes[0].get_title()
    with pytest.raises(ConfigError, match=r"samples of shape \(1, 8, 8\), not points in the plane"):
        next(boundary_frames(digits_run, 2))


def test_files_that_are_no_videos(tmp_path, cli, digits_run):
    """The ending is checked before anything is drawn; an unknown video is named."""
    with pytest.raises(ConfigError, match=r"videos are \.gif or \.mp4"):
        save_video(iter(()), tmp_path / "a.avi", progress=False)
    code, _, err = cli("video", "landscape", digits_run.folder, "--seed", "3")
    assert code == 1 and "video landscape has three minima and no direction: leave --minimum and --seed out" in err
    code, _, err = cli("video", "ray", digits_run.folder.parent)
    assert code == 1 and "is a condition folder; a run folder is wanted, such as" in err
    code, _, err = cli("video", "walk", digits_run.folder)
    assert code == 1 and "video 'walk' is not known; allowed: landscape, boundary, ray" in err


def test_an_mp4(digits_run, tmp_path, monkeypatch):
    """Through imageio-ffmpeg where it is installed, else an error that names the extra."""
    path = save_video(ray_frames(digits_run, 3), tmp_path / "a.mp4", fps=5, progress=False)
    found, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert found == 3 and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"pip install minima_volume\[video\]"):
        save_video(ray_frames(digits_run, 3), tmp_path / "b.mp4", progress=False)
