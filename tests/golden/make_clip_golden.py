#!/usr/bin/env python3
"""Writes clip.safetensors: what ModelOpt's awq_clip finds for one small layer, on a CPU.  usage: make_clip_golden.py [TARGET]

tools/oracle/make_venv makes the environment. Tensors CASE.part: weight, rows, row_weights (what goes in: after awq_lite in
the cases "full"), losses [shares, scales], amax [scales] (what comes out).
"""
import copy
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "../../tools/oracle"))

import modelopt.torch.quantization as mtq  # noqa: E402
import torch  # noqa: E402
from make_awq_golden import Layer  # noqa: E402
from modelopt_export import configuration  # noqa: E402  (also teaches ModelOpt to simulate NVFP4 on a CPU)
from safetensors.torch import save_file  # noqa: E402

OUT = {}


def clip(name, config, method):
    g = torch.Generator().manual_seed(9)
    dtype = torch.bfloat16
    weight = (torch.randn(32, 256, generator=g) * 0.05).to(dtype)
    x = torch.randn(16, 256, generator=g)
    x[:, 7] *= 30
    x[:, 50] *= 8
    x[:, 90] = 0
    weight[3, 128:] = 0
    batches = [b.to(dtype) for b in torch.split(x, [5, 7, 4])]
    model = Layer(weight)
    config = copy.deepcopy(configuration(config))
    config["algorithm"] = {"method": method, "debug": True}
    with torch.no_grad():
        mtq.quantize(model, config, lambda m: [m(b) for b in batches])
    search = model.linear.awq_clip
    scale = getattr(model.linear.input_quantizer, "_pre_quant_scale", None)
    rows = torch.cat(batches) if scale is None else torch.cat(batches) * scale
    OUT.update({f"{name}.{k}": v for k, v in dict(
        weight=model.linear.weight.data, rows=rows.float(),
        row_weights=torch.cat([torch.full((len(b),), 1 / len(b)) for b in batches]),
        losses=torch.stack([loss.reshape(-1) for loss in search.loss.values()]),
        amax=search.best_clip_val.float().reshape(-1)).items()})


def main(target):
    clip("int4.clip", "INT4_AWQ_CFG", "awq_clip")
    clip("int4.full", "INT4_AWQ_CFG", "awq_full")
    clip("nvfp4.clip", "NVFP4_AWQ_CLIP_CFG", "awq_clip")
    clip("nvfp4.full", "NVFP4_AWQ_FULL_CFG", "awq_full")
    save_file({k: v.detach().contiguous().clone() for k, v in OUT.items()}, target)
    print(len(OUT), "tensors,", Path(target).stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else HERE / "clip.safetensors")
