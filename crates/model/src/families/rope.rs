//! Rotary embeddings in both spellings, resolved as transformers 5 does.
//!
//! Older configurations have `rope_theta` and `rope_scaling` at the top (the kind under `type`, or
//! under `rope_type` since 4.43); newer ones have `rope_parameters`, for some families with one
//! object per layer type. Follows `modeling_rope_utils.py` of transformers 5.24 (standardisation,
//! required keys, defaults) and the configuration classes of the families that go their own way.
//!
//! Where two places contradict each other, or versions of transformers would, the configuration
//! is refused instead of following one of them.
//!
//! Not covered: `proportional`, `mrope` and axial embeddings, and partial rotation outside Phi-3.

use lopper_record::{Fault, Result};
use serde_json::Map;

use crate::config::{Config, Rope, RopeScaling};
use crate::hf::{Fields, shorten};

use super::common::MAX_POSITIONS;

/// transformers' `rope_theta` for most families, where neither spelling gives one.
pub(super) const USUAL_THETA: f64 = 10_000.0;

const SUPPORTED: &str = "`default`, `linear`, `dynamic`, `llama3`, `yarn` or `longrope`";

/// How a family spells its rotary embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// One for all layers.
    Shared,
    /// One for each of `full_attention` and `sliding_attention`.
    PerLayerType,
    /// One for all layers, over a part of each head; older names of `longrope`.
    Phi3,
}

/// The one rotary embedding of a family, whose theta defaults to `theta`.
pub(super) fn shared(fields: Fields<'_>, config: &Config, theta: f64) -> Result<Vec<Rope>> {
    Reader { fields, config, style: Style::Shared }.one(theta)
}

/// The rotary embedding of Phi-3.
pub(super) fn phi3(fields: Fields<'_>, config: &Config) -> Result<Vec<Rope>> {
    Reader { fields, config, style: Style::Phi3 }.one(USUAL_THETA)
}

/// Where an embedding of its own for one layer type takes its theta from.
pub(super) struct Theta {
    /// The older key at the top, if this layer type has one.
    pub key: Option<&'static str>,
    /// Without any.
    pub default: f64,
}

/// The rotary embeddings of `full_attention` and `sliding_attention`, in this order. The older
/// `rope_scaling` is for full attention only.
pub(super) fn per_layer_type(fields: Fields<'_>, config: &Config, full: Theta, sliding: Theta) -> Result<Vec<Rope>> {
    let reader = Reader { fields, config, style: Style::PerLayerType };
    let older = present(fields, "rope_scaling")?;
    let newer = present(fields, "rope_parameters")?;
    if older.is_some() && newer.is_some() {
        return Err(twice(fields).into());
    }
    if let Some((key, _)) =
        newer.and_then(|newer| newer.entries().find(|(key, _)| !["full_attention", "sliding_attention"].contains(key)))
    {
        return Err(Fault::new(format!("`rope_parameters.{key}` has no layer type"))
            .file(fields.path())
            .expected("`rope_parameters` of one object each under `full_attention` and `sliding_attention`")
            .got(format!("`{key}` beside or instead of them"))
            .hint("transformers would ignore the key for this family")
            .into());
    }
    let nothing = Map::new();
    let read = |layer_type: &str, older: Option<Fields<'_>>, theta: Theta| {
        let newer = newer.map(|newer| newer.object(layer_type)).transpose()?.flatten();
        let (label, keys) = match (newer, older) {
            (Some(newer), _) => (format!("rope_parameters.{layer_type}"), newer),
            (None, Some(older)) => ("rope_scaling".to_owned(), older),
            (None, None) => (String::new(), Fields::new(&nothing, fields.path())),
        };
        reader.read(&label, keys, theta)
    };
    Ok(vec![read("full_attention", older, full)?, read("sliding_attention", None, sliding)?])
}

/// The object under `key`, unless it is empty, which counts as absent.
fn present<'a>(fields: Fields<'a>, key: &str) -> Result<Option<Fields<'a>>> {
    Ok(fields.object(key)?.filter(|object| object.entries().next().is_some()))
}

