"""The ways to render a report's parts: HTML, Markdown, terminal, LaTeX. A view reads no file of a run."""
