"""PyTorch's side of train_step.py: the same steps on the same weights and batch, one line of JSON.

    python train_step_torch.py DIR --steps 4 --warmup 2 --threads 2 [--onednn] [--autocast] [--bf16-weights] [--compile]
        [--lora] [--checkpointing]
"""

import argparse
import json
import pathlib
import time

import torch
import transformers


def memory_mb(key):
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--onednn", action="store_true", help="f32 products through oneDNN instead of MKL")
    parser.add_argument("--autocast", action="store_true", help="bf16 autocast: f32 weights, bf16 products")
    parser.add_argument("--bf16-weights", action="store_true", help="the model in bf16; adapters stay in f32")
    parser.add_argument("--lora", action="store_true", help="train DIR/adapter with PEFT instead of all weights")
    parser.add_argument("--checkpointing", action="store_true", help="compute activations again on the way back")
    parser.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    args = parser.parse_args()

    libraries_mb = memory_mb("VmRSS:")
    torch.set_num_threads(args.threads)
    if args.onednn:
        # The only switch that sends f32 products to oneDNN. Where the processor has no bf16 matrix units it still
        # computes in f32; the driver compares the losses, so that a change of precision would be seen.
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.directory, dtype=torch.bfloat16 if args.bf16_weights else torch.float32, attn_implementation="sdpa").train()
    if args.lora:
        import peft

        model = peft.PeftModel.from_pretrained(model, args.directory / "adapter", is_trainable=True)
    if args.checkpointing:
        model.gradient_checkpointing_enable()
        if args.lora:
            model.enable_input_require_grads()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    step_model = torch.compile(model) if args.compile else model
    texts = json.loads((args.directory / "batch.json").read_text())
    longest = max(map(len, texts))
    # Texts of different lengths are padded on the right, and what is padded is not learned.
    tokens = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    learned = torch.tensor([[1] * (len(text) - 1) + [0] * (longest - len(text)) for text in texts])
    inputs, targets = tokens[:, :-1], tokens[:, 1:].masked_fill(learned == 0, -100).reshape(-1)
    mask = None if bool(learned.all()) else learned
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=1e-4,
                                  fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.autocast):
            logits = step_model(input_ids=inputs, attention_mask=mask, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return loss.item()

    losses = [step() for _ in range(args.warmup)]
    begun = time.perf_counter()
    losses += [step() for _ in range(args.steps)]
    seconds = time.perf_counter() - begun
    print(json.dumps({"tokens_per_second": args.steps * int(learned.sum()) / seconds, "peak_mb": memory_mb("VmHWM:"),
                      "libraries_mb": libraries_mb, "losses": losses,
                      "versions": f"torch {torch.__version__}, transformers {transformers.__version__}"}))


if __name__ == "__main__":
    main()
