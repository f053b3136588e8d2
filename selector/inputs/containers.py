"""What a file says around its pixels: checksums are verified, metadata is left out, so that it decides nothing.

PNG and JPEG files are rewritten in memory with what their pixels need and nothing else. The orientation and the number
of frames, the two facts of the metadata that matter, are read here, whatever else of the metadata is broken.
"""

import re
import struct
import zlib
from dataclasses import dataclass
from typing import IO

from selector.inputs.unreadable import UnreadableError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
# The passes of an interlaced PNG: the first column and row, and the steps to the next ones.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_AT_ONCE = 2**20  # bytes
_PADDING = b"\0\n\r\t "
JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_START, _JPEG_SCAN, _JPEG_END = 0xD8, 0xDA, b"\xff\xd9"
_JPEG_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_JPEG_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_JPEG_LS = 0xF7
# Application segments 0 (JFIF) and 14 (Adobe) say how colours are stored; the other ones and comments don't.
_JPEG_METADATA = (*range(0xE1, 0xEE), 0xEF, 0xFE)
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_ORIENTATION, _NUMBER_OF_IMAGES = 0x0112, 0xB001  # EXIF 2.3 and CIPA DC-007 (several pictures in one JPEG)
_LITTLE_ENDIAN, _BIG_ENDIAN = b"II", b"MM"
_ENTRY_VALUES = {1: "B", 3: "H", 4: "I"}  # the types of a TIFF entry that hold one whole number


@dataclass(frozen=True)
class Container:
    """A file without its metadata.

    Attributes:
        content: What a decoder is given.
        orientation: As in EXIF, 1 (as stored) to 8.
        has_frames: Whether there are more pictures than the first.
        is_followed: Whether something else follows the picture.
    """

    content: bytes
    orientation: int = 1
    has_frames: bool = False
    is_followed: bool = False


def read_png(data: bytes) -> Container:
    """The chunks that make the pixels of a PNG.

    Raises:
        UnreadableError: A checksum of one of them does not match, or the file ends before its end.
    """
    kept = [PNG_SIGNATURE]
    orientation, has_frames = 1, False
    position = len(PNG_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        length, kind = _png_header(data, position)
        body = data[position + 8 : position + 8 + length]
        if kind in _PNG_PIXELS:
            checksum = data[position + 8 + length : position + 12 + length]
            if len(checksum) < 4:
                raise UnreadableError("truncated: the PNG file ends before its end; copy or save it again")
            if struct.unpack(">I", checksum)[0] != zlib.crc32(kind + body):
                where = f"part {kind.decode()} at byte {position}"
                raise UnreadableError(f"damaged: the checksum of {where} does not match; copy or save it again")
            kept.append(data[position : position + 12 + length])
        elif kind == b"eXIf":
            orientation = orientation_of(body)
        elif kind == b"acTL" and len(body) >= 4:
            has_frames = struct.unpack(">I", body[:4])[0] > 1
        elif kind in (b"iTXt", b"tEXt", b"zTXt") and orientation == 1:
            orientation = _orientation_in_text(kind, body)
        position += 12 + length
    has_frames = has_frames or data.find(PNG_SIGNATURE, position) >= 0
    return Container(b"".join(kept), orientation, has_frames, bool(data[position:].strip(_PADDING)))


def require_all_rows(png: bytes) -> None:
    """Refuse a PNG whose stream ends before its last row: the decoder would leave the other rows black.

    Args:
        png: Of a size that was checked: as many bytes are counted as its pixels have, and a few kept at a time.

    Raises:
        UnreadableError: There are fewer bytes than the header says.
    """
    missing = 0
    stream = zlib.decompressobj()
    position = len(PNG_SIGNATURE)
    kind = b""
    while kind != b"IEND" and not stream.eof:
        length, kind = _png_header(png, position)
        body = png[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            missing = _bytes_of_rows(body)
        while kind == b"IDAT" and body and missing > 0 and not stream.eof:
            try:
                missing -= len(stream.decompress(body, _AT_ONCE))
            except zlib.error:  # the decoder's to say
                return
            body = stream.unconsumed_tail
        position += 12 + length
    if missing > 0:
        raise UnreadableError("truncated: the PNG file has fewer rows than its size needs; copy or save it again")


def _bytes_of_rows(header: bytes) -> int:
    """Of the stream of a PNG, by its header: each row has a byte before it, and each pass of an interlaced one rows."""
    width, height, depth, colours, _, _, is_interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _PNG_SAMPLES.get(colours, 1)
    parts = _ADAM7 if is_interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in parts)
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)


