"""The ament package: two thin nodes, launch files, parameters, RViz layouts."""

from pathlib import Path

from setuptools import setup

PACKAGE = "m2h_ros"


def files(folder: str) -> tuple[str, list[str]]:
    """All files of `folder`, for the package's share folder."""
    return f"share/{PACKAGE}/{folder}", sorted(str(path) for path in Path(folder).iterdir() if path.is_file())


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Depth, semantics, surface normals and edges of one camera as ROS 2 topics, and a scene graph of them.",
    license="MIT",
    maintainer="m2h-runtime maintainers",
    maintainer_email="maintainers@m2h-runtime.invalid",
    packages=[PACKAGE],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml", "README.md"]),
        files("launch"),
        files("config"),
        files("rviz"),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={
        "console_scripts": [f"{node} = {PACKAGE}.{node}:main" for node in ("perception_node", "graph_node")]
    },
)
