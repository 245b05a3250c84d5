//! The README of a recipe: what to run, and what differs from a training by Lopper.

use super::{Export, ExportFormat, HELD_OUT, TRAIN, trl};
use crate::recipe::Method;

pub(super) fn text(export: &Export<'_>) -> String {
    let Export { format, model, recipe, train, held_out, .. } = export;
    let program = match format {
        ExportFormat::Trl => "TRL",
        ExportFormat::Axolotl => "axolotl",
        ExportFormat::Torchtune => "torchtune",
    };
    let mut out = format!(
        "# A training for {program}\n\nWritten by Lopper {} in place of training itself: {}.\n\n\
         Checked with {}.\n\n## How to run it\n\nIn this directory:\n\n```sh\n",
        env!("CARGO_PKG_VERSION"),
        recipe.summary(export.steps()),
        format.version(),
    );
    if let Some(command) = &model.made_by {
        out += &format!("{command}    # the model that is trained\n");
    }
    out += match format {
        ExportFormat::Trl => "python train.py\n",
        ExportFormat::Axolotl => "axolotl train config.yaml\n",
        ExportFormat::Torchtune => {
            "tune run lora_finetune_single_device --config config.yaml    # device=cpu without a GPU\n"
        }
    };
    let result = match format {
        ExportFormat::Torchtune => format!("output/epoch_{}", recipe.epochs - 1),
        _ => trl::output(export).to_owned(),
    };
    out += &match recipe.method {
        Method::Lora => format!("{} --adapter {result} --tasks TASKS\n", export.evaluate),
        Method::Full => format!("lopper eval {result} --tasks TASKS\n"),
    };
    out += "```\n\n";
    out += &format!(
        "- `{TRAIN}`: {} examples, in tokens, with a label of -100 where a token is not learned, in the order of the \
         first epoch.\n",
        train.len()
    );
    if !held_out.is_empty() {
        out += &format!("- `{HELD_OUT}`: {} examples that are not learned.\n", held_out.len());
    }
    out += &format!("\nThe result is in `{result}`.\n\n## What differs\n\n");
    for line in differences(export) {
        out += &format!("- {line}\n");
    }
    out
}

/// What a training there does otherwise than here.
fn differences(export: &Export<'_>) -> Vec<String> {
    let Export { format, recipe, evaluation, train, held_out, .. } = export;
    let mut lines = Vec::new();
    if recipe.method == Method::Lora {
        lines.push("The first values of the adapter and the dropout masks are drawn by PyTorch.".to_owned());
    }
    if recipe.epochs > 1 {
        lines.push(match format {
            ExportFormat::Trl => "Every epoch but the first has another random order than Lopper's.".to_owned(),
            _ => "Every epoch has the order of the file; Lopper draws another one for each.".to_owned(),
        });
    }
    lines.push("A training that diverges is not stopped.".to_owned());
    match format {
        ExportFormat::Trl => {
            if recipe.mixed {
                lines.push("`bf16` is PyTorch's autocast.".to_owned());
            }
        }
        ExportFormat::Axolotl => {
            lines.push(
                "The warm-up is transformers': the first step has a learning rate of 0, and every later one is a step \
                 behind Lopper's."
                    .to_owned(),
            );
            if recipe.method == Method::Full {
                lines.push("Weight decay leaves out norms and biases.".to_owned());
            }
            if recipe.load_in_4bit {
                lines.push("Weights are in NF4 with double quantisation, as axolotl sets it for `qlora`.".to_owned());
            }
        }
        ExportFormat::Torchtune => {
            let step = super::Step::of(recipe.batch);
            if !train.len().is_multiple_of(recipe.batch) {
                lines.push(format!(
                    "Steps are of whole batches: of {} examples, {} an epoch make a step of their own here and none \
                     there.",
                    train.len(),
                    train.len() % recipe.batch
                ));
            }
            if !held_out.is_empty() || evaluation.every > 0 {
                lines.push(format!(
                    "`{HELD_OUT}` is not evaluated there; `lopper logprobs` and `lopper eval` measure the result."
                ));
            }
            if recipe.lora.rslora {
                lines.push(format!(
                    "rsLoRA is written as a LoRA with alpha times √r = {:.4}, which is the same.",
                    (recipe.lora.r as f64).sqrt()
                ));
            }
            let mlp = recipe.lora.target_modules.iter().any(|name| name == "up_proj");
            if mlp {
                lines.push("The adapter is on all three projections of the MLP.".to_owned());
            }
            lines.push(format!("A forward pass has {} examples.", step.micro));
        }
    }
    if evaluation.every > 0 && *format != ExportFormat::Torchtune {
        lines.push(
            "The held-out loss is the mean over batches and not over tokens, and the weights of the start are not \
             among those kept."
                .to_owned(),
        );
    }
    lines
}