fn twice(fields: Fields<'_>) -> Fault {
    Fault::new("`rope_scaling` and `rope_parameters` contradict each other")
        .file(fields.path())
        .expected("one of them, or the same in both")
        .got("both, and different")
        .hint("`rope_parameters`, with `rope_theta` inside, is the newer spelling")
}

/// Reads one embedding from its keys and from those at the top.
struct Reader<'a> {
    fields: Fields<'a>,
    config: &'a Config,
    style: Style,
}

impl Reader<'_> {
    fn one(&self, default: f64) -> Result<Vec<Rope>> {
        let theta = || Theta { key: Some("rope_theta"), default };
        let read = |key: &str| {
            let keys = present(self.fields, key)?;
            keys.map(|keys| self.read(key, keys, theta())).transpose()
        };
        let rope = match (read("rope_scaling")?, read("rope_parameters")?) {
            (None, None) => self.read("", Fields::new(&Map::new(), self.fields.path()), theta())?,
            (Some(one), None) | (None, Some(one)) => one,
            (Some(older), Some(newer)) if older == newer => newer,
            (Some(_), Some(_)) => return Err(twice(self.fields).into()),
        };
        Ok(vec![rope])
    }

    fn read(&self, label: &str, keys: Fields<'_>, theta: Theta) -> Result<Rope> {
        if let Some((key, _)) = keys.entries().find(|(_, value)| value.is_object()) {
            return Err(Fault::new(format!("`{label}.{key}` is an object"))
                .file(self.fields.path())
                .expected("one rotary embedding for all layers of this family")
                .got(format!("parameters under `{key}`"))
                .into());
        }
        for key in ["mrope_section", "llama_4_scaling_beta"] {
            if keys.get(key).is_some() {
                return Err(keys.wrong(key, format!("no such key in `{label}`: text positions only")).into());
            }
        }
        let outer = theta.key.map(|key| self.fields.positive(key)).transpose()?.flatten();
        let theta = self.agreed("rope_theta", keys.positive("rope_theta")?, outer)?.unwrap_or(theta.default);
        let rotary_dim = self.rotary_dim(keys)?;
        let scaling = Kind { reader: self, label, keys, theta, rotary_dim }.scaling()?;
        Ok(Rope { theta, rotary_dim, scaling })
    }

    /// The value of a key that may stand inside, outside, or, the same, in both places.
    fn agreed<T: PartialEq + std::fmt::Display>(
        &self,
        key: &str,
        inner: Option<T>,
        outer: Option<T>,
    ) -> Result<Option<T>> {
        match (inner, outer) {
            (Some(inner), Some(outer)) if inner != outer => {
                Err(Fault::new(format!("`{key}` of the rotary embedding is given twice"))
                    .file(self.fields.path())
                    .expected("one value, or the same at the top and inside")
                    .got(format!("{outer} at the top, {inner} inside"))
                    .into())
            }
            (inner, outer) => Ok(inner.or(outer)),
        }
    }

    fn rotary_dim(&self, keys: Fields<'_>) -> Result<usize> {
        const KEY: &str = "partial_rotary_factor";
        let part = self.agreed(KEY, keys.positive(KEY)?, self.fields.positive(KEY)?)?.unwrap_or(1.0);
        let expected = match self.style {
            Style::Phi3 => "a number that leaves an even part, at least 2 and at most all, of each head",
            _ => "1.0: heads of this family are rotated whole",
        };
        // As Python's int(head_dim * part).
        let rotary_dim = (self.config.head_dim as f64 * part) as usize;
        let usable = (2..=self.config.head_dim).contains(&rotary_dim) && rotary_dim.is_multiple_of(2);
        if !usable || (self.style != Style::Phi3 && part != 1.0) {
            return Err(Fault::new(format!("`{KEY}` is not usable"))
                .file(self.fields.path())
                .expected(expected)
                .got(format!("{part}, heads {} wide", self.config.head_dim))
                .into());
        }
        Ok(rotary_dim)
    }
}

/// One embedding whose kind is to be told.
struct Kind<'a> {
    reader: &'a Reader<'a>,
    label: &'a str,
    keys: Fields<'a>,
    theta: f64,
    rotary_dim: usize,
}

