"""Detection of damage that libsndfile ignores, from the structure of audio files.

libsndfile reads a truncated wav or aiff file as if it were complete, ends an Ogg stream at whatever page is the last
one, and trusts its estimate of the length of an MP3 without an index, even if more audio follows. Truncated flac files
need no check: decoding them fails.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Writers that cannot seek back (pipes) leave one of these, or a close value, as the length of the data.
_UNKNOWN_LENGTHS = (range(1), range(0x7FFFE000, 0x80000001), range(0xFFFFE000, 0x100000000))

_LONGEST_OGG_PAGE = 65307

_MP3_KBPS = {
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MP3_SLACK_SAMPLES = 4 * 1152
"""Maximum encoder delay and padding that players cut off."""
_FORGET_BYTES = 1 << 24


def find_damage(path: Path, file_format: str, samples: int) -> str | None:
    """Describe why a file contains more or fewer samples than the ``samples`` that libsndfile reports; None if equal.

    ``file_format`` is libsndfile's name of the container.
    """
    if file_format in ("WAV", "WAVEX", "RF64", "AIFF"):
        return _chunk_damage(path)
    if file_format == "OGG":
        return _ogg_damage(path)
    if file_format == "MP3":
        return _mp3_damage(path, samples)
    return None


def find_audio(path: Path) -> tuple[int, int] | None:
    """Find the audio of a RIFF, RF64 or AIFF file: its position and stated length in bytes, or None."""
    with path.open("rb") as file:
        long_length = 0
        for name, length in _chunks(file):
            if name in (b"data", b"SSND"):
                if length == 0xFFFFFFFF and 0 < long_length < 1 << 62:
                    length = long_length
                return file.tell(), length
            if name == b"ds64":
                # RF64: length of the file, 8 bytes; length of the audio, 8 bytes, instead of the 0xFFFFFFFF of "data".
                long_length = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
    return None


def find_overlong_chunk(path: Path) -> str | None:
    """Describe a chunk before the audio of a RIFF, RF64 or AIFF file that is longer than the file, else return None.

    Decoders may allocate as much memory as such a chunk promises.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if file.read(4) not in (b"RIFF", b"RF64", b"FORM"):
            return None
        file.seek(0)
        for name, length in _chunks(file):
            if name in (b"data", b"SSND"):
                break
            if length > size - file.tell():
                called = name.decode("ascii", "replace").strip()
                return f"its chunk {called!r} promises {length} bytes, but only {size - file.tell()} exist"
    return None


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield name and stated length of each chunk, with the file positioned at its body."""
    # RIFF and RF64 are little-endian, FORM is big-endian. The file and each of its chunks:
    #
    #     "RIFF" | length, 4 bytes | "WAVE" | chunks
    #              name, 4 bytes | length of the body, 4 bytes | body | one more byte if the length is odd
    order = "<" if file.read(12)[:4] in (b"RIFF", b"RF64") else ">"
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", header)
        body_end = file.tell() + length + length % 2
        yield name, length
        file.seek(body_end)


def _chunk_damage(path: Path) -> str | None:
    """Compare the stated length of the audio with the size of the file."""
    place, length = find_audio(path) or (0, 0)
    available = path.stat().st_size - place
    if length <= available or any(length in unknown for unknown in _UNKNOWN_LENGTHS):
        return None
    return f"its header promises {length} bytes of audio, but only {available} exist"


def _ogg_damage(path: Path) -> str | None:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * _LONGEST_OGG_PAGE))
        tail = file.read()
    # A page: offset and name of each field. The length of a segment is one byte.
    #
    #     0 "OggS" | 4 version, 0 | 5 flags | 6 position, checksum | 26 number of segments | 27 lengths | segments
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    table = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(table) < page[26] or 27 + len(table) + sum(table) > len(page):
        return "it ends in the middle of an Ogg page"
    end_of_stream = 0x04
    return None if page[5] & end_of_stream else "its last Ogg page does not carry the end-of-stream mark"


def _mp3_damage(path: Path, samples: int) -> str | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        frames, samples_per_frame, promised_frames = _count_mp3_frames(data)
    # One frame of grace: some encoders count the frame that holds the index.
    if promised_frames is not None and frames < promised_frames - 1:
        return f"its header promises {promised_frames} frames, but only {frames} exist"
    if frames * samples_per_frame > samples + _MP3_SLACK_SAMPLES:
        return (
            f"it has about {frames * samples_per_frame} samples, but its header makes players stop after {samples} "
            f"(files joined together, or a variable bit rate without an index)"
        )
    return None


def _count_mp3_frames(data: mmap.mmap) -> tuple[int, int, int | None]:
    """Count the complete layer III frames: (frames, samples per frame, frames stated by a Xing header if any)."""
    at, frames, samples_per_frame, promised = _after_id3(data), 0, 1152, None
    in_sync, forgotten = False, 0
    while at + 4 <= len(data):
        if at - forgotten > _FORGET_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            data.madvise(mmap.MADV_DONTNEED, forgotten, _FORGET_BYTES)  # otherwise read pages count as memory in use
            forgotten += _FORGET_BYTES
        frame = _mp3_frame(data, at)
        # After junk require two headers in a row: a single one is likely to be chance.
        if frame is None or not (in_sync or _mp3_frame(data, at + frame[0]) or at + frame[0] == len(data)):
            in_sync = False
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        in_sync = True
        length, samples_per_frame = frame
        # The first frame may hold an index: "Xing" or "Info" | flags, 4 bytes; 1: frames are counted | frames, 4 bytes.
        index = data[at : at + 64] if frames == 0 and promised is None else b""
        tag = max(index.find(b"Xing"), index.find(b"Info"))
        if tag >= 0 and index[tag + 7] & 1:
            promised = int.from_bytes(index[tag + 8 : tag + 12], "big")
        elif tag < 0 and at + length <= len(data):
            frames += 1
        at += length
    return frames, samples_per_frame, promised


def _after_id3(data: mmap.mmap) -> int:
    # "ID3" | version, 2 bytes | flags, 1 byte | length, 4 bytes of 7 bits each, so that no byte looks like a frame's.
    at = 0
    while data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        at += 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(data[at + 6 : at + 10], (21, 14, 7, 0), strict=True)
        )
    return at


def _mp3_frame(data: mmap.mmap, at: int) -> tuple[int, int] | None:
    """Return the length in bytes and in samples of the layer III frame at ``at``; None if there is no header there."""
    header = data[at : at + 3]
    if len(header) < 3 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    # Bits: 11111111 111vv01. bbbbrrp.: version (3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5), layer III, bit rate, rate, padding.
    version, rate, kbps = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or rate == 3 or not 1 <= kbps <= 14:
        return None
    samples = 1152 if version == 3 else 576
    bits_per_s = 1000 * _MP3_KBPS[1 if version == 3 else 2][kbps - 1]
    return samples // 8 * bits_per_s // _MP3_RATES_HZ[version][rate] + (header[2] >> 1 & 1), samples
