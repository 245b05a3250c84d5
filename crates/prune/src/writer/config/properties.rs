//! For any configuration, a cut is either written with the right meaning or refused; never a panic.

use lopper_model::families::FAMILIES;
use proptest::prelude::*;

use super::tests::source;
use super::*;

fn kept(layers: usize, picks: u64) -> Vec<usize> {
    let kept: Vec<usize> = (0..layers).filter(|layer| picks >> layer & 1 == 1).collect();
    if kept.is_empty() { vec![layers - 1] } else { kept }
}

/// A value of any kind that a key could have, among them lists of about the layer count.
fn any_value(layers: usize) -> BoxedStrategy<Value> {
    let types = prop_oneof![Just(json!("full_attention")), Just(json!("sliding_attention"))];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..40).prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no NaN", |x| x.is_finite()).prop_map(Value::from),
        "[a-zLG]{0,5}".prop_map(Value::from),
        prop::collection::vec(types, layers..=layers).prop_map(Value::from),
        prop::collection::vec((0i64..2).prop_map(Value::from), layers..=layers).prop_map(Value::from),
        prop::collection::vec((0i64..9).prop_map(Value::from), 0..layers + 2).prop_map(Value::from),
        Just(json!({"a": [1]})),
    ]
    .boxed()
}

fn any_key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "layer_types",
        "mlp_layer_types",
        "no_rope_layers",
        "no_rope_layer_interval",
        "sliding_window_pattern",
        "_sliding_window_pattern",
        "max_window_layers",
        "use_sliding_window",
        "sliding_window",
        "full_attention_interval",
        "scale_per_layer",
        "house_list",
        "eos_token_id",
        "num_kv_shared_layers",
        "mlp_only_layers",
        "n_layers",
    ])
}

fn any_source() -> impl Strategy<Value = (usize, Map<String, Value>)> {
    (0..FAMILIES.len(), 1usize..20).prop_flat_map(|(family, layers)| {
        let extra = prop::collection::vec((any_key(), any_value(layers)), 0..5);
        extra.prop_map(move |extra| {
            let extra: Map<String, Value> = extra.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            (layers, source(FAMILIES[family].model_type, layers, Value::Object(extra)))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// The rules alone: lists have the right length, counts are right, nothing else moves.
    #[test]
    fn rules_never_panic((layers, json) in any_source(), picks in any::<u64>(), keep in any::<bool>()) {
        let kept = kept(layers, picks);
        let config = Config::plain(layers, 4, 8);
        let originals: Vec<usize> = (0..layers).collect();
        let cut = Cut { config: &config, kept: &kept, originals: &originals, path: Path::new("config.json") };
        let Ok(result) = rewrite(&json, &cut, keep) else { return Ok(()) };
        prop_assert_eq!(&result["num_hidden_layers"], &json!(kept.len()));
        for key in ["layer_types", "mlp_layer_types", "no_rope_layers", "scale_per_layer"] {
            if let Some(list) = result.get(key).and_then(Value::as_array) {
                prop_assert_eq!(list.len(), kept.len(), "{}", key);
            }
        }
        for key in ["vocab_size", "eos_token_id", "use_sliding_window", "sliding_window", "model_type"] {
            if !json.get(key).is_some_and(Value::is_array) || key == "eos_token_id" {
                prop_assert_eq!(result.get(key), json.get(key));
            }
        }
        readers::warnings(&result, &config.keep(&kept.clone().into()));
    }

    /// Everything that is read is cut to what was meant: the proof inside `edit` never fails.
    #[test]
    fn what_is_read_is_cut_rightly((layers, json) in any_source(), picks in any::<u64>()) {
        let path = Path::new("config.json");
        let Ok(config) = parse_config(&json, path) else { return Ok(()) };
        let kept = kept(layers, picks);
        let originals: Vec<usize> = (0..layers).collect();
        let cut = Cut { config: &config, kept: &kept, originals: &originals, path };
        match edit(&json, &cut, false) {
            Ok(result) => {
                // A second cut of the result is a cut of the source, too.
                let again = Cut { config: &config.keep(&kept.clone().into()), kept: &[0], originals: &kept, path };
                if let Ok(once_more) = edit(&result, &again, false) {
                    prop_assert_eq!(parse_config(&once_more, path).unwrap(), config.keep(&[kept[0]].into()));
                }
            }
            Err(error) => {
                let fault = error.fault();
                prop_assert!(fault.is_some(), "{}\n{}", error, Value::Object(json));
            }
        }
    }
}
