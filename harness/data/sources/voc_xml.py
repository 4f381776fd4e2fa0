"""One annotation file of PASCAL VOC, and what other tools write under its name."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.data.records import AnnotationProblem, Box, ObjectRecord
from harness.data.values import BadValue, flag, whole_number

CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*\?>""")


class Unusable(Exception):
    """An annotation or object that cannot be read; the message says why."""


class VocFile(NamedTuple):
    """What stands in one file."""

    width: int  # px; 0 where it does not say
    height: int
    objects: tuple[ObjectRecord, ...]
    problems: tuple[AnnotationProblem, ...]


def read_voc_xml(path: Path, *, one_based: bool, ignore_difficult: bool) -> VocFile:
    """Read one file. Tags count in any case and any namespace; ``<objects>`` around the objects is looked into.

    Raises:
        Unusable: the file is missing, no XML, or no annotation in VOC's form.
    """
    root = parse_voc_xml(path)
    objects: list[ObjectRecord] = []
    problems: list[AnnotationProblem] = []
    nodes = list(_objects(root))
    for index, node in enumerate(nodes):
        try:
            objects.append(_object(index, node, one_based, ignore_difficult))
        except (Unusable, BadValue) as error:
            problems.append(AnnotationProblem(path.name, index, str(error)))
    inside = {box for node in nodes for box in _boxes(node)}
    if strays := sum(box not in inside for box in _boxes(root)):
        what = f"{strays} <bndbox> outside of an <object>"
        problems.append(AnnotationProblem(path.name, None, what, "<object> with <name> and <bndbox>"))
    size = _child(root, "size")
    try:
        width, height = (whole_number(_text(size, side)) or 0 for side in ("width", "height"))
    except BadValue as error:
        raise Unusable(f"size: {error}") from None
    return VocFile(width, height, tuple(objects), tuple(problems))


def parse_voc_xml(path: Path) -> ElementTree.Element:
    """The root element of a file in VOC's form.

    Raises:
        Unusable: the file is missing, no XML, or its root is another element.
    """
    root = _parse(path)
    if _tag(root) != "annotation":
        raise Unusable(f"the root element is <{root.tag}>; valid: <annotation>")
    return root


def _parse(path: Path) -> ElementTree.Element:
    if not path.is_file():  # a pipe of this name would be waited for
        raise Unusable("annotation is missing")
    try:
        data = path.read_bytes()
        declared = _DECLARATION.match(data)
        if declared is not None and not declared[1].lower().startswith((b"utf", b"us-ascii")):
            # The XML parser knows no encodings of several bytes but Unicode's; Python's codecs do.
            return ElementTree.fromstring(data[declared.end() :].decode(declared[1].decode()))
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError, OSError, RecursionError, MemoryError) as error:
        raise Unusable(f"broken XML ({error})") from None


def _objects(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for child in root:
        if _tag(child) == "object":
            yield child
        elif _tag(child) == "objects":
            yield from (inner for inner in child if _tag(inner) == "object")


def _object(index: int, node: ElementTree.Element, one_based: bool, ignore_difficult: bool) -> ObjectRecord:
    name = _text(node, "name")
    if not name:
        raise Unusable("object has no name")
    boxes = [child for child in node if _tag(child) == "bndbox"]
    if len(boxes) > 1:
        raise Unusable(f"object has {len(boxes)} <bndbox>; valid: one, and an <object> for each")
    try:
        corners = [float(_text(boxes[0], key)) for key in CORNERS]
    except (ValueError, IndexError):
        raise Unusable(f"bndbox lacks a number; valid: {', '.join(CORNERS)}") from None
    difficult = flag(_text(node, "difficult"))
    box = _box(*corners, one_based=one_based)
    return ObjectRecord(index, box, tuple(corners), name, difficult=ignore_difficult and difficult)


def _box(xmin: float, ymin: float, xmax: float, ymax: float, *, one_based: bool) -> Box:
    if not one_based:
        return Box(xmin, ymin, xmax, ymax)
    # Equal corners are a click, not an object one pixel wide: they stay equal, to be found by the check.
    return Box(xmin - 1, ymin - 1, xmax if xmax > xmin else xmax - 1, ymax if ymax > ymin else ymax - 1)


def _boxes(node: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """All boxes below a node; those of an object's <part> belong to the object."""
    return (inner for inner in node.iter() if _tag(inner) == "bndbox")


def _tag(node: ElementTree.Element) -> str:
    """The name of a node in lower case, without its namespace; comments and instructions have none."""
    return node.tag.rpartition("}")[2].lower() if isinstance(node.tag, str) else ""


def _child(node: ElementTree.Element | None, tag: str) -> ElementTree.Element | None:
    return None if node is None else next((child for child in node if _tag(child) == tag), None)


def _text(node: ElementTree.Element | None, tag: str) -> str:
    child = _child(node, tag)
    return "" if child is None else (child.text or "").strip()
