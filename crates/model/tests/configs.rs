//! Configurations lowered field by field to what transformers makes of them: the defaults of every
//! family, nulls, and the keys and sizes of published models in the spelling of their time.
//!
//! Numbers come from `fixtures/configs/make.py`, which builds each model without its weights and
//! reads them from its modules; the versions are in `cases.json`.

#[path = "common/frequencies.rs"]
mod frequencies;

use frequencies::Frequencies;
use lopper_model::families::{FAMILIES, parse_config};
use lopper_model::tensors::layer_tensors;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Map<String, Value>,
    resolved: Resolved,
}

#[derive(Deserialize)]
struct Resolved {
    /// The tensors of the first layer, with their shapes.
    tensors: BTreeMap<String, Vec<usize>>,
    /// Of each embedding, for one or more lengths of text; nothing where no layer has it.
    ropes: Vec<Vec<Frequencies>>,
    /// Fields that [`lopper_model::Config`] has under the same name.
    #[serde(flatten)]
    fields: Map<String, Value>,
}

fn cases() -> Vec<Case> {
    lopper_testkit::fixture_json::<Cases>("configs/cases.json").cases
}

/// Equal, numbers up to the rounding to f32 that the decoder's factors undergo.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours.as_f64(), theirs.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-7 * b.abs(),
        _ => ours == theirs,
    }
}

#[test]
fn every_field_is_what_transformers_resolves() {
    for Case { name, config, resolved } in cases() {
        let config = parse_config(&config, Path::new(&name)).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let mut ours = serde_json::to_value(&config).unwrap();
        // As `[window, rope]`.
        ours["layers"] = config.layers.iter().map(|kind| json!([kind.window, kind.rope])).collect();
        assert!(resolved.fields.len() > 15);
        for (field, theirs) in &resolved.fields {
            assert!(same(&ours[field], theirs), "{name}: `{field}` is {}, expected {theirs}", ours[field]);
        }
        let ours: BTreeMap<_, _> = layer_tensors(&config).into_iter().collect();
        assert_eq!(ours, resolved.tensors, "{name}");
        assert_eq!(config.ropes.len(), resolved.ropes.len(), "{name}");
        for (rope, theirs) in config.ropes.iter().zip(&resolved.ropes) {
            theirs.iter().for_each(|frequencies| frequencies.check(&name, rope));
        }
    }
}

#[test]
fn every_family_is_among_the_cases() {
    let cases = cases();
    for family in FAMILIES {
        let of_family = cases.iter().filter(|case| case.config["model_type"] == family.model_type);
        assert!(of_family.count() >= 2, "{}", family.model_type);
    }
}

/// Whatever stands under a key, the result is a configuration or a fault that names the file.
#[test]
fn hostile_values_are_faults() {
    let hostile = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(3),
        json!(0.1),
        json!(1e-320),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("full_attention"),
        json!([]),
        json!([null, -1, "x", {}]),
        Value::from(vec![1; 5000]),
        json!({}),
        json!({"": []}),
    ];
    let check = |config: &Map<String, Value>, context: &str| match parse_config(config, Path::new("config.json")) {
        Ok(config) => {
            assert_eq!(config.layers.len(), config.num_hidden_layers, "{context}");
            let ropes = config.layers.iter().filter_map(|kind| kind.rope);
            assert!(ropes.max().is_none_or(|rope| rope < config.ropes.len()), "{context}");
            for rope in &config.ropes {
                assert!(rope.rotary_dim <= config.head_dim && rope.rotary_dim.is_multiple_of(2), "{context}");
            }
        }
        Err(error) => {
            let fault = error.into_fault().expect(context);
            assert!(fault.file.is_some() && fault.expected.is_some(), "{context}: {fault}");
        }
    };
    for Case { name, config, .. } in cases() {
        for (key, value) in &config {
            for bad in &hostile {
                let mut changed = config.clone();
                changed.insert(key.clone(), bad.clone());
                check(&changed, &format!("{name}: {key} = {bad}"));
                for inner in value.as_object().into_iter().flat_map(|object| object.keys()) {
                    let mut changed = config.clone();
                    changed[key][inner] = bad.clone();
                    check(&changed, &format!("{name}: {key}.{inner} = {bad}"));
                }
            }
        }
    }
}
