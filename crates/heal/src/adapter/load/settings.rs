//! `adapter_config.json`: what is followed, and what is refused because the adapter would be another one without it.

use super::patterns::Patterns;
use super::{ends_in, read};
use crate::recipe::{LoraConfig, PROJECTIONS};
use lopper_model::Config;
use lopper_model::hf::{Fields, parse_object};
use lopper_record::{Fault, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

const MAX_CONFIG_BYTES: u64 = 1 << 24;
/// Initialisations that leave the base's weights as they are. All others are refused: `pissa`, `olora`, `corda`,
/// `loftq` and `lora_ga` move a part of the base's weights into the adapter (PEFT 0.21, `peft/tuners/lora/layer.py`),
/// and what is saved says nothing about that part.
const PLAIN_INITS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];
/// Switches of kinds that are not supported.
const OFF: [&str; 4] = ["use_qalora", "lora_bias", "fan_in_fan_out", "use_bdlora"];
/// Settings of kinds that are not supported.
const EMPTY: [&str; 6] = [
    "target_parameters",
    "alora_invocation_tokens",
    "layer_replication",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
];
/// Token indices that are read.
const MAX_TOKENS: usize = 1 << 24;

/// The setting `target_modules`.
pub(in crate::adapter) enum Targets {
    /// Ends of module names.
    Named(Vec<String>),
    /// A pattern: the modules that the weights are of.
    Pattern,
}

/// The settings of an adapter.
pub(in crate::adapter) struct Settings {
    /// Those of a low-rank adapter.
    pub lora: LoraConfig,
    /// Which projections have an adapter.
    pub targets: Targets,
    /// Whether the adapter is on every layer.
    pub every_layer: bool,
    /// The base model that it names.
    pub base: Option<String>,
    /// Ends of the names of modules that were trained whole.
    pub saved: Vec<String>,
    /// Token ids whose rows were trained, by end of the module's name.
    pub tokens: Vec<(String, Vec<usize>)>,
    ranks: Patterns,
    alphas: Patterns,
    path: PathBuf,
}

impl Settings {
    /// Reads the file `path` of an adapter for `model`.
    pub fn read(path: &Path, model: &Config) -> Result<Self> {
        let object = parse_object(&read(path, MAX_CONFIG_BYTES)?, path)?;
        let fields = Fields::new(&object, path);
        refuse(fields)?;
        let (targets, named) = targets(fields, model)?;
        let lora = LoraConfig {
            r: fields.required_size("r", 1 << 16)?,
            alpha: match fields.positive("lora_alpha")? {
                Some(alpha) => alpha,
                None => return Err(fields.wrong("lora_alpha", "a number greater than 0").into()),
            },
            dropout: fields.number("lora_dropout")?.unwrap_or(0.0),
            target_modules: named,
            rslora: fields.flag("use_rslora")?.unwrap_or(false),
            dora: fields.flag("use_dora")?.unwrap_or(false),
        };
        if !(0.0..1.0).contains(&lora.dropout) {
            return Err(fields.wrong("lora_dropout", "from 0 up to, not including, 1").into());
        }
        Ok(Self {
            lora,
            targets,
            every_layer: fields.get("layers_to_transform").is_none() && fields.get("exclude_modules").is_none(),
            // Not needed where it is unusable: PEFT writes whatever the model's name was.
            base: fields.get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned),
            saved: saved(fields)?,
            tokens: tokens(fields)?,
            ranks: Patterns::read(fields, "rank_pattern")?,
            alphas: Patterns::read(fields, "alpha_pattern")?,
            path: path.to_owned(),
        })
    }

    /// The rank of a module's adapter and the factor of its output.
    pub fn rank_and_scale(&self, module: &str) -> Result<(usize, f32)> {
        let rank = self.ranks.of(module)?.unwrap_or(self.lora.r as f64);
        if rank.fract() != 0.0 || rank > f64::from(1 << 16) {
            return Err(Fault::new("`rank_pattern` is not usable")
                .file(&self.path)
                .expected("whole numbers up to 65536")
                .got(format!("{rank} for `{module}`"))
                .into());
        }
        let alpha = self.alphas.of(module)?.unwrap_or(self.lora.alpha);
        let own = LoraConfig { r: rank as usize, alpha, ..self.lora.clone() };
        Ok((own.r, own.scale()))
    }

    /// Whether the module `name` was trained whole.
    pub fn is_saved(&self, name: &str) -> bool {
        self.saved.iter().any(|saved| ends_in(name, saved))
    }
}

