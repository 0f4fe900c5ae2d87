#!/usr/bin/env python3
"""Makes the goldens of tests/vision: small pictures of every kind, and what Pillow and transformers make of them.

    python3 tests/golden/make_vision_golden.py

writes tests/golden/vision/*.{jpg,png,webp} and tests/golden/vision/vision.json. It was run with Pillow 13.0.0
(libjpeg-turbo 3.2.0, libwebp 1.6.0, zlib-ng 2.3.3) and transformers 5.17.0. Pictures are decoded as
transformers.image_utils.load_image does it; hashes are SHA-256, of the suite's pictures the first 16 digits.
"""
import hashlib
import io
import json
import random
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features
import transformers
from transformers.image_utils import load_image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/vision"
SUITE = ROOT / "demo/suite"


def sha(data):
    return hashlib.sha256(data).hexdigest()


def noise(width, height):
    """Samples that the C++ test computes too (noise_picture)."""
    i = np.arange(width * height * 3, dtype=np.uint32)
    v = i * np.uint32(2654435761)
    v ^= v >> np.uint32(15)
    v *= np.uint32(2246822519)
    return Image.fromarray((v >> np.uint32(24)).astype(np.uint8).reshape(height, width, 3), "RGB")


def scene(width=37, height=29):
    """A smooth picture with an edge and no symmetry, so that every orientation differs."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / width
    green = 255 * y / height
    blue = np.where(x * 2 + y < width, 230, 40)
    return Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8), "RGB")


def save(name, picture, **options):
    picture.save(OUT / name, **options)


# ---- JPEG ----


def jpeg_bytes(picture, **options):
    out = io.BytesIO()
    picture.save(out, "JPEG", **options)
    return out.getvalue()


def with_sampling(data, old, new):
    """Renames the first component's sampling factors: valid where both have as many blocks in as many MCUs."""
    at = data.index(b"\xff\xc0") + 11
    assert data[at] == old
    return data[:at] + bytes([new]) + data[at + 1 :]


