//! Fields that give the kinds of layers by a period or by the first layer of a kind, family by
//! family as transformers 5.24 reads them (`configuration_*.py`).
//!
//! | family | list it reads | without the list |
//! |---|---|---|
//! | `gemma2` | `layer_types` | every 2nd layer sees everything |
//! | `gemma3_text` | `layer_types` | every `sliding_window_pattern`-th (6th) does |
//! | `olmo3` | `layer_types` | every 4th does |
//! | `smollm3` | `no_rope_layers` (1: rotated) | every `no_rope_layer_interval`-th (4th) is not rotated |
//! | `qwen2`, `qwen3` | `layer_types` | with `use_sliding_window`, layers from `max_window_layers` (28) on have a window |
//!
//! Where the cut leaves the rule true, nothing changes. Where it does not, the list is written out;
//! a period that is spelt out is changed to one that expresses the same, or removed where none
//! does, so that no field contradicts the list.

use lopper_record::{Fault, Result};
use serde_json::{Map, Value, json};

use super::Cut;
use super::pattern;

/// A family whose layers of one kind come at every `period`-th place.
pub(super) struct Periodic {
    pub model_type: &'static str,
    /// The list that the family reads first.
    pub list: &'static str,
    /// Spellings of the period; the first is what the family reads.
    keys: &'static [&'static str],
    /// The period where no key gives one.
    pub default_period: usize,
    /// The list's entry for the layer at the end of each period, and for the others.
    marked: fn() -> Value,
    plain: fn() -> Value,
}

fn full() -> Value {
    json!("full_attention")
}

fn sliding() -> Value {
    json!("sliding_attention")
}

pub(super) const PERIODIC: [Periodic; 4] = [
    Periodic { model_type: "gemma2", list: "layer_types", keys: &[], default_period: 2, marked: full, plain: sliding },
    Periodic {
        model_type: "gemma3_text",
        list: "layer_types",
        // The second is what transformers 4.53 and later write in addition to the list.
        keys: &["sliding_window_pattern", "_sliding_window_pattern"],
        default_period: 6,
        marked: full,
        plain: sliding,
    },
    Periodic { model_type: "olmo3", list: "layer_types", keys: &[], default_period: 4, marked: full, plain: sliding },
    Periodic {
        model_type: "smollm3",
        list: "no_rope_layers",
        keys: &["no_rope_layer_interval"],
        default_period: 4,
        marked: || json!(0),
        plain: || json!(1),
    },
];

/// Families whose last layers have windows, from `max_window_layers` on.
const PREFIXED: [&str; 2] = ["qwen2", "qwen3"];
const FIRST_WINDOW: &str = "max_window_layers";
/// transformers' default of `max_window_layers`.
const DEFAULT_FIRST_WINDOW: usize = 28;

/// Periods by any name; where a family is not known to read one, only cuts that leave it true are
/// written.
const PERIODS: [&str; 8] = [
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "no_rope_layer_interval",
    "full_attention_interval",
    "global_attn_every_n_layers",
    "attn_layer_period",
    "expert_layer_period",
    "interleave_moe_layer_step",
];

/// Adapts periods and first layers in `json`, whose lists are cut already, to `cut`.
pub(super) fn respace(source: &Map<String, Value>, json: &mut Map<String, Value>, cut: &Cut<'_>) -> Result<()> {
    let family = source.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let rule = PERIODIC.iter().find(|rule| rule.model_type == family);
    refuse_unknown_periods(source, rule, cut)?;
    if let Some(rule) = rule {
        rule.respace(source, json, cut);
    }
    move_first_window(source, json, PREFIXED.contains(&family), cut);
    Ok(())
}

impl Periodic {
    /// The list for `layers` layers by the period alone.
    pub fn by_period(&self, period: usize, layers: usize) -> Vec<Value> {
        let entry = |layer: usize| if (layer + 1).is_multiple_of(period) { (self.marked)() } else { (self.plain)() };
        (0..layers).map(entry).collect()
    }

