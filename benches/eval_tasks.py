"""Throughput of `lopper eval` against lm-evaluation-harness's transformers backend: same model, same rows, one run.

    python benches/eval_tasks.py LOPPER DATA_ROOT [--limit N] [--hidden 512 --layers 12] [--batch 8]

A Qwen2-shaped model of random weights is made in a temporary directory. The harness is timed with its model loaded
(`simple_evaluate`: building prompts, tokenising, scoring); Lopper as a whole process, loading included. Both use all
cores, in f32. Log-likelihoods are compared, too: a fast wrong answer is none.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "fixtures/tasks"))
import check


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lopper")
    parser.add_argument("root", type=Path)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tasks", default="arc_easy,hellaswag,piqa,winogrande")
    parser.add_argument("--shots", default="0,5")
    args = parser.parse_args()
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import Qwen2Config, Qwen2ForCausalLM

    root = args.root.resolve()
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        os.environ["HF_DATASETS_CACHE"] = str(place / "cache")
        model = place / "model"
        fast = check.tokenizer("qwen2", list(check.texts_of(root)), model)
        torch.manual_seed(7)
        config = Qwen2Config(vocab_size=16384, hidden_size=args.hidden, intermediate_size=4 * args.hidden, num_hidden_layers=args.layers,
                             num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=4096, eos_token_id=fast.eos_token_id)
        made = Qwen2ForCausalLM(config).eval()
        print(f"{sum(p.numel() for p in made.parameters()) / 1e6:.0f}M parameters, torch {torch.__version__}, {torch.get_num_threads()} threads, lm_eval {lm_eval.__version__}")
        made.save_pretrained(model)
        del made
        names = args.tasks.split(",")
        tasks, _ = check.yaml_files(root, place / "yaml", names)
        lm = HFLM(pretrained=str(model), dtype="float32", batch_size=args.batch, device="cpu")
        manager = TaskManager(include_path=str(place / "yaml"))
        print("| task | shots | items | lm_eval, s | lopper, s | ratio | largest difference |\n|---|---|---|---|---|---|---|")
        all_harness = all_lopper = 0.0
        for shots in map(int, args.shots.split(",")):
            for name in names:
                begun = time.time()
                theirs = lm_eval.simple_evaluate(model=lm, tasks=[tasks[name]], num_fewshot=shots, limit=args.limit, log_samples=True, task_manager=manager,
                                                 bootstrap_iters=0)
                harness = time.time() - begun
                begun = time.time()
                ours, lines = check.lopper(args.lopper, root, model, [name], shots, args.limit, False, True, place / "out.jsonl")
                lopper = time.time() - begun
                all_harness, all_lopper = all_harness + harness, all_lopper + lopper
                mine = {line["doc_id"]: line["logprobs"] for line in lines}
                samples = theirs["samples"][tasks[name]]
                worst = max(abs(a[0][0] - b) for s in samples for a, b in zip(s["resps"], mine[s["doc_id"]]))
                print(f"| {name} | {shots} | {len(samples)} | {harness:.1f} | {lopper:.1f} | {harness / lopper:.2f} | {worst:.1e} |", flush=True)
        print(f"| all | | | {all_harness:.1f} | {all_lopper:.1f} | {all_harness / all_lopper:.2f} | |")


if __name__ == "__main__":
    main()
