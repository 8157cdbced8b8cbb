"""The package as others get it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1]


def run(*command: object, folder: Path = FOLDER) -> str:
    # The sources must not be found where the installed package is meant.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def types_known(tmp_path_factory):
    """Where mypy keeps what it has found out."""
    return tmp_path_factory.mktemp("mypy")


def test_types_fit_as_strictly_as_mypy_can_check(types_known):
    run(sys.executable, "-m", "mypy", "--cache-dir", types_known)


def test_the_oldest_python_that_is_promised_can_read_it():
    for source in (*FOLDER.glob("src/**/*.py"), *FOLDER.glob("examples/*.py")):
        ast.parse(source.read_text(), str(source), feature_version=(3, 9))


def test_pip_installs_the_folder(tmp_path):
    fresh = tmp_path / "venv"
    venv.create(fresh, with_pip=False, symlinks=True)
    python = fresh / "bin" / "python"
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # What the package is built with and what it needs are those of this environment, so that no network is asked.
    (own / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--no-index", "--no-deps", "--no-build-isolation", FOLDER)
    said = run(
        python,
        "-c",
        "import remote_jobs, importlib.metadata as metadata\n"
        "about = metadata.metadata('remote-jobs')\n"
        "print(remote_jobs.__file__, metadata.requires('remote-jobs'), about['Requires-Python'], about['Version'])\n"
        "assert about['Version'] == remote_jobs.__version__\n",
        folder=tmp_path,
    )
    where, rest = said.split(" ", 1)
    assert Path(where).parent == own / "remote_jobs" and (own / "remote_jobs" / "py.typed").is_file()
    assert rest.strip() == "['httpx<1,>=0.25'] >=3.9 0.1.0"


def test_the_examples_types_fit(tmp_path, types_known):
    config = tmp_path / "mypy.ini"
    # Celery has no types.
    config.write_text(
        "[mypy]\npython_version = 3.9\nmypy_path = src:examples\nfollow_imports = silent\ncheck_untyped_defs = true\n"
        + "".join(
            f"[mypy-{module}.*]\nfollow_imports = skip\nignore_missing_imports = true\n"
            for module in ("anyio", "click", "rich", "pygments", "celery")
        )
    )
    run(
        sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", types_known, *FOLDER.glob("examples/*.py")
    )
