#!/usr/bin/env python3
"""What transformers computes in float32 (and in bfloat16, for the demo model), layer by layer, for the demo model and for tiny random models of the same architecture.

usage: make_engine_golden.py    (writes engine_demo.json, engine_tiny.json and the folders tiny_*/ beside itself)

Each output is kept as its shape, its largest absolute value, and values at evenly spread places: enough to tell a wrong layer from a right one within 1e-4 of the largest.
"""
import json
import shutil
from pathlib import Path

import torch
import transformers
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

HERE = Path(__file__).parent
ROOT = HERE / "../.."
SAMPLES = 96

# demo cases: (name, turns of (role, pictures, text))
DEMO_CASES = [
    ("text only", [("user", [], "How many days are in a week?")]),
    ("one picture", [("user", ["COCO_val2014_000000001123.jpg"], "What color is the sky?\nAnswer the question using a single word or phrase.")]),
    ("two pictures, two turns", [("user", ["COCO_val2014_000000004325.jpg"], "Is it day or night?"), ("assistant", [], "night"),
                                 ("user", ["COCO_val2014_000000005915.jpg"], "What is on the ground?")]),
]


def sampled(tensor):
    """Shape, largest magnitude, and SAMPLES values at k * n / SAMPLES."""
    flat = tensor.detach().float().reshape(-1)
    count = min(SAMPLES, flat.numel())
    places = [k * flat.numel() // count for k in range(count)]
    return dict(shape=list(tensor.shape), largest=flat.abs().max().item(), values=[float(f"{flat[p].item():.8g}") for p in places])


class Recorder:
    """Forward hooks on every layer; names are the checkpoint's old ones."""

    def __init__(self, model):
        self.outputs, core = {}, model.model
        vision, text = core.visual, core.language_model
        self.watch(vision.patch_embed, "visual.patch_embed")
        for i, block in enumerate(vision.blocks):
            self.watch(block, f"visual.blocks.{i}")
        self.watch(vision.merger, "visual.merger")
        for i, layer in enumerate(text.layers):
            self.watch(layer, f"model.layers.{i}")
        self.watch(text.norm, "model.norm")
        self.watch(model.lm_head, "lm_head")

    def watch(self, module, name):
        def hook(_module, _inputs, output):
            value = output[0] if isinstance(output, tuple) else output
            self.outputs[name] = value[0] if value.dim() == 3 else value
        module.register_forward_hook(hook)


@torch.inference_mode()
def record(model, recorder, inputs):
    recorder.outputs.clear()
    model.model.rope_deltas = None
    model(**inputs)
    positions, delta = model.model.get_rope_index(inputs["input_ids"], inputs["mm_token_type_ids"], inputs.get("image_grid_thw"))
    return dict(tokens=inputs["input_ids"][0].tolist(), grids=inputs["image_grid_thw"].tolist() if "image_grid_thw" in inputs else [],
                positions=positions[:, 0].T.tolist(), next_position=int(delta.item()) + inputs["input_ids"].shape[1],
                outputs={name: sampled(value) for name, value in recorder.outputs.items()})


def demo():
    folder = ROOT / "demo/model"
    model, half = (transformers.Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=dtype, attn_implementation=attention).eval() for dtype, attention in ((torch.float32, "eager"), (torch.bfloat16, "sdpa")))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pictures = Qwen2VLImageProcessorPil.from_pretrained(folder)
    recorder, half_recorder, cases = Recorder(model), Recorder(half), []
    for name, turns in DEMO_CASES:
        files = [f for _, names, _ in turns for f in names]
        messages = [dict(role=role, content=[dict(type="image")] * len(names) + [dict(type="text", text=text)]) for role, names, text in turns]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        images = [ImageOps.exif_transpose(Image.open(ROOT / "demo/suite/val2014" / f)).convert("RGB") for f in files]
        inputs = dict(pictures(images=images, return_tensors="pt")) if images else {}
        for grid in inputs.get("image_grid_thw", []):
            text = text.replace("<|image_pad|>", "<|one|>" * int(grid.prod() // 4), 1)
        ids = tokenizer(text.replace("<|one|>", "<|image_pad|>"), return_tensors="pt").input_ids
        inputs |= dict(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == model.config.image_token_id).int())
        case = dict(name=name, turns=[dict(role=r, pictures=p, text=t) for r, p, t in turns]) | record(model, recorder, inputs)
        case["outputs_bf16"] = record(half, half_recorder, inputs)["outputs"]
        cases.append(case)
    return cases


def synthetic_patches(rows, columns):
    """Numbers in [-1, 1) that the tests make again: (i * 2654435761 mod 2^32) / 2^31 - 1."""
    i = torch.arange(rows * columns, dtype=torch.int64)
    return ((i * 2654435761 % 2**32).double() / 2**31 - 1).float().reshape(rows, columns)


PICTURE, START, END = 12, 9, 10

TINY = [
    # folder, text settings, vision settings, dtype, how it is stored
    ("tiny_untied_f16", dict(hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, vocab_size=130, rms_norm_eps=1e-5,
                             rope_parameters=dict(rope_type="default", rope_theta=5000.0, mrope_section=[1, 1, 2])),
     dict(depth=3, embed_dim=24, num_heads=3, mlp_ratio=3, patch_size=4), torch.float16, dict(tied=False, shards=3, names="resaved")),
    ("tiny_tied_f32", dict(hidden_size=40, intermediate_size=100, num_hidden_layers=2, num_attention_heads=5, num_key_value_heads=1, vocab_size=97, rms_norm_eps=1e-6,
                           rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[2, 1, 1])),
     dict(depth=1, embed_dim=32, num_heads=2, mlp_ratio=2, patch_size=6), torch.float32, dict(tied=True, shards=1, names="old")),
    ("tiny_mha_bf16", dict(hidden_size=32, intermediate_size=36, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, vocab_size=64, rms_norm_eps=1e-6,
                           use_sliding_window=True, sliding_window=7, max_window_layers=1,
                           rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[2, 3, 3])),
     dict(depth=2, embed_dim=16, num_heads=1, mlp_ratio=4, patch_size=4), torch.bfloat16, dict(tied=True, shards=1, names="old", head="stored alone")),
]


