"""A cluster's API as far as `helm template --dry-run=server` asks it: objects by name."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from charts.conftest import templated

Objects = Mapping[tuple[str, str], Any]
#: What the cluster knows: the kinds that the chart renders.
_KINDS = {
    "v1": ("Secret", "PersistentVolumeClaim", "ServiceAccount", "ConfigMap", "Service", "Pod"),
    "apps/v1": ("StatefulSet", "Deployment"),
    "batch/v1": ("Job",),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "networking.k8s.io/v1": ("NetworkPolicy", "Ingress"),
    "policy/v1": ("PodDisruptionBudget",),
}


def templated_beside(
    objects: Objects, folder: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Render the chart as for a cluster that holds ``objects``, by plural and name."""
    with _serving(objects) as port:
        cluster = {"name": "fake", "cluster": {"server": f"http://127.0.0.1:{port}"}}
        context = {"name": "fake", "context": {"cluster": "fake", "user": ""}}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "contexts": [context],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps({**config, "current-context": "fake"}))
        return templated(
            "--dry-run=server", "--disable-openapi-validation", f"--kubeconfig={path}", *options
        )


@contextlib.contextmanager
def _serving(objects: Objects) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0].strip("/").split("/")
            answer = _answer(path, objects)
            body = json.dumps(
                answer or {"kind": "Status", "status": "Failure", "code": 404}
            ).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(path: list[str], objects: Objects) -> Any:
    if path == ["version"]:
        return {"major": "1", "minor": "37", "gitVersion": "v1.37.2"}
    if path == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == ["apis"]:
        groups = [version.split("/") for version in _KINDS if "/" in version]
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [_group(*each) for each in groups],
        }
    version = "/".join(path[1:2] if path[0] == "api" else path[1:3])
    if len(path) == len(version.split("/")) + 1 and version in _KINDS:
        return {
            "kind": "APIResourceList",
            "groupVersion": version,
            "resources": _resources(version),
        }
    return objects.get((path[-2], path[-1]))


def _group(name: str, version: str) -> dict[str, Any]:
    served = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [served], "preferredVersion": served}


def _resources(version: str) -> list[dict[str, Any]]:
    common = {"namespaced": True, "verbs": ["get", "list"]}
    return [{"name": _plural(kind), "kind": kind, **common} for kind in _KINDS[version]]


def _plural(kind: str) -> str:
    word = kind.lower()
    if word.endswith("y"):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith("s") else f"{word}s"