def read_jpeg(data: bytes) -> Container:
    """The segments that make the pixels of a JPEG; content that is damaged is left to the decoder.

    Raises:
        UnreadableError: The file ends before its pixels, or is a JPEG of another kind than decoders know.
    """
    kept = [data[:2]]
    orientation, has_frames, is_followed = 1, False, False
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:  # a segment of a wrong length: the next marker follows somewhere
            position = data.find(b"\xff", position)
            position = len(data) if position < 0 else position
            continue
        marker = data[position + 1]
        if marker in (0x00, 0x01, 0xFF, _JPEG_START):
            position += 1 if marker in (0x00, 0xFF) else 2
            continue
        if marker == _JPEG_SCAN:
            kept.append(data[position:])
            end = data.find(_JPEG_END, position)
            has_frames = has_frames or (end >= 0 and data.find(JPEG_SIGNATURE, end) >= 0)
            is_followed = end >= 0 and bool(data[end + 2 :].strip(_PADDING))
            break
        length = struct.unpack(">H", data[position + 2 : position + 4])[0]
        body = data[position + 4 : position + 2 + length]
        _require_usual_jpeg(marker, body)
        if marker not in _JPEG_METADATA:
            kept.append(data[position : position + 2 + length])
        elif marker == 0xE1 and orientation == 1:
            orientation = _xmp_orientation(body) if body.startswith(_XMP) else orientation_of(body)
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            has_frames = (_tag(body[4:], _NUMBER_OF_IMAGES) or 1) > 1
        position += 2 + max(length, 2)
    else:
        raise UnreadableError("truncated: the JPEG file ends before its picture; copy or save it again")
    return Container(b"".join(kept), orientation, has_frames, is_followed)


def _require_usual_jpeg(marker: int, body: bytes) -> None:
    """Refuse by name what decoders would call damaged."""
    is_frame = marker in _JPEG_FRAMES and bool(body)
    if marker == _JPEG_LS or (is_frame and marker in _JPEG_LOSSLESS):
        kind = "JPEG-LS" if marker == _JPEG_LS else "a lossless JPEG"
        raise UnreadableError(f"{kind}, which is not understood: save it as PNG, or as TIFF of 16 bits")
    if is_frame and body[0] != 8:
        raise UnreadableError(
            f"a JPEG of {body[0]} bits, where only 8 are understood: save it as PNG or TIFF of 16 bits"
        )


def is_bmp_followed(stream: IO[bytes]) -> bool:
    """Whether something follows a BMP, by the size that it states; some writers state none."""
    stated = int.from_bytes(stream.read(6)[2:], "little")
    stream.seek(max(stated, 6))
    rest = stream.read(_AT_ONCE) if stated else b""
    stream.seek(0)
    return bool(rest.strip(_PADDING))


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """The orientation, 1 to 8, that a block of EXIF or else of XMP states; 1 where it is not to be found."""
    while exif.startswith(b"Exif\0"):  # some writers put the marker twice
        exif = exif[6:]
    value = _tag(exif, _ORIENTATION)
    return value if value is not None and 1 <= value <= 8 else _xmp_orientation(xmp)


def _png_header(data: bytes, position: int) -> tuple[int, bytes]:
    header = data[position : position + 8]
    if len(header) < 8:
        raise UnreadableError("truncated: the PNG file ends before its end; copy or save it again")
    length, kind = struct.unpack(">I4s", header)
    # The letters of a name say whether the chunk is needed: capitals, as of IDAT.
    if not kind.isalpha() or (kind[:1].isupper() and kind not in _PNG_PIXELS):
        raise UnreadableError(f"damaged: no part of a PNG file begins at byte {position}; copy or save it again")
    return length, kind


def _orientation_in_text(kind: bytes, body: bytes) -> int:
    keyword, _, text = body.partition(b"\0")
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], 2**20)
        if keyword == b"Raw profile type exif":  # ImageMagick: a name, a length, then hexadecimal digits
            return orientation_of(bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii", "replace")))
    except (zlib.error, ValueError):
        return 1
    return _xmp_orientation(text) if keyword == b"XML:com.adobe.xmp" else 1


def _xmp_orientation(text: bytes) -> int:
    stated = _XMP_ORIENTATION.search(text)
    return int(stated[1]) if stated else 1


def _tag(block: bytes, wanted: int) -> int | None:
    """A whole number in the first directory of a block in TIFF's layout, as EXIF is."""
    order = {_LITTLE_ENDIAN: "<", _BIG_ENDIAN: ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return None
    start = struct.unpack(order + "I", block[4:8])[0]
    count = struct.unpack(order + "H", block[start : start + 2])[0] if start + 2 <= len(block) else 0
    for place in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, _ = struct.unpack(order + "HHI", block[place : place + 8])
        if tag == wanted and kind in _ENTRY_VALUES:
            return int(struct.unpack_from(order + _ENTRY_VALUES[kind], block, place + 8)[0])
    return None
