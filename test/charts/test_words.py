"""What chart and Makefile tell a person to do next, and which builder they take."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from charts.conftest import helm
from shop.deploy.manifests import CHART, NAMESPACE
from shop.project import ROOT

NEWMAN = "newman run test/hw10.postman_collection.json"


def _notes(tmp_path: Path, *options: str) -> str:
    """Return what `helm install` says in the end; no cluster is asked."""
    empty = tmp_path / "kubeconfig"
    empty.touch()
    words = ("install", "shop", str(CHART), "--dry-run=client", f"--kubeconfig={empty}")
    done = helm(*words, f"--namespace={NAMESPACE}", *options)
    assert not done.returncode, done.stderr
    return done.stdout.split("NOTES:", 1)[1]


def _newman(notes: str) -> list[str]:
    return [line.strip() for line in notes.splitlines() if "newman run" in line]


def test_notes_name_the_host_that_the_collection_does_not_know(tmp_path: Path) -> None:
    """The collection goes to arch.homework unless it is told of another one."""
    plain, other = (
        _notes(tmp_path, *each) for each in ((), ("--set=ingress.host=shop.example.org",))
    )

    assert _newman(plain) == [NEWMAN]
    assert _newman(other) == [f"{NEWMAN} --env-var baseUrl=shop.example.org"]


def test_notes_say_that_the_collection_speaks_no_tls(tmp_path: Path) -> None:
    """Its addresses begin with http://, and a redirect would make a GET of every POST."""
    notes = _notes(tmp_path, "--set=ingress.tlsSecret=tls")

    assert _newman(notes) == []
    assert "https://arch.homework/" in notes
    assert "speaks plain HTTP" in notes


def _stand_in(folder: Path, name: str, *, works: bool) -> None:
    """Make a builder that says what it is asked to build, or that has no engine."""
    script = f'[ "$1" = info ] && exit {0 if works else 1}\necho {name} "$@"\n'
    (folder / name).write_text(f"#!/bin/sh\n{script}")
    (folder / name).chmod(0o755)


def _make_images(folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    for tool in ("sh", "bash", "make", "sed"):
        found = shutil.which(tool)
        assert found
        (folder / tool).symlink_to(found)
    return subprocess.run(
        ["make", "images", f"SHELL={folder / 'bash'}", *settings],
        cwd=ROOT,
        env={**os.environ, "PATH": str(folder), "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("working", "taken"),
    [
        ({"docker", "podman", "buildah"}, "docker"),
        ({"podman", "buildah"}, "podman"),
        ({"buildah"}, "buildah"),
    ],
)
def test_images_are_built_by_the_first_builder_that_works(
    tmp_path: Path, working: set[str], taken: str
) -> None:
    """A docker client without an engine builds nothing."""
    for name in ("docker", "podman", "buildah"):
        _stand_in(tmp_path, name, works=name in working)

    done = _make_images(tmp_path)

    assert done.returncode == 0, done.stderr
    built = [line for line in done.stdout.splitlines() if " build " in line]
    assert len(built) == 4
    assert {line.split()[0] for line in built} == {taken}


def test_images_take_the_builder_that_is_named(tmp_path: Path) -> None:
    """Even one whose engine does not tell of itself."""
    _stand_in(tmp_path, "docker", works=True)
    _stand_in(tmp_path, "buildah", works=False)

    done = _make_images(tmp_path, "BUILDER=buildah")

    assert "buildah build --build-arg SERVICE=order_service" in done.stdout


def test_images_without_a_builder_end_with_a_sentence(tmp_path: Path) -> None:
    """An engine that does not run is named as what is missing."""
    _stand_in(tmp_path, "docker", works=False)

    done = _make_images(tmp_path)

    assert done.returncode
    assert "docker with a running engine, podman or buildah is needed" in done.stdout
