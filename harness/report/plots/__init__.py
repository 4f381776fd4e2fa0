"""Plots as SVG text: the page's colours (light and dark) reach into them, and text stays text at any width."""
