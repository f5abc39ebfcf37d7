"""The supported range: quick tests on each Python with the oldest and the newest torch that exist for it (`make matrix`).

A session is skipped, and says so, where its Python is not on this machine. Each takes about ten minutes and, with a CUDA build of torch, 6 GB.
"""

from __future__ import annotations

import nox

OLDEST = {
    "3.10": ("2.4.*", "0.19.*"),
    "3.11": ("2.4.*", "0.19.*"),
    "3.12": ("2.4.*", "0.19.*"),
    "3.13": ("2.6.*", "0.21.*"),
}
QUICK = ("losses", "config", "models", "perturbation", "hosts", "training", "curvature", "volume", "stages")
MARKS = "not slow and not real_data and not notebooks"

nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["newest", "oldest"]


@nox.session(python=list(OLDEST))
def newest(session: nox.Session) -> None:
    """All dependencies as new as they come."""
    session.install("--editable", ".[test]")
    _test(session)


@nox.session(python=list(OLDEST))
def oldest(session: nox.Session) -> None:
    """The oldest torch with wheels for this Python."""
    torch, vision = OLDEST[str(session.python)]
    session.install(f"torch=={torch}", f"torchvision=={vision}")
    session.install("--editable", ".[test]", f"torch=={torch}", f"torchvision=={vision}")
    _test(session)


def _test(session: nox.Session) -> None:
    session.run(
        "python", "-c", "import sys, torch, numpy; print(sys.version.split()[0], torch.__version__, numpy.__version__)"
    )
    folders = [*(f"tests/{name}" for name in QUICK), "tests/test_isolation.py", "tests/test_gpu.py"]
    session.run(
        "python", "-m", "pytest", "-q", "-x", "-m", MARKS, *(session.posargs or folders), env={"OMP_NUM_THREADS": "1"}
    )
