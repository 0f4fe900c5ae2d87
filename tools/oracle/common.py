"""What the oracles share: loading a checkpoint, calibration samples, and the statistics file that `halftone quantize
--statistics` reads (docs/statistics.md)."""
import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

ROOT = Path(__file__).parent / "../.."


def load_model(folder):
    """The model in the dtype of its file, on the CPU, with the attention that gives one result on every machine."""
    return AutoModelForImageTextToText.from_pretrained(folder, dtype="auto", attn_implementation="eager").eval()


def canonical(name):
    """ "model.language_model.layers.0.x" and "model.visual.x" as checkpoints have written them from the first."""
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def samples(folder, count, tokens, seed):
    """Lists of token ids of differing lengths: the demo's captions if the folder has a tokenizer, else random ids."""
    generator = torch.Generator().manual_seed(seed)
    if (Path(folder) / "tokenizer.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        turns = json.loads((ROOT / "demo/suite/captions/calibration.json").read_text())
        order = torch.randperm(len(turns), generator=generator).tolist()
        texts = [" ".join(t["value"].replace("<image>", "") for t in turns[i]["conversations"]) for i in order[:count]]
        return [tokenizer(text)["input_ids"][:tokens] for text in texts]
    config = json.loads((Path(folder) / "config.json").read_text())
    vocabulary = config.get("text_config", config)["vocab_size"]
    lengths = [tokens - 5 * (i % 4) for i in range(count)]
    return [torch.randint(32, vocabulary, (n,), generator=generator).tolist() for n in lengths]


def run_samples(model, lists):
    with torch.inference_mode():
        for ids in lists:
            model(input_ids=torch.tensor([ids]))


class InputRecorder:
    """The inputs of every linear layer of the decoder over a calibration run, one tensor a sample."""

    def __init__(self, model):
        self.inputs, self.handles = {}, []
        self.cache = {}
        for name, module in model.named_modules():
            if ".layers." in name and type(module).__name__.endswith("Linear"):
                self.handles.append(module.register_forward_hook(self.hook(canonical(name))))

    def hook(self, name):
        def keep(_module, inputs, output):
            x = inputs[0].detach()
            self.inputs.setdefault(name, []).append(x.reshape(-1, x.shape[-1]))
            if name.endswith(("k_proj", "v_proj")):
                self.cache.setdefault(name, []).append(output.detach().reshape(-1, output.shape[-1]))

        return keep

    def close(self):
        for handle in self.handles:
            handle.remove()


def statistics(recorder):
    """Tensors of the statistics file that follow from the inputs alone."""
    tensors = {}
    for name, batches in recorder.inputs.items():
        rows = torch.cat(batches).float()
        tensors[name + ".input.absmax"] = rows.abs().amax(0)
        # a sample counts once, however many tokens it has; each mean is rounded to the model's dtype, as awq_lite does
        means = [batch.abs().mean(0).float() for batch in batches]
        total = torch.zeros_like(means[0])
        for mean in means:
            total += mean
        tensors[name + ".input.abs_mean"] = total / len(means)
        tensors[name + ".input.rows"] = rows
        tensors[name + ".input.row_weights"] = torch.cat([torch.full((len(b),), 1.0 / len(b)) for b in batches])
    return tensors


def save_statistics(tensors, target, **metadata):
    unique = {name: value.detach().float().contiguous().clone() for name, value in tensors.items()}
    save_file(unique, target, metadata={"format": "halftone statistics 1", **{k: str(v) for k, v in metadata.items()}})


def copy_companions(checkpoint, out):
    """What an engine needs beside the weights: tokenizer, template, processor."""
    for file in Path(checkpoint).glob("*"):
        if file.suffix in (".json", ".txt", ".jinja") and not (Path(out) / file.name).exists():
            if not file.name.endswith(".index.json"):
                shutil.copy(file, out)


def read_tensors(folder):
    tensors = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        if file.name != "statistics.safetensors":
            tensors.update(load_file(file))
    return tensors


def compare_folders(program_option, compare, texts):
    """The program of the checks that take SOURCE FOLDER...: compare(folder, source, program, texts) of each; exit status 1
    if one is not good."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument(f"--{program_option}", dest="program", required=True)
    parser.add_argument("--texts", type=int, default=texts)
    parser.add_argument("--tokens", type=int, default=40)
    a = parser.parse_args()
    read = [t for t in samples(a.source, a.texts, a.tokens, 99) if len(t) > 1]
    bad = 0
    for folder in a.folders:
        try:
            bad += not compare(folder, a.source, a.program, read)
        except Exception as error:
            bad += 1
            print(f"{folder.name}: {type(error).__name__}: {str(error)[:400]}")
    sys.exit(bad > 0)
