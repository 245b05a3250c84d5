"""Every single-layer removal of a 24-layer model on 64 HellaSwag rows, against what people do today.

    pip install torch transformers safetensors tokenizers pyarrow mergekit
    cargo build --release
    python benches/ablate.py DIRECTORY --data-root DATA [--mergekit mergekit-yaml]

Writes a Llama of Qwen2.5-0.5B's shape (random bf16 weights, a BPE tokenizer trained on the rows) into DIRECTORY
unless it is there. Then in one run: `lopper ablate` with f32 and with bf16 products; transformers in bf16 with the
layer taken out of the model in memory, four choices a batch, for `--candidates` of the 24 candidates and scaled to
all; and mergekit's passthrough, loading with transformers and scoring, likewise scaled. The checkpoint is a Llama:
mergekit 0.1.5 ends in an error on Qwen2 ones, whose `layer_types` it leaves as long as before the cut. DATA has
`Rowan/hellaswag/default/validation.parquet`.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from engine import MID  # noqa: E402

ROWS = 64


def rows(data_root):
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(data_root / "Rowan/hellaswag/default/validation.parquet")
    return table.to_pylist()


def write(directory, data_root):
    if (directory / "tokenizer.json").exists():
        return
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(0)
    config = dict(MID, model_type="llama")
    config.pop("use_sliding_window")
    made = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    transformers.AutoModelForCausalLM.from_config(made).to(torch.bfloat16).save_pretrained(directory)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=8000, special_tokens=["<|endoftext|>"],
                                             initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((" ".join([row["ctx"], *row["endings"]]) for row in rows(data_root)), trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.save_pretrained(directory)


def questions(directory, data_root):
    """Token ids of each row's context and of its four endings, as lm-evaluation-harness makes them."""
    import re
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)

    def clean(text):
        text = text.strip().replace(" [title]", ". ")
        return re.sub("\\\\[.*?\\\\]", "", text).replace("  ", " ")

    found = []
    for row in rows(data_root)[:ROWS]:
        context = clean(row["activity_label"] + ": " + row["ctx_a"] + " " + row["ctx_b"].capitalize())
        head = tokenizer(context)["input_ids"]
        found.append([(len(head), tokenizer(context + " " + clean(ending))["input_ids"]) for ending in row["endings"]])
    return found


def score(model, asked):
    """Picks the most probable ending of every row."""
    import torch

    picked = []
    with torch.inference_mode():
        for choices in asked:
            longest = max(len(ids) for _, ids in choices)
            batch = torch.zeros(len(choices), longest, dtype=torch.long)
            mask = torch.zeros_like(batch)
            for row, (_, ids) in enumerate(choices):
                batch[row, :len(ids)] = torch.tensor(ids)
                mask[row, :len(ids)] = 1
            logits = torch.log_softmax(model(batch, attention_mask=mask, use_cache=False).logits.float(), -1)
            sums = [logits[row, head - 1:len(ids) - 1].gather(1, torch.tensor(ids[head:])[:, None]).sum().item()
                    for row, (head, ids) in enumerate(choices)]
            picked.append(max(range(len(sums)), key=sums.__getitem__))
    return picked


def peer(directory, data_root, candidates, mergekit):
    import torch
    import transformers

    asked = questions(directory, data_root)
    load = lambda path: transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()
    layers = MID["num_hidden_layers"]
    chosen = [round((at + 0.5) * layers / candidates) for at in range(candidates)]
    if mergekit:
        begun = time.perf_counter()
        for drop in chosen[:2]:
            out = directory.parent / "merged"
            recipe = directory.parent / "recipe.yaml"
            recipe.write_text("slices:\n" + "".join(
                f"- sources:\n  - model: {directory}\n    layer_range: [{first}, {last}]\n"
                for first, last in ((0, drop), (drop + 1, layers)) if first < last)
                + "merge_method: passthrough\ndtype: bfloat16\n")
            merge = subprocess.run([mergekit, recipe, out, "--lazy-unpickle"], capture_output=True, text=True)
            if merge.returncode != 0:
                sys.exit(merge.stderr.strip().splitlines()[-1])
            written = time.perf_counter()
            model = load(out)
            loaded = time.perf_counter()
            score(model, asked)
            shutil.rmtree(out)
            print(f"  without {drop}: loading {loaded - written:.1f} s, scoring {time.perf_counter() - loaded:.1f} s",
                  file=sys.stderr)
        seconds = (time.perf_counter() - begun) / len(chosen[:2]) * layers
    else:
        model = load(directory)
        whole = model.model.layers
        score(model, asked[:4])
        begun = time.perf_counter()
        for drop in chosen:
            model.model.layers = torch.nn.ModuleList(layer for at, layer in enumerate(whole) if at != drop)
            score(model, asked)
        seconds = (time.perf_counter() - begun) / len(chosen) * layers
    print(json.dumps(seconds))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--data-root", type=pathlib.Path, required=True)
    parser.add_argument("--lopper", default="target/release/lopper")
    parser.add_argument("--mergekit", default="mergekit-yaml")
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--dtypes", default="bf16,f32", help="Lopper's products")
    parser.add_argument("--peer")
    args = parser.parse_args()
    if args.peer:
        return peer(args.directory, args.data_root, args.candidates, args.mergekit if args.peer == "mergekit" else None)
    model = args.directory / "model"
    write(model, args.data_root)
    seconds = {}

    def lopper(label, *options):
        command = [args.lopper, "ablate", model, "--tasks", "hellaswag", "--shots", "0", "--limit", str(ROWS),
                   "--split", "all", "--data-root", args.data_root, "--json", *options]
        begun = time.perf_counter()
        out = json.loads(subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout)
        seconds[label] = time.perf_counter() - begun
        layers = MID["num_hidden_layers"]
        kept = layers + layers * (layers - 1)
        theory = out["cost"]["layer_rows_apart"] / kept * layers * (layers + 1) / 2
        print(f"{label:44} {seconds[label]:8.1f} s   layers of work: {out['cost']['layer_rows'] / theory:.3f} of the trie's, "
              f"{out['cost']['layer_rows'] / out['cost']['layer_rows_apart']:.3f} of one after another", flush=True)

    if "f32" in args.dtypes:
        lopper("lopper ablate, f32")
    if "bf16" in args.dtypes:
        lopper("lopper ablate, bf16", "--dtype", "bfloat16")
    ours = list(seconds)
    for label, peer_name in (("transformers bf16, layers removed in memory", "memory"),
                             ("mergekit, load, transformers bf16", "mergekit")):
        command = [sys.executable, __file__, model, "--data-root", args.data_root, "--peer", peer_name, "--mergekit",
                   args.mergekit, "--candidates", str(args.candidates)]
        out = subprocess.run([str(c) for c in command], capture_output=True, text=True, env={**os.environ})
        if out.returncode != 0:
            print(f"{label:44} failed: {out.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        seconds[label] = json.loads(out.stdout.strip().splitlines()[-1])
        print("\n".join(line for line in out.stderr.splitlines() if line.startswith("  without")), file=sys.stderr)
        print(f"{label:44} {seconds[label]:8.1f} s, scaled to 24 candidates", flush=True)
    for label in list(seconds)[len(ours):]:
        ratios = [f"{seconds[label] / seconds[our]:.1f} ({our.split(', ')[1]})" for our in ours]
        print(f"{label:44} {' and '.join(ratios)} times Lopper's")


if __name__ == "__main__":
    main()
