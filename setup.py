"""What pyproject.toml cannot express: `conf/` is installed as the folder `conf` of the package `optimize`."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["optimize*", "objectives*", "demo*"]), "optimize.conf"],
    package_dir={"optimize.conf": "conf"},
)
