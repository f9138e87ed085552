"""Install the wheel of a commit into asv's environment (`asv.conf.json`), which runs this: `asv_install.py PROJECT WHEEL`.

The packages that it needs come from the project's .venv if there is one of the same Python, so that torch and the others are not installed
once more, and both commits run the same. Otherwise pip installs them, as constraints.txt says.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path


def shared_packages(project: Path) -> Path | None:
    """The folder of the packages in the project's .venv; None if there is none of this Python with torch."""
    packages = project / ".venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    return packages if (packages / "torch").is_dir() else None


def arguments(project: Path, wheel: str, own_packages: Path) -> list[str]:
    """Let the environment find the shared packages, after its own ones; return the arguments of pip.

    A path file makes Python search the folder, but not run the path files in it: this project, which .venv holds as such a file, is not
    found there.
    """
    link = own_packages / "packages-of-the-project.pth"
    shared = shared_packages(project)
    if shared is None:
        link.unlink(missing_ok=True)
        return ["--constraint", str(project / "constraints.txt"), wheel]
    link.write_text(f"{shared}\n")
    return ["--no-deps", "--ignore-installed", wheel]  # pip sees the project in .venv, and would leave it at that


def main() -> int:
    """Install; the exit code is pip's."""
    project, wheel = sys.argv[1:]
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    return subprocess.call([*pip, *arguments(Path(project), wheel, Path(sysconfig.get_path("purelib")))])


if __name__ == "__main__":
    sys.exit(main())
