"""The documentation site: ``./invoke site`` builds it from these pages, with Sphinx."""

import shutil
from pathlib import Path

from sphinx.application import Sphinx

project = "gearman_py"
author = copyright = "the gearman_py authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
myst_heading_anchors = 4  # links to headings, as GitHub has them
html_theme = "furo"
html_title = project
html_show_sphinx = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "inherited-members": "Exception"}
python_use_unqualified_type_names = True

NAVIGATION = {
    "Start here": ["tutorial", "how-it-works", "migrating", "coming-from", "zh"],
    "Operators": [
        *("operator", "inventory", "connecting", "own-workers", "upgrades", "doctor", "faults"),
        *("security", "tls", "firewall", "distributions"),
    ],
    "Job server": [
        *(
            "packages",
            "containers",
            "settings",
            "durable-queue",
            "high-availability",
            "scaling",
            "reliability",
            "metrics",
        ),
        *("dashboard", "alerts", "steering", "http", "command-line", "differences", "benchmarks"),
    ],
    "Workers and clients": ["worker-author", "client", "frameworks", "resize", "api"],
    "Contributors": ["contributing", "protocol", "changelog", "third-party"],
}


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_navigation)
    app.connect("build-finished", make_index)


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Give the index its table of contents, which would be noise where it is read as a file."""
    if page == root_doc:
        for caption, pages in NAVIGATION.items():
            lines = [f":caption: {caption}", ":hidden:", "", *pages]
            source[0] += "\n".join(["", "```{toctree}", *lines, "```", ""])


def make_index(app: Sphinx, error: Exception | None) -> None:
    """What a web server shows for the folder."""
    if not error:
        shutil.copy(Path(app.outdir, "README.html"), Path(app.outdir, "index.html"))
