"""How the guide is built: ``python -m sphinx -W docs docs/built``.

The jobs of the gallery run while the pages are built, all but one in the Ray that is started here.
"""

import warnings

import ray
from sphinx.application import Sphinx

import thread_chunks

project = "thread-chunks"
author = "the authors of thread-chunks"
release = version = thread_chunks.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["built", "jobs", "sg_execution_times.rst"]
default_role = "py:obj"  # a name in single backticks is a link where the reference has it

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have them, and `map` has a signature for each combination of options
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "jobs",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "copyfile_regex": r".*\.png",
}

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_copyright = False


def _start_ray(_: Sphinx) -> None:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")


def _stop_ray(_: Sphinx, __: Exception | None) -> None:
    ray.shutdown()


def setup(app: Sphinx) -> None:
    """Let the jobs of the gallery share one Ray."""
    warnings.filterwarnings("error", module="thread_chunks")
    app.connect("builder-inited", _start_ray, priority=0)  # before the gallery's own
    app.connect("build-finished", _stop_ray)
