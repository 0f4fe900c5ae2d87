#!/usr/bin/env python3
"""How long ModelOpt takes to quantize a checkpoint's weights and to export it, in seconds, loading not counted.
usage: time_modelopt.py CHECKPOINT OUT CONFIGURATION THREADS"""
import contextlib
import copy
import sys
import time
import warnings

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export import export_hf_checkpoint
from transformers import AutoModelForImageTextToText

warnings.filterwarnings("ignore")
checkpoint, out, name, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype="auto").eval()
configuration = copy.deepcopy(getattr(mtq, name))
# as Halftone's recipes: the decoder's layers alone
for pattern in ("*visual*", "*lm_head*"):
    configuration["quant_cfg"].append({"quantizer_name": pattern, "enable": False})
for parameter in model.parameters():  # safetensors maps the file: read it before the clock runs
    parameter.data = parameter.data.clone()
start, busy = time.perf_counter(), time.process_time()
with torch.no_grad(), contextlib.redirect_stdout(sys.stderr):  # ModelOpt prints what it does; stdout is for the figure
    mtq.quantize(model, configuration, None)
    quantized = time.perf_counter()
    export_hf_checkpoint(model, export_dir=out)
end = time.perf_counter()
print(f"quantize {quantized - start:.2f} s, export {end - quantized:.2f} s, processor time {time.process_time() - busy:.2f} s",
      file=sys.stderr)
print(f"{end - start:.2f}")