fn refuse(fields: Fields<'_>) -> Result<()> {
    let unsupported = |key: &str, expected: &str| {
        fields.wrong(key, expected).hint("merge the adapter with PEFT (merge_and_unload) and give the merged model")
    };
    if fields.text("peft_type")?.is_some_and(|kind| kind != "LORA") {
        return Err(unsupported("peft_type", "LORA; other adapters are not supported").into());
    }
    if fields.text("bias")?.is_some_and(|bias| bias != "none") {
        return Err(unsupported("bias", "none: trained biases are not supported").into());
    }
    match fields.get("init_lora_weights") {
        None | Some(Value::Bool(_)) => {}
        Some(Value::String(name)) if PLAIN_INITS.contains(&name.to_lowercase().as_str()) => {}
        Some(_) => {
            return Err(fields
                .wrong(
                    "init_lora_weights",
                    format!("true, false, {}: the base's weights as they were published", PLAIN_INITS.join(", ")),
                )
                .hint(
                    "this initialisation moved a part of the base's weights into the adapter; have PEFT save a plain \
                     LoRA (save_pretrained with path_initial_model_for_weight_conversion), or merge it there",
                )
                .into());
        }
    }
    for key in OFF {
        if fields.get(key).is_some_and(|value| !is_empty(value)) {
            return Err(unsupported(key, "false: this kind of adapter is not supported").into());
        }
    }
    for key in EMPTY {
        if fields.get(key).is_some_and(|value| !is_empty(value)) {
            return Err(unsupported(key, "nothing: this kind of adapter is not supported").into());
        }
    }
    Ok(())
}

fn targets(fields: Fields<'_>, model: &Config) -> Result<(Targets, Vec<String>)> {
    Ok(match fields.get("target_modules") {
        Some(Value::Array(names)) => {
            let names: Option<Vec<String>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
            let Some(names) = names else {
                return Err(fields.wrong("target_modules", "a list of names").into());
            };
            let known = PROJECTIONS.iter().filter(|name| names.iter().any(|target| ends_in(target, name)));
            let known = known.map(|name| (*name).to_owned()).collect();
            (Targets::Named(names), known)
        }
        // PEFT's name for every linear layer except the head.
        Some(Value::String(all)) if all == "all-linear" => {
            let all = LoraConfig::default().for_model(model).target_modules;
            (Targets::Named(all.clone()), all)
        }
        _ => (Targets::Pattern, LoraConfig::default().for_model(model).target_modules),
    })
}

fn saved(fields: Fields<'_>) -> Result<Vec<String>> {
    let names = fields.list("modules_to_save")?.unwrap_or_default().iter().map(|name| name.as_str().map(str::to_owned));
    let names: Option<Vec<String>> = names.collect();
    names.ok_or_else(|| fields.wrong("modules_to_save", "a list of names").into())
}

/// A list stands for the embedding's tokens.
fn tokens(fields: Fields<'_>) -> Result<Vec<(String, Vec<usize>)>> {
    const KEY: &str = "trainable_token_indices";
    let wrong = || fields.wrong(KEY, "a list of token ids, or an object from module names to such lists");
    let ids = |value: &Value| -> Result<Vec<usize>> {
        let list = value.as_array().filter(|list| list.len() <= MAX_TOKENS).ok_or_else(wrong)?;
        let ids = list.iter().map(|id| id.as_u64().and_then(|id| usize::try_from(id).ok()));
        Ok(ids.collect::<Option<_>>().ok_or_else(wrong)?)
    };
    match fields.get(KEY) {
        None => Ok(vec![]),
        Some(list @ Value::Array(_)) => Ok(vec![("embed_tokens".to_owned(), ids(list)?)]),
        Some(Value::Object(map)) => map.iter().map(|(name, list)| Ok((name.clone(), ids(list)?))).collect(),
        Some(_) => Err(wrong().into()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
