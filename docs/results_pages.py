"""Adds the answers under results/ to the documentation: each README as a page, with its picture and its list of runs.

A hook of MkDocs (``hooks`` in mkdocs.yml).
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every folder of results/reference and results/studies that has a README becomes a page."""
    results = Path(config.config_file_path).parent / "results"
    for readme in sorted(results.glob("*/*/README.md")):
        folder = readme.parent
        for source in filter(Path.is_file, (readme, folder / "report.png", folder / "runs.csv")):
            name = "index.md" if source == readme else source.name
            page = f"results/{folder.parent.name}/{folder.name}/{name}"
            files.append(File.generated(config, page, abs_src_path=str(source)))
    return files
