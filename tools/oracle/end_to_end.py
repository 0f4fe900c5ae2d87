#!/usr/bin/env python3
"""ModelOpt and Halftone from the same calibration tokens, each with its own run of the model: how far apart are they?
usage: end_to_end.py CHECKPOINT WORK --halftone PROGRAM --logits WRITE_LOGITS [--formats fp8,nvfp4,int4_awq] [--samples 32]
                     [--tokens 64]

Both get the same conversations, cut to the same number of tokens, and the checkpoint widened to f32 (WORK/checkpoint), so
that both calibrate, search and write in f32. For each format: the largest
relative difference of an input's static scale and of AWQ's scales (bound 1 %), the share of
equal bytes in the quantized weights, AWQ's exponents that differ, and the KL divergence between the two folders, both run by
Halftone in f32 on other texts (bound 1e-3). Beside it stands how far ModelOpt's folder is from itself when each of its
inputs' scales is the next number of f32, the least change there is: where inputs are rounded, a model with outliers
makes much of little, and the bound may lie below that.
Exit status 1 if a bound is broken.

--as-stored: the checkpoint in its own dtype, in which ModelOpt then runs the model, while Halftone calibrates in f32. Of a
model with outliers in bf16 its own scales are 5 % apart from one attention of transformers to the other ("eager",
"sdpa"), so that no bound holds.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

import modelopt_export
import torch
from compare import quantize
from run_folders import halftone_logits
from safetensors.torch import save_file
from transformers import AutoTokenizer

from common import ROOT, copy_companions, read_tensors
from formats import MODELOPT

SCALES_AGREE, KL_BOUND = 0.01, 1e-3


def conversations(count, skip):
    turns = json.loads((ROOT / "demo/suite/captions/calibration.json").read_text())
    texts = []
    for i in range(0, len(turns), 3):  # three in a row, so that none is shorter than what is kept of it
        parts = [t["value"].replace("<image>", "").strip() for turn in turns[i : i + 3] for t in turn["conversations"]]
        body = "".join(f"<|im_start|>{('user', 'assistant')[k % 2]}\n{part}<|im_end|>\n" for k, part in enumerate(parts))
        texts.append("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + body)
    return texts[skip : skip + count]


def widened(checkpoint, folder):
    """The checkpoint in f32."""
    folder.mkdir(exist_ok=True)
    save_file({n: t.float() for n, t in read_tensors(checkpoint).items()}, folder / "model.safetensors", metadata={"format": "pt"})
    copy_companions(checkpoint, folder)
    config = json.loads((checkpoint / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": "float32"}, indent=2))
    return folder


def relative(a, b):
    return ((a.float() - b.float()).abs() / a.float().abs().clamp_min(1e-12)).max().item()


def scales(theirs, ours):
    """The largest relative difference by kind of tensor, of those that come from activations."""
    worst = {}
    for name, value in theirs.items():
        kind = name.rsplit(".", 1)[-1]
        if kind in ("input_scale", "pre_quant_scale", "k_scale", "v_scale"):
            worst[kind] = max(worst.get(kind, 0), relative(value, ours[name]))
    return worst


def equal_bytes(theirs, ours):
    same = total = 0
    for name, value in theirs.items():
        if name.endswith(".weight") and name[:-7] + ".weight_scale" in theirs:
            a, b = (t.contiguous().view(torch.uint8) for t in (value, ours[name]))
            same, total = same + int((a == b).sum()), total + a.numel()
    return same / total


def exponents(theirs, ours):
    found = json.loads((theirs / "search.json").read_text())
    report = {l["module"]: l for l in json.loads((ours / "quantization_report.json").read_text())["layers"]}
    return sum(abs(report[n].get("alpha", -1) - r["alpha"]) > 1e-3 for n, r in found.items()), len(found)


def disturbed(folder, scratch):
    """The folder with each of its inputs' scales one place of f32 higher."""
    tensors = read_tensors(folder)
    for name, value in tensors.items():
        if name.endswith(".input_scale"):
            tensors[name] = torch.nextafter(value, torch.full_like(value, torch.inf))
    copy_companions(folder, scratch)
    save_file({k: v.contiguous() for k, v in tensors.items()}, Path(scratch) / "model.safetensors")
    return scratch


def divergence(p, q):
    return torch.nn.functional.kl_div(q, p, log_target=True, reduction="batchmean").item()


def compare(name, theirs, ours, predict):
    a, b = read_tensors(theirs), read_tensors(ours)
    worst = scales(a, b)
    reference = predict(theirs)
    kl = divergence(reference, predict(ours))
    with tempfile.TemporaryDirectory() as scratch:
        floor = divergence(reference, predict(disturbed(theirs, scratch)))
    different, searched = exponents(theirs, ours)
    good = all(v <= SCALES_AGREE for v in worst.values()) and kl < KL_BOUND
    print(f"{name}: " + "".join(f"{k} within {v:.1e}, " for k, v in worst.items())
          + f"{equal_bytes(a, b):.2%} of the weights' bytes equal, "
          + (f"{different} of {searched} exponents differ, " if searched else "")
          + f"KL {kl:.1e}; of ModelOpt's folder from itself one place of f32 off: {floor:.1e}"
          + ("" if good else "  <-- above a bound"), flush=True)
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--halftone", required=True)
    parser.add_argument("--logits", required=True)
    parser.add_argument("--formats", default="fp8,fp8_kv,nvfp4,nvfp4_w4a8,int4_awq,nvfp4_awq")
    parser.add_argument("--as-stored", action="store_true", help="the checkpoint in its own dtype, not in f32")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(a.checkpoint)
    calibration = conversations(a.samples, 0)
    (a.work / "calibration.txt").write_text("".join(calibration))
    lists = [tokenizer(text)["input_ids"][: a.tokens] for text in calibration]
    if min(map(len, lists)) < a.tokens:
        sys.exit(f"a conversation has only {min(map(len, lists))} tokens: lower --tokens")
    texts = [tokenizer(text)["input_ids"][:96] for text in conversations(24, a.samples)]
    vocabulary = json.loads((a.checkpoint / "config.json").read_text())
    vocabulary = vocabulary.get("text_config", vocabulary)["vocab_size"]

    def predict(folder):
        return torch.cat(halftone_logits(a.logits, folder, texts, vocabulary)).double().log_softmax(-1)

    checkpoint = a.checkpoint if a.as_stored else widened(a.checkpoint, a.work / "checkpoint")
    bad = 0
    for name in a.formats.split(","):
        theirs, ours = a.work / f"{name}.modelopt", a.work / f"{name}.halftone"
        modelopt_export.export(checkpoint, name, lists, theirs)
        run = quantize(a.halftone, checkpoint, MODELOPT[name][1], ours,
                       "--calib", a.work / "calibration.txt", "--samples", 0, "--max-tokens", a.tokens)
        if run.returncode:
            bad += 1
            print(f"{name}: halftone fails: {run.stderr.strip()[-400:]}")
            continue
        bad += not compare(name, theirs, ours, predict)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
