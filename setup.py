"""What pyproject.toml cannot express: `conf/` and `requirements/` are installed as folders of `optimize`."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["optimize*", "objectives*", "demo*"]),
        "optimize.conf",
        "optimize.requirements",
    ],
    package_dir={"optimize.conf": "conf", "optimize.requirements": "requirements"},
)