def resaved_name(name):
    return "model.visual." + name[7:] if name.startswith("visual.") else "model.language_model." + name[6:] if name.startswith("model.") else name


def old_config(config):
    """As Qwen published it: the text model's settings flat at the root, rope_scaling of type mrope, legacy names in vision_config."""
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    vision = config["vision_config"]
    kept = {k: v for k, v in text.items() if k not in ("model_type", "dtype", "layer_types")}
    config = kept | {k: v for k, v in config.items() if k not in ("transformers_version",)}
    config["rope_theta"] = rope["rope_theta"]
    config["rope_scaling"] = dict(type="mrope", mrope_section=rope["mrope_section"])
    config["vision_config"] = {k: vision[k] for k in ("depth", "embed_dim", "hidden_size", "mlp_ratio", "num_heads", "patch_size", "spatial_merge_size", "temporal_patch_size")} | dict(
        in_chans=3, spatial_patch_size=vision["patch_size"])
    return config


def save(model, folder, how):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size="90KB" if how["shards"] > 1 else "1GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    if how["names"] == "resaved":   # as transformers 4.52 to 4.57 wrote them
        index = json.load(open(folder / "model.safetensors.index.json"))
        index["weight_map"] = {resaved_name(k): v for k, v in index["weight_map"].items()}
        for shard in set(index["weight_map"].values()):
            save_file({resaved_name(k): v for k, v in load_file(folder / shard).items()}, folder / shard, metadata=dict(format="pt"))
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
        return
    tensors = load_file(folder / "model.safetensors")
    if how.get("head") == "stored alone":
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, folder / "model.safetensors", metadata=dict(format="pt"))
    config = old_config(json.load(open(folder / "config.json")))
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def tiny():
    cases = []
    for seed, (name, text, vision, dtype, how) in enumerate(TINY):
        torch.manual_seed(seed)
        config = transformers.Qwen2VLConfig(
            text_config=text | dict(max_position_embeddings=512, bos_token_id=0, eos_token_id=2), vision_config=vision | dict(hidden_size=text["hidden_size"]),
            image_token_id=PICTURE, video_token_id=13, vision_start_token_id=START, vision_end_token_id=END, tie_word_embeddings=how["tied"])
        model = transformers.Qwen2VLForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
        for key, tensor in model.state_dict().items():   # the defaults are too small to show errors: biases 0, norms 1, weights 0.02
            spread = 0.3 if key.endswith("bias") else 0.12
            tensor.copy_(torch.randn_like(tensor) * spread + (1 if "norm" in key and key.endswith("weight") or "ln_q.weight" in key else 0))
        model.to(dtype)
        if how["tied"]:
            model.tie_weights()
        save(model, HERE / name, how)
        model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(HERE / name, dtype=torch.float32, attn_implementation="eager").eval()
        grids = [[1, 4, 6], [1, 2, 2]]
        ids = [0, 3, START] + [PICTURE] * 6 + [END, 20, 21, START, PICTURE, END] + list(range(30, 42))
        patches = synthetic_patches(28, 3 * 2 * vision["patch_size"] ** 2)
        ids = torch.tensor([ids])
        inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=patches, image_grid_thw=torch.tensor(grids), mm_token_type_ids=(ids == PICTURE).int())
        cases.append(dict(folder=name) | record(model, Recorder(model), inputs))
    return cases


def write(path, cases):
    path.write_text('{"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(HERE / "engine_demo.json", demo())
    write(HERE / "engine_tiny.json", tiny())
