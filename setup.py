"""What pyproject.toml cannot say: all packages, and the two folders that the shop reads."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(
            include=["two_phase*", "service_chassis*", "*_service*", "shop*"],
            exclude=["build*", "test*", "*.__pycache__*"],
        ),
        # An installed shop finds them by shop.project.project_file.
        "shop.config",
        "shop.k8s",
    ],
    package_dir={"shop.config": "config", "shop.k8s": "k8s"},
)
