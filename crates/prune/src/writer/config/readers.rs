//! Other programs that would compute a different model from a correct configuration. Known from their sources:
//!
//! - **llama.cpp**: its converter writes no pattern for Gemma 2 and 3 (`conversion/gemma.py`), and the
//!   loader then takes every 2nd and every 6th layer for one without a window (`set_swa_pattern`); for
//!   SmolLM3 every 4th layer has no rotary embedding (`n_no_rope_layer_step`), whatever the file contains. OLMo 3's
//!   `layer_types` are carried over (`conversion/olmo.py`).
//! - llama.cpp recognises Gemma 2 and 3 27B by their 46 and 62 layers, and scales queries by the width of
//!   a head for all others.
//! - **transformers** before `layer_types`, and vLLM of that time, spaced Gemma's windows by the same
//!   periods (`layer_idx % 2`; `(layer_idx + 1) % sliding_window_pattern`).

use lopper_model::Config;
use serde_json::{Map, Value};

use super::rules::PERIODIC;

/// Families for which llama.cpp does not read a pattern, and how many layers its 27B has.
const LLAMA_CPP: [(&str, Option<usize>); 3] = [("gemma2", Some(46)), ("gemma3_text", Some(62)), ("smollm3", None)];

/// Warnings about the written configuration `json`, which means `config`.
pub(super) fn warnings(json: &Map<String, Value>, config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let family = config.model_type.as_str();
    let Some((_, largest)) = LLAMA_CPP.iter().find(|(name, _)| *name == family) else { return warnings };
    let layers = config.num_hidden_layers;
    if let Some(rule) = PERIODIC.iter().find(|rule| rule.model_type == family)
        && rule.kinds(json, layers) != rule.by_period(rule.default_period, layers)
    {
        let others = match family {
            "smollm3" => "llama.cpp computes",
            _ => "llama.cpp, and versions of transformers and vLLM that do not read `layer_types`, compute",
        };
        warnings.push(format!(
            "{others} a different model from this one: for `{family}` they assume a fixed period of {} layers, which \
             `{}` no longer has; --keep-pattern makes a cut that keeps it",
            rule.default_period, rule.list
        ));
    }
    if let Some(largest) = largest {
        // What llama.cpp multiplies queries by, from the number of layers alone.
        let width = if layers == *largest { config.hidden_size / config.num_attention_heads } else { config.head_dim };
        let assumed = 1.0 / (width as f32).sqrt();
        if (assumed - config.attention_scale).abs() > 1e-6 {
            warnings.push(format!(
                "llama.cpp would scale this model's queries wrongly: it recognises the largest `{family}` by its {largest} \
                 layers, and this one has {layers}"
            ));
        }
    }
    warnings
}
