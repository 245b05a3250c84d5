//! The model card (`README.md`): the source's, with a section on the cut. Its front matter stays first and unchanged,
//! so that licence and tags are kept.

use std::path::Path;

use lopper_model::Checkpoint;
use lopper_record::Result;

use crate::compensation::CompensationMethod;
use crate::plan::{Compensation, MergedAdapter, PLAN_FILE, Plan};

use super::files;

const CARD: &str = "README.md";

/// Writes the source's model card with a section added.
pub(super) fn extend(checkpoint: &Checkpoint, section: &str, directory: &Path) -> Result<()> {
    let mut card = checkpoint.file(CARD)?.map(|bytes| bytes.into_owned()).unwrap_or_default();
    if !card.is_empty() {
        if !card.ends_with(b"\n") {
            card.push(b'\n');
        }
        card.push(b'\n');
    }
    card.extend_from_slice(section.as_bytes());
    files::write(&directory.join(CARD), &card)
}

/// The section on a cut. `uniform`: all layers of the source are of one kind.
pub(super) fn section(plan: &Plan, warnings: &[String], uniform: bool) -> String {
    let original = plan.original_model();
    let mut lines = vec![
        "## Layers removed with Lopper".to_owned(),
        String::new(),
        format!(
            "Layers left: {} of the {} of `{}` (counted from 0 there).",
            plan.kept.len(),
            original.num_hidden_layers,
            original.id,
        ),
        String::new(),
        format!("- removed: {}", plan.dropped),
        format!("- kept: {}", plan.kept),
        format!("- chosen by: {}", plan.choice.criterion),
    ];
    if let Some(seed) = plan.choice.seed {
        lines.push(format!("- seed: {seed}"));
    }
    lines.push(format!("- source: `{}`, hash `{}`", plan.source.id, plan.source.hash));
    lines.push(format!("- Lopper {}", plan.lopper_version));
    if let Some(command) = &plan.command {
        lines.extend([String::new(), "Made by".to_owned(), String::new()]);
        lines.extend(fenced("sh", command));
    }
    lines.extend([String::new(), "It loads like the uncut model:".to_owned(), String::new()]);
    let load = "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
                model = AutoModelForCausalLM.from_pretrained(\"path/to/this/directory\")\n\
                tokenizer = AutoTokenizer.from_pretrained(\"path/to/this/directory\")";
    lines.extend(fenced("python", load));
    // Where all layers are of one kind, the cut is an ordinary model of the family with fewer layers.
    if uniform && warnings.is_empty() {
        lines.extend([
            String::new(),
            "A server that runs the uncut model runs this one, which has fewer layers and nothing new: for example \
             `vllm serve path/to/this/directory`."
                .to_owned(),
        ]);
    }
    for warning in warnings {
        lines.extend([String::new(), sentence(warning)]);
    }
    lines.push(String::new());
    let weights = match (&plan.compensation, &plan.merged_adapter) {
        (_, Some(adapter)) => {
            lines.extend(merged(adapter));
            lines.push(String::new());
            format!("All weights are stored in {}.", adapter.stored_as)
        }
        (None, None) => "The remaining weights are those of the source, byte for byte.".to_owned(),
        (Some(compensation), None) => {
            lines.extend(compensated(compensation));
            lines.push(String::new());
            "All other remaining weights are those of the source, byte for byte.".to_owned()
        }
    };
    lines.push(format!(
        "{weights} Figures above this section describe the model before the cut. `{PLAN_FILE}` holds this list for \
         programs."
    ));
    lines.join("\n") + "\n"
}

/// The adapter that was folded into the weights, and what that did.
pub(super) fn merged(merged: &MergedAdapter) -> Vec<String> {
    let mut lines = vec![format!(
        "The adapter `{}` (hash `{}`) is folded into the weights, which are stored in {}.",
        merged.adapter.id, merged.adapter.hash, merged.stored_as
    )];
    if let Some(loss) = &merged.loss {
        lines.extend([
            String::new(),
            format!(
                "- loss on {} tokens, in nats per token: {:.4} without the adapter, {:.4} with it, {:.4} as written",
                loss.tokens, loss.without, loss.apart, loss.written
            ),
        ]);
    }
    lines
}

/// What was changed to make up for the removed layers, and what that did.
fn compensated(compensation: &Compensation) -> Vec<String> {
    let Compensation { method, ridge, fitted_to, held_out, loss, gaps, changed } = compensation;
    let how = match method {
        CompensationMethod::Linear => {
            "a linear map in place of each run of removed layers, folded into the down projection before it (ReplaceMe, \
             arXiv 2505.02819)"
        }
        CompensationMethod::Magnitude => {
            "hidden states scaled to their size after each run of removed layers, folded into the layers after it \
             (Prune&Comp, arXiv 2507.18212)"
        }
    };
    let mut lines = vec![
        format!("Compensated without training: {how}."),
        String::new(),
        format!("- fitted to: {} tokens in {} sequences", fitted_to.tokens, fitted_to.sequences),
    ];
    lines.extend(ridge.map(|ridge| format!("- ridge: {ridge:e}")));
    lines.push(format!(
        "- loss on {} held-out tokens, in nats per token: {:.4} uncut, {:.4} cut, {:.4} compensated",
        held_out.tokens, loss.uncut, loss.cut, loss.compensated
    ));
    for gap in gaps {
        let factor = gap.factor.map(|factor| format!(", scaled by {factor:.4}")).unwrap_or_default();
        let [before, after] = gap.error;
        lines.push(format!(
            "- without {}{factor}: relative squared error of the hidden states {before:.4}, then {after:.4}",
            gap.removed
        ));
    }
    lines.push(format!("- changed tensors: {}", changed.join(", ")));
    lines
}

/// A warning as a sentence of its own.
pub(super) fn sentence(warning: &str) -> String {
    format!("Note: {warning}.")
}

/// A code block whose fence is longer than any in its text.
fn fenced(language: &str, text: &str) -> Vec<String> {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    vec![format!("{fence}{language}"), text.to_owned(), fence]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_cannot_close_its_block() {
        assert_eq!(fenced("sh", "lopper prune m").concat(), "```shlopper prune m```");
        assert_eq!(fenced("sh", "a '```' b")[2], "````");
    }
}
