"""Where the book's repository lives, and every link that is made from it.

The address stands in one place, ``repository`` in ``_config.yml``. A copy of the book that
is built elsewhere (a fork, the deploy workflow) names its own repository in the environment
variable ``NIHAO_REPOSITORY`` as ``owner/name``, and every link follows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective

VARIABLE = "NIHAO_REPOSITORY"
_GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
_OWNER_NAME = re.compile(r"([\w.-]+)/([\w.-]+)")


@dataclass(frozen=True)
class Address:
    """A repository on GitHub and the branch that the links point at.

    >>> Address("owner", "name").colab("chapters/01_chain_rule.ipynb")
    'https://colab.research.google.com/github/owner/name/blob/main/chapters/01_chain_rule.ipynb'
    """

    owner: str
    name: str
    branch: str = "main"

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"https://github.com/{self.owner}/{self.name}"

    @property
    def new_issue(self) -> str:
        """The page that reports a mistake."""
        return f"{self.url}/issues/new"

    @property
    def pages(self) -> str:
        """The root of the published site, with a slash at the end."""
        host = f"{self.owner.lower()}.github.io"
        return f"https://{host}/" if self.name.lower() == host else f"https://{host}/{self.name}/"

    def blob(self, path: str) -> str:
        """The page that shows the file at `path`, relative to the repository's root."""
        return f"{self.url}/blob/{self.branch}/{quote(path)}"

    def colab(self, path: str) -> str:
        """The link that opens the notebook at `path` in Colab."""
        github = f"{self.owner}/{self.name}/blob/{self.branch}/{quote(path)}"
        return f"https://colab.research.google.com/github/{github}"


def read_address(config: Path, environ: Mapping[str, str] = os.environ) -> Address:
    """Read the address from the book's configuration file, or from the environment.

    Args:
        config: path of ``_config.yml``.
        environ: where ``NIHAO_REPOSITORY`` is looked up; empty counts as not set.

    Raises:
        ValueError: the variable or ``repository.url`` names no repository on GitHub.
    """
    repository = yaml.safe_load(config.read_text(encoding="utf-8"))["repository"]
    branch = repository.get("branch", "main")
    override = environ.get(VARIABLE, "").strip()
    if override:
        match = _OWNER_NAME.fullmatch(override)
        if match is None:
            raise ValueError(f"{VARIABLE} is {override!r}; it must be of the form owner/name")
    else:
        match = _GITHUB.fullmatch(repository["url"])
        if match is None:
            raise ValueError(
                f"repository.url in {config.name} is {repository['url']!r}; "
                "it must be of the form https://github.com/owner/name"
            )
    return Address(match[1], match[2], branch)


def _read(app: Sphinx, config: Config) -> None:
    """Keep the address for the pages, and make it the base of canonical links."""
    address = read_address(Path(app.srcdir) / "_config.yml")
    config.html_baseurl = config.html_baseurl or address.pages
    config.html_context["address"] = address


def _add_links(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Give the page's template its links: Colab and download for a notebook, source for all."""
    if doctree is None:
        return
    address: Address = context["address"]
    source = str(app.env.doc2path(pagename, base=False))
    context["source_url"] = address.blob(source)
    if source.endswith(".ipynb"):
        context["colab_url"] = address.colab(source)
        context["download"] = f"_sources/{context['sourcename']}"


class CloneCommand(SphinxDirective):
    """The directive ``{clone-command}``: the shell lines that fetch the repository."""

    def run(self) -> list[nodes.Node]:
        """Return the lines as a block of code."""
        address: Address = self.config.html_context["address"]
        lines = f"git clone {address.url}\ncd {address.name}"
        return [nodes.literal_block(lines, lines, language="bash")]


def setup(app: Sphinx) -> None:
    """Connect the address to the build."""
    app.add_directive("clone-command", CloneCommand)
    app.connect("config-inited", _read)
    app.connect("html-page-context", _add_links)
