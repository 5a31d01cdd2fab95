"""What a file may be called, and what kind it is. Pure."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from collections.abc import Sequence

MAX_NAME = 200  # bytes: file systems take 255, and a number may be added
MAX_TYPE = 200
OCTETS = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*(\s*;[\x20-\x7e\t]*)?")
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])\s*(\.|$)")
_NOT_PLAIN = re.compile(r'[<>:"|?*%]')
_TYPES = mimetypes.MimeTypes()  # Python's own table, not the machine's: the same name has the same type everywhere
for _type, _suffix in (("text/markdown", ".md"), ("application/yaml", ".yaml"), ("image/webp", ".webp")):
    _TYPES.add_type(_type, _suffix)
_BEGINS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
)


def safe_name(given: str, media_type: str = "") -> str:
    """A plain file name in place of whatever was given: no path, nothing invisible, no device, nothing too long."""
    text = unicodedata.normalize("NFKC", given[:2000])
    text = re.split(r"[/\\]", text)[-1]
    text = "".join(char for char in text if unicodedata.category(char)[0] not in "CZ" or char == " ")
    text = _NOT_PLAIN.sub("_", text).strip(" .")
    if not text:
        return "file" + (_suffix_of(essence(media_type)))
    return _short("_" + text if _DEVICE.match(text) else text)


def numbered(name: str, number: int) -> str:
    """`name`, or from the second on another one like it: report.pdf, report-2.pdf ..."""
    stem, suffix = _split(name)
    return name if number == 1 else f"{stem}-{number}{suffix}"


def _split(name: str) -> tuple[str, str]:
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem and len(suffix.encode()) <= 16 else (name, "")


def _short(name: str) -> str:
    stem, suffix = _split(name)
    return stem.encode()[: MAX_NAME - len(suffix.encode())].decode("utf-8", "ignore").rstrip(" .") + suffix


def essence(media_type: str) -> str:
    """A media type without its parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def is_media_type(text: str) -> bool:
    return len(text) <= MAX_TYPE and bool(_MEDIA_TYPE.fullmatch(text))


def accepted(media_type: str, modes: Sequence[str]) -> bool:
    """Whether a media type is one of a card's modes, which may be `image/*` and `*/*`."""
    kind = essence(media_type)
    ranges = {kind, kind.partition("/")[0] + "/*", "*/*", "*"}
    return any(essence(mode) in ranges for mode in modes)


def guessed(name: str, head: bytes = b"") -> str:
    """A media type by the name, else by the first bytes."""
    by_name, encoding = _TYPES.guess_type(f"x{_split(name)[1]}", strict=True)
    if by_name and not encoding:
        return by_name
    return next((kind for begin, kind in _BEGINS if head.startswith(begin)), OCTETS if not _is_text(head) else "text/plain")


def _is_text(head: bytes) -> bool:
    if not head or b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as exc:
        return exc.reason == "unexpected end of data"
    return True


def _suffix_of(kind: str) -> str:
    return (_TYPES.guess_extension(kind) if kind else None) or ""