def tiff(entries, order="<"):
    """A TIFF header and one directory of (tag, type, count, 4 value bytes)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8)
    body = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack(order + "HHL", tag, kind, count) + value.ljust(4, b"\0")
    return head + body + b"\0\0\0\0"


def orientation_tiff(value, order="<"):
    return tiff([(0x010F, 2, 2, b"H\0"), (274, 3, 1, struct.pack(order + "H", value))], order)


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'
XMP_ELEMENT = "<x:xmpmeta><tiff:Orientation>%d</tiff:Orientation></x:xmpmeta>"


def app1(data, payload):
    segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
    return data[:2] + segment + data[2:]


def make_jpegs():
    rgb = scene()
    for name, subsampling in [("444", 0), ("422", 1), ("420", 2)]:
        save(f"rgb_{name}.jpg", rgb, quality=90, subsampling=subsampling)
    save("progressive.jpg", rgb, quality=85, progressive=True)
    save("progressive_444_optimized.jpg", rgb, quality=60, progressive=True, optimize=True, subsampling=0)
    save("low_quality.jpg", noise(41, 23), quality=5)
    save("restart.jpg", noise(40, 40), quality=70, restart_marker_blocks=1)
    save("restart_rows.jpg", noise(40, 40), quality=70, restart_marker_rows=1, progressive=True)
    save("grey.jpg", rgb.convert("L"), quality=90)
    save("grey_progressive.jpg", rgb.convert("L"), quality=90, progressive=True)
    save("one_pixel.jpg", noise(1, 1), quality=90)
    save("keep_rgb.jpg", rgb, quality=90, keep_rgb=True)
    square = scene(32, 32)
    (OUT / "rgb_440.jpg").write_bytes(with_sampling(jpeg_bytes(square, quality=90, subsampling=1), 0x21, 0x12))
    (OUT / "rgb_411.jpg").write_bytes(with_sampling(jpeg_bytes(square, quality=90, subsampling=2), 0x22, 0x41))
    cmyk = Image.merge("CMYK", [noise(21, 33).getchannel(0), *scene(21, 33).split()])
    save("cmyk.jpg", cmyk, quality=95)
    data = jpeg_bytes(cmyk, quality=95)
    at = data.index(b"Adobe") + 11
    (OUT / "ycck.jpg").write_bytes(data[:at] + b"\x02" + data[at + 1 :])
    (OUT / "cmyk_without_adobe.jpg").write_bytes(data.replace(b"Adobe", b"Other"))
    data = jpeg_bytes(rgb, quality=80)
    for orientation in range(0, 10):
        order = "<" if orientation % 2 else ">"
        exif = b"Exif\0\0" + orientation_tiff(orientation, order)
        (OUT / f"orientation_{orientation}.jpg").write_bytes(app1(data, exif))
    variants = {
        "long": tiff([(274, 4, 1, struct.pack("<L", 6))]),
        "byte": tiff([(274, 1, 1, b"\x06")]),
        "two_values": tiff([(274, 3, 2, struct.pack("<HH", 8, 3))]),
        "twice": tiff([(274, 3, 1, b"\x03\0"), (274, 3, 1, b"\x06\0")]),
        "after_unknown_type": tiff([(0x0110, 99, 1, b""), (274, 3, 1, b"\x05\0")]),
        "after_broken_entry": tiff([(0x0110, 2, 4000, b"\xff\xff\0\0"), (274, 3, 1, b"\x05\0")]),
        "cut_directory": tiff([(274, 3, 1, b"\x07\0"), (0x0110, 2, 1, b"")])[:-8],
    }
    for name, exif in variants.items():
        (OUT / f"orientation_{name}.jpg").write_bytes(app1(data, b"Exif\0\0" + exif))
    exif = orientation_tiff(6)
    split = app1(app1(data, b"Exif\0\0" + exif[20:]), b"Exif\0\0" + exif[:20])
    (OUT / "orientation_in_two_segments.jpg").write_bytes(split)
    (OUT / "orientation_prefix_twice.jpg").write_bytes(app1(data, b"Exif\0\0Exif\0\0" + orientation_tiff(8)))
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + (XMP % 6).encode()
    (OUT / "orientation_xmp.jpg").write_bytes(app1(data, xmp))
    (OUT / "orientation_exif_before_xmp.jpg").write_bytes(app1(app1(data, xmp), b"Exif\0\0" + orientation_tiff(3)))


# ---- PNG ----

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(name, data):
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def pack_row(samples, depth):
    if depth == 16:
        return samples.astype(">u2").tobytes()
    if depth == 8:
        return samples.astype(np.uint8).tobytes()
    bits = "".join(format(int(s), f"0{depth}b") for s in samples.ravel())
    return bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))


def filtered(rows, bytes_per_pixel):
    """Each row with the next of PNG's five filters."""
    out, previous = b"", None
    for y, row in enumerate(rows):
        kind = y % 5
        above = previous if previous is not None and len(previous) == len(row) else bytes(len(row))
        line = bytearray()
        for i, value in enumerate(row):
            left = row[i - bytes_per_pixel] if i >= bytes_per_pixel else 0
            corner = above[i - bytes_per_pixel] if i >= bytes_per_pixel else 0
            estimate = left + above[i] - corner
            nearest = min((abs(estimate - left), 0, left), (abs(estimate - above[i]), 1, above[i]),
                          (abs(estimate - corner), 2, corner))[2]
            line.append((value - [0, left, above[i], (left + above[i]) // 2, nearest][kind]) & 255)
        out += bytes([kind]) + bytes(line)
        previous = row
    return out


def png_bytes(samples, color, depth, interlaced=False, palette=None, before=b"", after=b""):
    """samples: [height, width, channels]. before, after: chunks around IDAT."""
    height, width = samples.shape[:2]
    bytes_per_pixel = max(1, CHANNELS[color] * depth // 8)
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    data = b""
    for x0, y0, dx, dy in passes:
        part = samples[y0::dy, x0::dx]
        if part.size:
            data += filtered([pack_row(row, depth) for row in part], bytes_per_pixel)
    compressed = zlib.compress(data, 9)
    half = len(compressed) // 2
    head = struct.pack(">LLBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + (chunk(b"PLTE", palette) if palette else b"") + before
            + chunk(b"IDAT", compressed[:half]) + chunk(b"IDAT", compressed[half:]) + after + chunk(b"IEND", b""))


def make_pngs():
    rng = np.random.default_rng(7)
    names = {0: "grey", 2: "rgb", 3: "palette", 4: "grey_alpha", 6: "rgba"}
    transparency = {
        (0, 1): b"\0\1", (0, 2): b"\0\2", (0, 4): b"\0\7", (0, 8): b"\0\x80", (0, 16): b"\1\2",
        (2, 8): b"\0\1\0\2\0\3", (2, 16): b"\1\2\3\4\5\6",
        (3, 1): b"\0", (3, 2): b"\x80\x40", (3, 4): b"\xff\0", (3, 8): bytes(range(200)),
    }
    for color, depths in {0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16]}.items():
        for depth in depths:
            samples = rng.integers(0, 1 << depth, (13, 19, CHANNELS[color]))
            if depth == 16 and color == 0:
                samples[::2] //= 200  # below and above 255, where Pillow clips
            palette = rng.integers(0, 256, 3 << depth, dtype=np.uint8).tobytes() if color == 3 else None
            name = f"{names[color]}_{depth}"
            (OUT / f"{name}.png").write_bytes(png_bytes(samples, color, depth, palette=palette))
            (OUT / f"{name}_interlaced.png").write_bytes(png_bytes(samples, color, depth, True, palette))
            if (color, depth) in transparency:
                trns = chunk(b"tRNS", transparency[color, depth])
                (OUT / f"{name}_trns.png").write_bytes(png_bytes(samples, color, depth, False, palette, trns))
    indices = rng.integers(0, 16, (9, 9, 1))
    (OUT / "palette_short.png").write_bytes(png_bytes(indices, 3, 8, palette=bytes(range(30))))
    one = rng.integers(0, 256, (1, 1, 3))
    (OUT / "one_pixel_interlaced.png").write_bytes(png_bytes(one, 2, 8, True))
    pixels = np.asarray(scene(17, 11))
    exif = orientation_tiff(6)
    (OUT / "orientation_exif.png").write_bytes(png_bytes(pixels, 2, 8, before=chunk(b"eXIf", exif)))
    (OUT / "orientation_exif_late.png").write_bytes(png_bytes(pixels, 2, 8, after=chunk(b"eXIf", exif)))
    (OUT / "orientation_exif_palette.png").write_bytes(
        png_bytes(indices, 3, 8, palette=bytes(range(48)), before=chunk(b"eXIf", orientation_tiff(8, ">"))))
    profile = ("\nexif\n%8d\n" % (len(exif) + 6)) + (b"Exif\0\0" + exif).hex() + "\n"
    text = b"Raw profile type exif\0\0" + zlib.compress(profile.encode())
    (OUT / "orientation_raw_profile.png").write_bytes(png_bytes(pixels, 2, 8, before=chunk(b"zTXt", text)))
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0" + (XMP_ELEMENT % 7).encode()
    (OUT / "orientation_xmp.png").write_bytes(png_bytes(pixels, 2, 8, before=chunk(b"iTXt", xmp)))
    gamma = chunk(b"gAMA", struct.pack(">L", 100000)) + chunk(b"sBIT", b"\5\6\5")
    (OUT / "gamma.png").write_bytes(png_bytes(pixels, 2, 8, before=gamma))


# ---- WebP ----


def make_webps():
    rgb, alpha = scene(), noise(37, 29).getchannel(1)
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    save("lossy.webp", rgb, quality=80)
    save("lossy_low.webp", noise(33, 31), quality=10)
    save("lossless.webp", noise(15, 16), lossless=True)
    save("lossless_scene.webp", rgb, lossless=True)
    save("lossy_alpha.webp", rgba, quality=70)
    save("lossless_alpha.webp", rgba, lossless=True)
    save("lossless_alpha_exact.webp", rgba, lossless=True, exact=True)
    save("grey.webp", rgb.convert("L"), quality=80)
    frames = [scene(24, 24), scene(24, 24).transpose(Image.Transpose.ROTATE_90)]
    save("animated.webp", frames[0], save_all=True, append_images=frames[1:], duration=100, quality=80)
    for orientation in (3, 6, 8):
        save(f"orientation_{orientation}.webp", rgb, quality=80, exif=b"Exif\0\0" + orientation_tiff(orientation))
    save("orientation_xmp.webp", rgb, quality=80, xmp=(XMP % 5).encode())


# ---- what Pillow and transformers make of them ----


def patches(picture, **options):
    # transformers 5.17 writes min_pixels and max_pixels into the class's default, where the next instance finds them
    Qwen2VLImageProcessorPil.size = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}
    out = Qwen2VLImageProcessorPil(**options)(images=[picture], return_tensors="np")
    values = np.ascontiguousarray(out["pixel_values"])
    assert values.dtype == np.float32
    return {"grid": out["image_grid_thw"][0].tolist(), "columns": values.shape[1], "sha256": sha(values.tobytes())}


RESIZES = [
    (64, 48, 64, 48), (64, 48, 28, 28), (64, 48, 64, 28), (64, 48, 28, 48), (64, 48, 128, 96), (64, 48, 65, 47),
    (640, 480, 252, 196), (640, 427, 644, 420), (1000, 37, 28, 56), (37, 1000, 56, 28), (1, 1, 28, 28), (1, 1, 1, 2),
    (3, 5, 5, 3), (5, 2, 2, 5), (11, 11, 10, 10), (10, 9, 3, 300), (2600, 3, 1, 2), (3, 2600, 2, 1),
    (1600, 1200, 1036, 756), (333, 251, 336, 252), (500, 375, 504, 364), (255, 257, 256, 256), (5000, 40, 28, 28),
    (100, 100, 1, 1),
]

PATCHES = [
    (224, 224, {}), (37, 29, {}), (640, 480, {"min_pixels": 3136, "max_pixels": 50176}),
    (300, 500, {"max_pixels": 28 * 28 * 16}), (20, 20, {"min_pixels": 56 * 56 * 4}),
    (640, 427, {"size": {"shortest_edge": 3136, "longest_edge": 100352}}),
    (111, 77, {"patch_size": 16, "merge_size": 2}), (111, 77, {"temporal_patch_size": 1}), (90, 60, {"merge_size": 1}),
    (111, 77, {"do_normalize": False}), (111, 77, {"do_rescale": False, "do_normalize": False}),
    (111, 77, {"do_rescale": False}), (112, 84, {"do_resize": False}),
    (111, 77, {"rescale_factor": 0.00392156862745098}),
    (111, 77, {"rescale_factor": 1 / 127.5, "image_mean": [0.5, 0.25, 1.0], "image_std": [0.5, 0.7, 0.3]}),
]


def smart_resize_cases():
    random.seed(3)
    cases = [(14, 14), (42, 42), (70, 98), (28, 28), (27, 5600 - 200), (1, 200), (200, 1), (5, 999), (756, 1036)]
    cases += [(random.randint(1, 60), random.randint(1, 60)) for _ in range(150)]
    cases += [(random.randint(1, 4000), random.randint(1, 4000)) for _ in range(350)]
    rows = []
    for height, width in cases:
        if max(height, width) / min(height, width) > 200:
            continue
        factor = random.choice([28, 28, 28, 32, 14])
        low = random.choice([3136, 56 * 56, 200704, 1, 784])
        high = max(low, random.choice([50176, 1003520, 12845056, 3136]))
        try:
            rows.append([height, width, factor, low, high, *smart_resize(height, width, factor, low, high)])
        except (ValueError, ZeroDivisionError):
            continue
    return rows


def suite_pictures():
    kinds = {".jpg", ".jpeg", ".png", ".webp"}
    return sorted(p for p in SUITE.rglob("*") if p.suffix.lower() in kinds and "train2014" not in p.parts)


def decode_goldens():
    rows = []
    for path in sorted(OUT.iterdir()):
        picture = load_image(str(path))
        rows.append({"file": path.name, "width": picture.width, "height": picture.height,
                     "sha256": sha(picture.tobytes()), "patches": patches(picture)})
    return rows


def resize_goldens():
    rows = []
    for width, height, to_width, to_height in RESIZES:
        resized = noise(width, height).resize((to_width, to_height), Image.Resampling.BICUBIC)
        rows.append({"from": [width, height], "to": [to_width, to_height], "sha256": sha(resized.tobytes())})
    return rows


def patch_goldens():
    rows = []
    for width, height, options in PATCHES:
        made = patches(noise(width, height), **json.loads(json.dumps(options)))
        rows.append({"width": width, "height": height, "config": options, **made})
    return rows


def suite_goldens():
    """The pixels of every picture of the suite and the patches of every seventh."""
    config = json.loads((ROOT / "demo/model/preprocessor_config.json").read_text())
    for key in ("image_processor_type", "processor_class"):
        config.pop(key)
    processor = Qwen2VLImageProcessorPil(**config)
    pixels, patched = {}, {}
    for i, path in enumerate(suite_pictures()):
        picture = load_image(str(path))
        name = str(path.relative_to(SUITE))
        pixels[name] = sha(picture.tobytes())[:16]
        if i % 7 == 0:
            values = processor(images=[picture], return_tensors="np")["pixel_values"]
            patched[name] = sha(np.ascontiguousarray(values).tobytes())[:16]
    return pixels, patched


def one_line_an_entry(golden):
    """JSON with a line for every element of the outer lists and objects, so that differences can be read."""
    parts = []
    for key, value in golden.items():
        if isinstance(value, list):
            body = "[\n" + ",\n".join(json.dumps(row) for row in value) + "\n]"
        else:
            body = "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n}"
        parts.append(f'"{key}": {body}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    make_jpegs()
    make_pngs()
    make_webps()
    suite, suite_patches = suite_goldens()
    golden = {
        "made_with": {"pillow": PIL.__version__, "libjpeg_turbo": features.version("libjpeg_turbo"),
                      "libwebp": features.version("webp"), "transformers": transformers.__version__},
        "decode": decode_goldens(), "resize": resize_goldens(), "patches": patch_goldens(),
        "smart_resize": smart_resize_cases(), "suite": suite, "suite_patches": suite_patches,
    }
    (OUT / "vision.json").write_text(one_line_an_entry(golden))
    print(len(golden["decode"]), "pictures,", len(suite), "of the suite", file=sys.stderr)


if __name__ == "__main__":
    main()