    /// The period that `json` gives.
    fn period(&self, json: &Map<String, Value>) -> usize {
        let given = self.keys.first().and_then(|key| json.get(*key)).and_then(Value::as_u64);
        given.and_then(|period| usize::try_from(period).ok()).filter(|p| *p > 0).unwrap_or(self.default_period)
    }

    /// The kinds of `layers` layers as the family reads them from `json`.
    pub fn kinds(&self, json: &Map<String, Value>, layers: usize) -> Vec<Value> {
        match json.get(self.list).and_then(Value::as_array) {
            Some(list) => list.clone(),
            None => self.by_period(self.period(json), layers),
        }
    }

    fn respace(&self, source: &Map<String, Value>, json: &mut Map<String, Value>, cut: &Cut<'_>) {
        let before = self.kinds(source, cut.config.num_hidden_layers);
        let wanted: Vec<Value> = cut.kept.iter().filter_map(|layer| before.get(*layer).cloned()).collect();
        let layers = wanted.len();
        if self.by_period(self.period(json), layers) != wanted && !json.get(self.list).is_some_and(Value::is_array) {
            json.insert(self.list.to_owned(), Value::Array(wanted.clone()));
        }
        for key in self.keys {
            let Some(given) = json.get(*key).filter(|value| !value.is_null()) else { continue };
            let fits = |period: &usize| self.by_period(*period, layers) == wanted;
            if given.as_u64().and_then(|given| usize::try_from(given).ok()).filter(|p| *p > 0).is_some_and(|p| fits(&p))
            {
                continue;
            }
            // One more than there are layers: none is marked.
            match (1..=layers + 1).find(fits) {
                Some(period) => json.insert((*key).to_owned(), json!(period)),
                // Without disturbing the order of the other keys.
                None => json.shift_remove(*key),
            };
        }
    }
}

/// Windows begin at this layer: the kept layers before it are counted, since they stay in order.
fn move_first_window(source: &Map<String, Value>, json: &mut Map<String, Value>, read: bool, cut: &Cut<'_>) {
    let before = |first: f64| cut.kept.iter().filter(|layer| (**layer as f64) < first).count();
    if let Some(first) = source.get(FIRST_WINDOW).and_then(Value::as_f64) {
        json.insert(FIRST_WINDOW.to_owned(), json!(before(first)));
        return;
    }
    // The default is a layer too. It matters only where windows are in use and no list gives their layers.
    let used = source.get("use_sliding_window").and_then(Value::as_bool).unwrap_or(false);
    let listed = source.get("layer_types").is_some_and(Value::is_array);
    if read && used && !listed && source.get(FIRST_WINDOW).is_none_or(Value::is_null) {
        let first = before(DEFAULT_FIRST_WINDOW as f64);
        if first != cut.kept.len().min(DEFAULT_FIRST_WINDOW) {
            json.insert(FIRST_WINDOW.to_owned(), json!(first));
        }
    }
}

/// A period that the family is not known to read stays as it is, so the cut must leave it true.
fn refuse_unknown_periods(source: &Map<String, Value>, rule: Option<&Periodic>, cut: &Cut<'_>) -> Result<()> {
    for key in PERIODS {
        if rule.is_some_and(|rule| rule.keys.contains(&key)) {
            continue;
        }
        let period = match source.get(key) {
            // Some families write the period out: `LLLG`.
            Some(Value::String(text)) => text.chars().count(),
            Some(value) => value.as_u64().and_then(|period| usize::try_from(period).ok()).unwrap_or(0),
            None => continue,
        };
        if period < 2 {
            continue;
        }
        let places: Vec<usize> = (0..cut.config.num_hidden_layers).map(|layer| layer % period).collect();
        if let Some(broken) = pattern::first_broken(&places, cut.kept) {
            let (at, layer) = broken;
            return Err(Fault::new(format!("the cut breaks `{key}`, which this family is not known to list by layer"))
                .file(cut.path)
                .expected(format!("whole periods of {period} layers removed, as with --keep-pattern"))
                .got(format!("layer {} would be at position {at}", cut.originals[layer]))
                .hint(pattern::suggestion(&places, cut))
                .into());
        }
    }
    Ok(())
}
