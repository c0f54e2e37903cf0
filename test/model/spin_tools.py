"""The tools that the model checker needs."""

import os
import shutil
import subprocess
import sys


def install_tools() -> None:
    """Install spin and gcc where they are missing and that is permitted.

    Exit with a clear word otherwise.
    """
    missing = [tool for tool in ("spin", "gcc") if not shutil.which(tool)]
    if not missing:
        return
    packages = [*missing, *(["libc6-dev"] if "gcc" in missing else [])]
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0:
        command = ["sudo", "-n", *command]
    if shutil.which(command[0]) and shutil.which("apt-get"):
        print(f"installing {' and '.join(missing)}: {' '.join(command)}", flush=True)
        for attempt in (
            command,
            [*command[: command.index("apt-get")], "apt-get", "update"],
            command,
        ):
            if (
                subprocess.run(attempt, stdout=subprocess.DEVNULL, check=False).returncode == 0
                and attempt is command
            ):
                return
    sys.exit(
        f"The model checker needs {' and '.join(missing)}, and may not install them here. "
        "On Debian or Ubuntu: apt-get install spin gcc libc6-dev"
    )
