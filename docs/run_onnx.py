"""Score images with an exported detector; needs onnxruntime, numpy and pillow: run_onnx.py exported/ image.png ..."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

folder, *paths = sys.argv[1:]
about = json.loads(Path(folder, "model.json").read_text())
model = onnxruntime.InferenceSession(Path(folder, "model.onnx"), providers=["CPUExecutionProvider"])
side = about["image_size"], about["image_size"]
for path in paths:
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode not in ("L", "RGB", "P") or image.has_transparency_data:
        sys.exit(f"{path}: mode {image.mode}; convert it to 8-bit gray or RGB without transparency")
    pixels = np.asarray(image.convert("RGB") if image.mode == "P" else image, dtype=np.float32) / 255
    # Resized as floats, channel by channel: Pillow would round 8-bit images, which shifts scores.
    planes = [Image.fromarray(plane) for plane in np.moveaxis(np.atleast_3d(pixels), 2, 0)]
    resized = np.stack([plane.resize(side, Image.Resampling.BILINEAR) for plane in planes]).clip(0, 1)
    if about["channels"] < len(resized):
        resized = np.tensordot([[0.299, 0.587, 0.114]], resized, 1)  # luma, as in training
    batch = np.broadcast_to(resized.astype(np.float32), (1, about["channels"], *side))
    score, p_value = (float(output[0]) for output in model.run(["score", "p_value"], {"images": batch}))
    verdict = "anomaly" if p_value <= about["false_alarm_rate"] else "normal"
    print(path, f"{score:.6g}", f"{p_value:.6g}", verdict, sep="\t")
