//! A plan in the notation of other tools.
//!
//! How each counts layers, and the source:
//!
//! - **mergekit** (0.1.5, `mergekit/config.py`): `slices` of half-open ranges `[first, last + 1)` of
//!   layers counted from 0;
//! - **llama.cpp**: `llama-quantize --prune-layers` takes the numbers of `blk.N` tensors, counted from
//!   0 and separated by commas (`remap_layer` in `src/llama-quant.cpp`);
//! - **NeMo**: `--drop_layers` of `scripts/llm/gpt_prune.py` (and of its predecessor
//!   `megatron_gpt_drop_layers.py`) takes numbers counted from 1, separated by spaces.
//!
//! All of them name layers of the original model, also where the plan cuts a model that was cut before.

use std::fmt::Write;

use super::Plan;

/// A notation for the layers of a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanFormat {
    /// As `--drop` takes them: ranges, from 0.
    Layers,
    /// A mergekit configuration that makes the same cut.
    Mergekit,
    /// The value of llama-quantize's `--prune-layers`.
    LlamaCpp,
    /// The values of NeMo's `--drop_layers`.
    Nemo,
}

impl Plan {
    /// The plan in another notation, without the last line break.
    pub fn export(&self, format: PlanFormat) -> String {
        let join = |separator: &str, first: usize| {
            let numbers: Vec<String> = self.dropped.indices().map(|layer| (layer + first).to_string()).collect();
            numbers.join(separator)
        };
        match format {
            PlanFormat::Layers => self.dropped.to_string(),
            PlanFormat::LlamaCpp => join(",", 0),
            PlanFormat::Nemo => join(" ", 1),
            PlanFormat::Mergekit => self.mergekit(),
        }
    }

    fn mergekit(&self) -> String {
        // A JSON string is a YAML string, whatever the name holds.
        let model = serde_json::Value::from(self.original_model().id.as_str());
        let mut text = String::from("merge_method: passthrough\nslices:\n");
        for run in self.kept.as_slice().chunk_by(|a, b| a.0 + 1 == b.0) {
            let (first, end) = (run[0].0, run[0].0 + run.len());
            // Writing to a string does not fail.
            let _ = writeln!(text, "  - sources:\n      - model: {model}\n        layer_range: [{first}, {end}]");
        }
        let dtype = match self.dtype.as_deref() {
            Some("F32") => Some("float32"),
            Some("F16") => Some("float16"),
            Some("BF16") => Some("bfloat16"),
            // mergekit then leaves tensors as they are stored.
            _ => None,
        };
        if let Some(dtype) = dtype {
            let _ = writeln!(text, "dtype: {dtype}");
        }
        text.trim_end().to_owned()
    }
}
