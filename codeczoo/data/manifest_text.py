"""The text of a manifest as rows with their lines: CSV, TSV and JSON as they are written in the wild."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BYTE_ORDER_MARKS = (  # the longer ones first: UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
LINE_END = re.compile(r"\r\n|\n|\r")  # and not U+2028, U+0085 or a form feed, which texts may hold
DELIMITERS = {".csv": ",;\t|", ".tsv": "\t"}


@dataclass(frozen=True)
class Row:
    """One row of a manifest.

    Attributes:
        place: in the file, as "line 3".
        values: by column.
    """

    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Records:
    """A table of text.

    Attributes:
        head: names of the columns; rows: line and cells of the others. `quoted`: whether quotes were obeyed.
    """

    head: list[str]
    rows: list[tuple[int, list[str]]]
    quoted: bool


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises:
        ValueError: another encoding; the message names the line.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: the byte 0x{data[error.start]:02X} is not {encoding.upper().removesuffix('-SIG')}: "
            f"write the manifest as UTF-8, as `iconv -f LATIN1 -t UTF-8 {path.name}` does if it is Latin-1"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(
            f"{path}, line {line}: it holds NUL bytes, so it is no text, or UTF-16 without a byte order mark: write it "
            f"as UTF-8, as `iconv -f UTF-16LE -t UTF-8 {path.name}` does"
        )
    return text


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    for number, line in enumerate(LINE_END.split(text), 1):
        if line.strip():
            yield number, line


# -- CSV and TSV --------------------------------------------------------------------------------


def read_table(path: Path, text: str, is_known: Callable[[str], bool], is_path: Callable[[str], bool]) -> list[Row]:
    """Rows of CSV or TSV, by the file's suffix. CSV may be delimited by semicolons, tabs or bars.

    TSV is read without quotes, as Common Voice writes it; with them where its head is quoted, or where its lines fit
    the head with quotes only.

    Args:
        is_known: whether a column of that name is looked for; it decides between delimiters.
        is_path: whether a cell looks like the path of a clip; so an unclosed quote is noticed.

    Raises:
        ValueError: a line that does not fit the head, or a quote that is not closed.
    """
    delimiters = DELIMITERS[path.suffix.lower()]
    first = next((line for _, line in lines_of(text)), "")
    heads = {delimiter: first.split(delimiter) for delimiter in delimiters}
    known = (d for d, head in heads.items() if any(is_known(cell.strip('" ')) for cell in head))
    delimiter = next(known, max(delimiters, key=lambda d: len(heads[d])))
    records = _tabbed(path, text) if path.suffix.lower() == ".tsv" else _quoted(path, text, delimiter, is_path)
    head = [name.strip() for name in records.head]
    twice = next((name for name in head if name and head.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path}: the column {twice!r} is there twice")
    rows = []
    for line, cells in records.rows:
        if any(cells[len(head) :]):
            way_out = "quote a cell that holds the delimiter" if records.quoted else "a cell holds a tab"
            raise ValueError(f"{path}, line {line}: {len(cells)} cells, and the head has {len(head)}: {way_out}")
        rows.append(Row(f"line {line}", {name: cell for name, cell in zip(head, cells, strict=False) if name}))
    return rows


def _tabbed(path: Path, text: str) -> Records:
    """TSV."""
    lines = [(number, line.split("\t")) for number, line in lines_of(text)]
    if not lines:
        return Records([], [], quoted=False)
    (_, head), *rows = lines
    fits = all(len(cells) == len(head) for _, cells in rows)
    quoted_head = all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in head)
    if quoted_head:
        return _quoted(path, text, "\t", lambda cell: False)
    if not fits and '"' in text:
        try:
            records = _quoted(path, text, "\t", lambda cell: False)
        except ValueError:
            pass  # quotes are characters there
        else:
            if all(len(cells) == len(records.head) for _, cells in records.rows):
                return records
    return Records(head, rows, quoted=False)


def _quoted(path: Path, text: str, delimiter: str, is_path: Callable[[str], bool]) -> Records:
    """Text with quoted cells, which may run over several lines (RFC 4180)."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: list[tuple[int, list[str]]] = []
    lines: list[str] = []
    line = 1
    try:
        for cells in reader:
            if reader.line_num > line and found:
                lines = lines or LINE_END.split(text)
                _check_one_row(path, line, lines[line - 1 : reader.line_num], delimiter, len(found[0][1]), is_path)
            if any(cell.strip() for cell in cells):
                found.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {line}: {error}: a quoted cell ends with a quote before the delimiter, and quotes inside of "
            "it are doubled"
        ) from None
    return Records(found[0][1] if found else [], found[1:], quoted=True)


def _check_one_row(
    path: Path, first: int, lines: Sequence[str], delimiter: str, cells: int, is_path: Callable[[str], bool]
) -> None:
    """Raises a ValueError if a row of several lines is several rows, of which a quote that is not closed makes one."""
    for number, line in enumerate(lines[1:], first + 1):
        inside = line.split(delimiter)
        clip = next((cell for cell in inside if is_path(cell.strip('" '))), None)
        if len(inside) == cells and clip is not None:
            raise ValueError(
                f"{path}, line {first}: a quoted cell runs to line {first + len(lines) - 1}, and line {number} looks "
                f"like a row of its own ({clip!r}): is a quote not closed?"
            )


# -- JSON ---------------------------------------------------------------------------------------


def read_json(path: Path, text: str) -> list[Row]:
    """JSON lines; or, in a `.json`, one array of objects, or one object of them by their ids.

    Raises:
        ValueError: not JSON, or a row that is no object.
    """
    if path.suffix.lower() == ".json" and not _is_json_lines(text):
        return _whole(path, text)
    return [
        Row(f"line {number}", _object(path, f"line {number}", _parse(path, number, line)))
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]


def _is_json_lines(text: str) -> bool:
    """Whether the first line is a row by itself."""
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        row = json.loads(lines[0]) if lines else {}
    except (ValueError, RecursionError):
        return False
    if not isinstance(row, dict):
        return False
    by_id = len(lines) == 1 and row and all(isinstance(value, dict) for value in row.values())
    return not by_id


def _whole(path: Path, text: str) -> list[Row]:
    tree = _parse(path, 1, text)
    if isinstance(tree, list):
        return [Row(f"row {number}", _object(path, f"row {number}", row)) for number, row in enumerate(tree, 1)]
    tree = _object(path, "line 1", tree)
    return [Row(f"row {id_!r}", {"id": id_, **_object(path, f"row {id_!r}", row)}) for id_, row in tree.items()]


def _parse(path: Path, line: int, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        at = line + error.lineno - 1 if isinstance(error, json.JSONDecodeError) else line
        message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise ValueError(f"{path}, line {at}: not JSON ({message})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, if no key of it is there twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return made


def _object(path: Path, place: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{path}, {place}: a row is a JSON object; this is {type(row).__name__}")
    return row
