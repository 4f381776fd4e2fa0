"""Annotations and detections in the formats of COCO, YOLO (text files) and VOC (XML files), read as COCO's.

A path decides: a .json file is COCO's; a data.yaml, or a folder with one, is YOLO's; a folder with Annotations/ is
VOC's; of detections, a folder of .txt files is YOLO's and one of .xml files VOC's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from harness.data.records import AnnotationProblem, ObjectRecord, list_problems, shape_problem
from harness.data.sources.voc_layout import annotation_files, listed_name, split_list, split_lists
from harness.data.sources.voc_xml import CORNERS, Unusable, parse_voc_xml, read_voc_xml
from harness.data.sources.yolo_labels import read_labels
from harness.data.sources.yolo_layout import YoloLayout, label_file
from harness.data.values import BadValue, text_of

Document = dict[str, Any]


def read_annotations(path: Path, split: str = "val", lenient: bool = False) -> tuple[Document, tuple[str, ...]]:
    """The annotations as a COCO document, and a note where some were left out.

    Args:
        path: a COCO file, a data.yaml or its folder, or a VOC folder.
        split: of a YOLO folder: a key of its data.yaml; of a VOC folder: a list in ImageSets/Main; where there are no
            lists, all annotations.
        lenient: objects of YOLO's and VOC's files that cannot be used are left out, as ``data.on_bad=drop`` does in
            training.

    Raises:
        ValueError: what is missing, cannot be read, or, unless ``lenient``, cannot be used.
    """
    if path.is_dir() and (path / "Annotations").is_dir():
        document, problems = _voc_annotations(path, split)
    elif path.is_dir() or path.suffix.lower() in (".yaml", ".yml"):
        document, problems = _yolo_annotations(path, split)
    else:
        return read_json(path), ()
    if problems and not lenient:
        raise ValueError(f"annotations (--lenient goes on without them): {list_problems(problems)}")
    first = f" (the first: {problems[0]})" if problems else ""
    return document, (f"annotations: {len(problems)} left out{first}",) if problems else ()


def read_detections(path: Path, annotations: Mapping[str, Any]) -> Any:
    """The detections as a COCO results list, or what stands in a JSON file.

    Args:
        path: a JSON file, a folder of YOLO's ``class cx cy w h score`` files, or one of VOC's XML files with a
            ``<score>`` or ``<confidence>`` of each object; files are named as the images are.
        annotations: the COCO document that they belong to.

    Raises:
        ValueError: one line: what is missing or cannot be read.
    """
    if not path.is_dir():
        return read_json(path)
    images: dict[str, list[Document]] = {}
    for row in annotations.get("images", ()):
        images.setdefault(Path(str(row.get("file_name", row.get("id")))).stem, []).append(row)
    files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    texts = [file for file in files if file.suffix.lower() == ".txt"]
    xmls = [file for file in files if file.suffix.lower() == ".xml"]
    if not texts and not xmls:
        raise ValueError(f"{path}: no .txt and no .xml file; valid: a folder of detections, or a JSON file")
    rows: list[Document] = []
    for file in texts or xmls:
        named = images.get(file.stem, [])
        if len(named) != 1:
            many = ", ".join(str(row.get("file_name")) for row in named[:3])
            found = f"several images of this name ({many}); valid: a JSON file" if named else "no image of this name"
            raise ValueError(f"{file}: the annotations have {found}")
        read = _yolo_rows if texts else _voc_rows
        rows += read(file, named[0], annotations)
    return rows


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        ValueError: one line: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except json.JSONDecodeError as fault:
        raise ValueError(f"{path}: broken JSON, {fault.msg} at line {fault.lineno} column {fault.colno}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: no JSON text (not UTF-8)") from None
    except RecursionError:
        raise ValueError(f"{path}: broken JSON, its values are nested too deeply") from None


def _yolo_annotations(path: Path, split: str) -> tuple[Document, list[AnnotationProblem]]:
    layout = YoloLayout.read(path, allow_outside=True)
    images: list[Document] = []
    objects: list[Document] = []
    problems: list[AnnotationProblem] = []
    for number, image in enumerate(layout.images(split), start=1):
        width, height = _size(image)
        images.append({"id": number, "file_name": image, "width": width, "height": height})
        labels = label_file(image)
        found = read_labels(labels, str(labels), layout.names, width, height)
        problems += found.problems
        for entry in _usable(found.objects, labels, "line", problems):
            row = _object(entry.box, number, layout.names.index(entry.name) + 1)
            if entry.segmentation is not None:
                row["segmentation"] = entry.segmentation
            objects.append(row | {"id": len(objects) + 1})
    return _document(images, objects, layout.names), problems


def _voc_annotations(path: Path, split: str) -> tuple[Document, list[AnnotationProblem]]:
    folder, chosen = path / "Annotations", split_list(path, split)
    files = annotation_files(path)
    names = list(files)
    if chosen is not None:
        lines = text_of(chosen.read_bytes()).splitlines()
        known = set(names)
        names = [listed_name(line.strip(), known) for line in lines if line.strip()]
    elif lists := split_lists(path):
        raise ValueError(f"--split {split}: it is not in {path / 'ImageSets' / 'Main'}; valid: {', '.join(lists)}")
    images: list[Document] = []
    found = []
    problems: list[AnnotationProblem] = []
    for number, name in enumerate(names, start=1):
        file = folder / files.get(name, f"{name}.xml")
        try:
            read = read_voc_xml(file, one_based=True, ignore_difficult=True)
        except Unusable as error:
            raise ValueError(f"{file}: {error}") from None
        problems += read.problems
        images.append({"id": number, "file_name": f"{name}.jpg", "width": read.width, "height": read.height})
        found += [(number, entry) for entry in _usable(read.objects, file, "object", problems)]
    classes = sorted({entry.name for _, entry in found})
    objects = [
        _object(entry.box, number, classes.index(entry.name) + 1)
        | {"id": index, "iscrowd": int(entry.difficult), "difficult": int(entry.difficult)}
        for index, (number, entry) in enumerate(found, start=1)
    ]
    return _document(images, objects, classes), problems


def _usable(
    objects: Iterable[ObjectRecord], file: Path, unit: str, problems: list[AnnotationProblem]
) -> Iterator[ObjectRecord]:
    """The objects whose boxes have an area; the others are entered in ``problems``."""
    for entry in objects:
        what = shape_problem(entry.box)
        if what is None:
            yield entry
        else:
            shown = ", ".join(f"{value:g}" for value in entry.written)
            problems.append(AnnotationProblem(str(file), entry.index, f"{what} [{shown}]", unit=unit))


def _yolo_rows(file: Path, image: Mapping[str, Any], annotations: Mapping[str, Any]) -> Iterator[Document]:
    categories = sorted(annotations.get("categories", ()), key=lambda row: row["id"])
    width, height = image.get("width"), image.get("height")
    if not width or not height:
        raise ValueError(f"images: {image.get('id')!r} has no width and height, which the shares in {file.name} need")
    for line, row in enumerate(_lines(file), start=1):
        try:
            label, cx, cy, w, h, score = (float(word) for word in row.split())
        except ValueError:
            raise ValueError(f"{file}, line {line}: {row[:60]!r}; valid: class cx cy w h score") from None
        if not (label.is_integer() and 0 <= label < len(categories)):
            raise ValueError(f"{file}, line {line}: class {label:g}; valid: 0 to {len(categories) - 1}")
        box = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
        yield {"image_id": image["id"], "category_id": categories[int(label)]["id"], "bbox": box, "score": score}


def _voc_rows(file: Path, image: Mapping[str, Any], annotations: Mapping[str, Any]) -> Iterator[Document]:
    ids = {row.get("name"): row["id"] for row in annotations.get("categories", ())}
    try:
        nodes = list(parse_voc_xml(file).iter("object"))
    except Unusable as error:
        raise ValueError(f"{file}: {error}") from None
    for index, node in enumerate(nodes):
        name = (node.findtext("name") or "").strip()
        try:
            x1, y1, x2, y2 = (float(node.findtext(f"bndbox/{key}", "")) for key in CORNERS)
            score = float(node.findtext("score") or node.findtext("confidence") or "")
        except ValueError:
            raise ValueError(f"{file}, object {index}: valid: <bndbox> and <score>, all numbers") from None
        box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
        yield {"image_id": image["id"], "category_id": ids.get(name, name), "bbox": box, "score": score}


def _lines(file: Path) -> Iterator[str]:
    try:
        return (line for line in text_of(file.read_bytes()).splitlines() if line.strip())
    except BadValue as error:
        raise ValueError(f"{file} {error}") from None


def _object(box: tuple[float, float, float, float], image: int, category: int) -> Document:
    x1, y1, x2, y2 = box
    bbox = [x1, y1, x2 - x1, y2 - y1]
    return {"image_id": image, "category_id": category, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}


def _document(images: list[Document], objects: list[Document], classes: tuple[str, ...] | list[str]) -> Document:
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": objects, "categories": categories}


def _size(image: str) -> tuple[int, int]:
    try:
        with Image.open(image) as opened:
            upright = ImageOps.exif_transpose(opened)
            return upright.size
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{image}: not an image that can be read ({error})") from None