impl Kind<'_> {
    fn scaling(&self) -> Result<RopeScaling> {
        let keys = self.keys;
        let (newer, older) = (keys.text("rope_type")?, keys.text("type")?);
        let phi3 = self.reader.style == Style::Phi3;
        let name = newer.or(older).unwrap_or("default");
        // Phi-3's checkpoints were first published with these names for what became `longrope`.
        let long =
            |name: &str| if phi3 && ["su", "yarn"].contains(&name) { "longrope".to_owned() } else { name.into() };
        if older.is_some_and(|older| long(older) != long(name)) {
            return Err(Fault::new(format!(
                "`{}.rope_type` and `{}.type` contradict each other",
                self.label, self.label
            ))
            .file(keys.path())
            .expected("one of them, or the same in both")
            .got(format!("`{}` and `{}`", name, older.unwrap_or_default()))
            .into());
        }
        match long(name).as_str() {
            "default" => Ok(RopeScaling::Default),
            "longrope" => self.longrope(),
            "linear" if !phi3 => Ok(RopeScaling::Linear { factor: self.required("factor")? }),
            "dynamic" if !phi3 => self.dynamic(),
            "llama3" if !phi3 => self.llama3(),
            "yarn" if !phi3 => self.yarn(),
            _ => Err(Fault::new(format!("rotary embedding type `{name}` is not supported"))
                .file(keys.path())
                .expected(if phi3 { "`default` or `longrope`, the types of this family" } else { SUPPORTED })
                .got(format!("`{}.{}` = \"{name}\"", self.label, if newer.is_some() { "rope_type" } else { "type" }))
                .hint("removing the key would give a different model: this version cannot run it")
                .into()),
        }
    }

    fn dynamic(&self) -> Result<RopeScaling> {
        // The exponent of the stretched base is dim / (dim - 2).
        if self.rotary_dim <= 2 {
            return Err(self.fault("needs heads wider than 2", "a wider head", self.rotary_dim.to_string()).into());
        }
        Ok(RopeScaling::Dynamic {
            factor: self.required("factor")?,
            max_positions: self.reader.config.max_position_embeddings,
        })
    }

    fn llama3(&self) -> Result<RopeScaling> {
        let low_freq_factor = self.required("low_freq_factor")?;
        let high_freq_factor = self.required("high_freq_factor")?;
        if high_freq_factor <= low_freq_factor {
            return Err(self
                .keys
                .wrong("high_freq_factor", format!("a number greater than `low_freq_factor` = {low_freq_factor}"))
                .into());
        }
        Ok(RopeScaling::Llama3 {
            factor: self.required("factor")?,
            low_freq_factor,
            high_freq_factor,
            original_max_positions: self.original_max_positions()?,
        })
    }

    fn yarn(&self) -> Result<RopeScaling> {
        let original_max_positions = self.original_max_positions()?;
        // A factor of null, which DeepSeek's checkpoints have, is the ratio of both lengths.
        let factor = match self.keys.has("factor") && self.keys.get("factor").is_none() {
            true => self.reader.config.max_position_embeddings as f64 / original_max_positions as f64,
            false => self.required("factor")?,
        };
        // The ramp divides by the logarithm of theta.
        if self.theta <= 1.0 {
            return Err(self.fault("needs a larger `rope_theta`", "more than 1", self.theta.to_string()).into());
        }
        let truncate = self.keys.flag("truncate")?.unwrap_or(true);
        if !truncate && self.reader.style == Style::PerLayerType {
            return Err(self
                .keys
                .wrong("truncate", "true, or no such key")
                .hint("transformers 5 looks for the key beside the layer types and would round all the same")
                .into());
        }
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: self.unless_zero("beta_fast")?.unwrap_or(32.0),
            beta_slow: self.unless_zero("beta_slow")?.unwrap_or(1.0),
            original_max_positions,
            attention_factor: match self.keys.positive("attention_factor")? {
                Some(factor) => factor,
                None => self.yarn_attention_factor(factor)?,
            },
            truncate,
        })
    }

    /// Section 3.4 of the paper; DeepSeek's quotient of two such factors if both are given.
    fn yarn_attention_factor(&self, factor: f64) -> Result<f64> {
        let scale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        Ok(match (self.unless_zero("mscale")?, self.unless_zero("mscale_all_dim")?) {
            (Some(mscale), Some(all_dim)) => scale(mscale) / scale(all_dim),
            _ => scale(1.0),
        })
    }

    fn longrope(&self) -> Result<RopeScaling> {
        let original_max_positions = self.original_max_positions()?;
        let ratio = || self.reader.config.max_position_embeddings as f64 / original_max_positions as f64;
        let factor = self.keys.positive("factor")?.unwrap_or_else(ratio);
        let attention_factor = match self.keys.positive("attention_factor")? {
            Some(attention_factor) => attention_factor,
            None if factor <= 1.0 => 1.0,
            None if original_max_positions == 1 => {
                let message = "needs `attention_factor` where the original context is one token";
                return Err(self.fault(message, "`attention_factor`", "none".into()).into());
            }
            None => (1.0 + factor.ln() / (original_max_positions as f64).ln()).sqrt(),
        };
        Ok(RopeScaling::LongRope {
            short_factor: self.factors("short_factor")?,
            long_factor: self.factors("long_factor")?,
            original_max_positions,
            attention_factor,
        })
    }

    /// One divisor per frequency.
    fn factors(&self, key: &str) -> Result<Vec<f64>> {
        let count = self.rotary_dim / 2;
        let Some(list) = self.keys.list(key)? else {
            return Err(self.missing(key, &format!("a list of {count} numbers")).into());
        };
        if list.len() != count {
            let message = format!("`{}.{key}` does not fit the heads", self.label);
            return Err(Fault::new(message)
                .file(self.keys.path())
                .expected(format!("{count} numbers, one per pair of the {} values that are rotated", self.rotary_dim))
                .got(list.len().to_string())
                .into());
        }
        let number = |value: &serde_json::Value| match value.as_f64() {
            Some(number) if number.is_finite() && number > 0.0 => Ok(number),
            _ => Err(Fault::new(format!("`{}.{key}` is not usable", self.label))
                .file(self.keys.path())
                .expected("numbers greater than 0")
                .got(shorten(value))
                .into()),
        };
        list.iter().map(number).collect()
    }

    /// The longest text of the pretraining. transformers lets the key at the top win for families
    /// with one embedding, ignores it for those with several, and has a default for Phi-3; it
    /// falls back to `max_position_embeddings`.
    fn original_max_positions(&self) -> Result<usize> {
        const KEY: &str = "original_max_position_embeddings";
        let inner = self.keys.size(KEY, MAX_POSITIONS)?;
        let outer = self.reader.fields.size(KEY, MAX_POSITIONS)?;
        let fallback = self.reader.config.max_position_embeddings;
        let original = match self.reader.style {
            Style::Shared => outer.or(inner).unwrap_or(fallback),
            Style::PerLayerType => inner.unwrap_or(fallback),
            Style::Phi3 => outer.unwrap_or(4096),
        };
        match [inner, outer].into_iter().flatten().find(|given| *given != original) {
            None => Ok(original),
            Some(given) => Err(Fault::new(format!("`{KEY}` is ambiguous"))
                .file(self.keys.path())
                .expected(match self.reader.style {
                    Style::PerLayerType => format!("{original} at the top, too, or no such key there"),
                    _ => format!("the same at the top and in `{}`", self.label),
                })
                .got(format!("{given}, where transformers takes {original}"))
                .into()),
        }
    }

    fn required(&self, key: &str) -> Result<f64> {
        match self.keys.positive(key)? {
            Some(number) => Ok(number),
            None => Err(self.missing(key, "a number greater than 0").into()),
        }
    }

    /// A number greater than zero; zero counts as absent, as it does in Python's `x or default`.
    fn unless_zero(&self, key: &str) -> Result<Option<f64>> {
        match self.keys.number(key)? {
            Some(0.0) => Ok(None),
            _ => self.keys.positive(key),
        }
    }

    fn missing(&self, key: &str, expected: &str) -> Fault {
        Fault::new(format!("`{}.{key}` is missing", self.label))
            .file(self.keys.path())
            .expected(format!("{expected}, which this type of rotary embedding needs"))
    }

    fn fault(&self, message: &str, expected: &str, got: String) -> Fault {
        Fault::new(format!("`{}` {message}", self.label)).file(self.keys.path()).expected(expected).got(got)
    }
}
