#!/usr/bin/env python3
"""Writes awq.safetensors: what ModelOpt's AWQ finds for one small layer in two formats, on a CPU.  usage: make_awq_golden.py [TARGET]

tools/oracle/make_venv makes the environment. Tensors FORMAT.part, FORMAT as recipes name it: weight, bias, rows, row_weights,
abs_mean, relative_mean, absmax (what goes in), scale, losses, alpha, input_scales, scaled (what comes out).
"""
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "../../tools/oracle"))

import modelopt.torch.quantization as mtq  # noqa: E402
import torch  # noqa: E402
from modelopt_export import configuration  # noqa: E402  (also teaches ModelOpt to simulate NVFP4 on a CPU)
from safetensors.torch import save_file  # noqa: E402

OUT = {}


class Layer(torch.nn.Module):
    def __init__(self, weight, bias=None):
        super().__init__()
        self.linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
        self.linear.weight.data.copy_(weight)
        if bias is not None:
            self.linear.bias.data.copy_(bias)

    def forward(self, x):
        return self.linear(x)


def awq(name, config):
    g = torch.Generator().manual_seed(9)
    dtype = torch.bfloat16
    weight = (torch.randn(32, 128, generator=g) * 0.05).to(dtype)
    bias = torch.randn(32, generator=g).to(dtype)
    x = torch.randn(16, 128, generator=g)
    x[:, 7] *= 30
    x[:, 50] *= 8
    x[:, 90] = 0
    batches = [b.to(dtype) for b in torch.split(x, [5, 7, 4])]
    model = Layer(weight, bias)
    with torch.no_grad():
        mtq.quantize(model, configuration(config), lambda m: [m(b) for b in batches])
    search, key = model.linear.awq_lite, name
    rows = torch.cat(batches).float()
    OUT.update({f"{key}.{k}": v for k, v in dict(
        weight=weight, bias=bias, rows=rows, row_weights=torch.cat([torch.full((len(b),), 1 / len(b)) for b in batches]),
        abs_mean=search.act_scale, relative_mean=search.weight_scale, absmax=rows.abs().amax(0), scale=search.best_scale,
        losses=torch.tensor(list(search.loss.values())), alpha=torch.tensor([search.best_alpha]),
        input_scales=model.linear.input_quantizer._pre_quant_scale.reshape(-1), scaled=model.linear.weight.data).items()})


def main(target):
    awq("int4_group128", "INT4_AWQ_CFG")
    awq("nvfp4_block16", "NVFP4_AWQ_LITE_CFG")
    save_file({k: v.detach().contiguous().clone() for k, v in OUT.items()}, target)
    print(len(OUT), "tensors,", Path(target).stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else HERE / "awq.safetensors")
