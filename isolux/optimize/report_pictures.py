"""The pictures of a run as parts of its report, each one inside the page."""

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image

__all__ = ["comparison_section", "jpeg_of", "progress_section"]

_WIDEST = 2600  # pixels of a picture in the page
_PLAIN_PNG = 150_000  # bytes up to which a picture stays a PNG
_MOST_ROWS = 12  # comparison rows
_MOST_PROGRESS = 8


def comparison_section(folder: Path) -> str:
    """All pictures of a folder but those of the progress, as HTML; empty without any."""
    paths = [path for path in _png_files(folder) if not _is_progress(path)]
    figures = [_figure(path, "") for path in paths[:_MOST_ROWS]]
    if not any(figures):
        return ""
    hint = '<p class="hint">A click shows a picture in its own size, another one fits it.</p>'
    return f"<section><h2>Pictures</h2>{hint}{''.join(figures)}</section>"


def progress_section(folder: Path) -> str:
    """Pictures of the progress, evenly chosen, the first and the last among them."""
    paths = sorted(
        (path for path in _png_files(folder) if _is_progress(path)),
        key=lambda path: path.stat().st_mtime_ns,
    )
    count = min(len(paths), _MOST_PROGRESS)
    chosen = [paths[i * (len(paths) - 1) // max(count - 1, 1)] for i in range(count)]
    figures = [_figure(path, path.stem.replace("_", " ")) for path in chosen]
    if not any(figures):
        return ""
    strip = "".join(figures)
    return f'<section><h2>On the way</h2><div class="strip">{strip}</div></section>'


def _png_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.png"))


def _is_progress(path: Path) -> bool:
    return path.name.startswith("progress")


def _figure(path: Path, caption: str) -> str:
    """A picture as data; nothing if it cannot be read."""
    try:
        data, kind = _embedded(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return (
        f'<figure><label><input type="checkbox"><img src="{source}" '
        f'alt="{escape(path.stem)}"></label>{text}</figure>'
    )


def _embedded(path: Path) -> tuple[bytes, str]:
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.format == "PNG" and len(data) <= _PLAIN_PNG and image.width <= _WIDEST:
            return data, "png"
        return jpeg_of(image, _WIDEST), "jpeg"


def jpeg_of(image: Image.Image, widest: int) -> bytes:
    """A picture as a JPEG file of so many pixels at most from left to right."""
    picture = image.convert("RGB")
    if picture.width > widest:
        height = max(1, round(picture.height * widest / picture.width))
        picture = picture.resize((widest, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=88, subsampling=0)
    return buffer.getvalue()
