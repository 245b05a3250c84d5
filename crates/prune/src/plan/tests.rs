//! Plans in other tools' notations and back, and the mergekit configurations that are refused.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;

pub(super) fn plan(layers: usize, dropped: impl Into<LayerSet>) -> Plan {
    let dropped = dropped.into();
    Plan {
        format: PLAN_FORMAT,
        lopper_version: "0".into(),
        layer_numbering: LAYER_NUMBERING.into(),
        source: ModelId { id: "org/model".into(), hash: "0".into(), num_hidden_layers: layers },
        original: None,
        kept: dropped.complement(layers),
        dropped,
        choice: Choice::given(),
        command: None,
        dtype: Some("BF16".into()),
        config_changes: Vec::new(),
        compensation: None,
        merged_adapter: None,
        verification: None,
    }
}

fn parse(text: &str) -> Result<Option<MergekitCut>> {
    MergekitCut::parse(text.as_bytes(), Path::new("cut.yaml"))
}

fn fault(text: &str) -> Fault {
    match parse(text) {
        Ok(cut) => panic!("no fault: {cut:?}\n{text}"),
        Err(error) => error.into_fault().unwrap(),
    }
}

#[test]
fn every_tool_counts_its_own_way() {
    let plan = plan(12, [0, 7, 8, 9]);
    assert_eq!(plan.export(PlanFormat::Layers), "0,7-9");
    assert_eq!(plan.export(PlanFormat::LlamaCpp), "0,7,8,9");
    assert_eq!(plan.export(PlanFormat::Nemo), "1 8 9 10");
    let mergekit = "merge_method: passthrough\nslices:\n  - sources:\n      - model: \"org/model\"\n        layer_range: [1, 7]\n  - sources:\n      - model: \"org/model\"\n        layer_range: [10, 12]\ndtype: bfloat16";
    assert_eq!(plan.export(PlanFormat::Mergekit), mergekit);
}

#[test]
fn mergekit_is_read_as_people_write_it() {
    let text = "# half\nslices:\n- sources:\n  - {model: ./a b, layer_range: [0, 2]}\n- sources:\n  - model: ./a b\n    layer_range:\n      - 5\n      - 6\nmerge_method: passthrough\ndtype: float16\ntokenizer_source: base\n";
    let cut = parse(text).unwrap().unwrap();
    assert_eq!(cut, MergekitCut { model: "./a b".into(), dtype: Some("float16".into()), kept: [0, 1, 5].into() });
    // JSON is YAML too.
    let json = json!({"merge_method": "passthrough",
        "slices": [{"sources": [{"model": "m", "layer_range": [2, 4]}]}]});
    assert_eq!(parse(&json.to_string()).unwrap().unwrap().kept, LayerSet::from([2, 3]));
    // Not mergekit's: left to others to judge.
    for text in ["{\"kept\": 3}", "{\"kept\": ", "", "prose", "- 1\n- 2", "a: 1"] {
        assert_eq!(parse(text).unwrap(), None, "{text}");
    }
}

#[test]
fn what_would_make_other_weights_is_refused() {
    let slice = |model: &str, first: i64, end: i64| {
        format!("- sources:\n  - model: {model}\n    layer_range: [{first}, {end}]\n")
    };
    let with = |slices: &str, rest: &str| format!("merge_method: passthrough\nslices:\n{slices}{rest}");
    let good = slice("m", 0, 2);
    let cases = [
        (with(&(good.clone() + &slice("other", 3, 4)), ""), "`m` and `other`"),
        (with(&(good.clone() + &slice("m", 1, 4)), ""), "repeat"),
        (with(&(slice("m", 3, 4) + &good), ""), "out of order"),
        (with(&slice("m+adapter", 0, 2), ""), "with an adapter"),
        (with(&slice("m", 2, 2), ""), "not one source"),
        (with(&slice("m", -1, 2), ""), "not one source"),
        (with(&slice("m", 0, 99_999_999_999), ""), "so many layers"),
        (with(&format!("{good}  parameters: {{scale: 0.5}}\n"), ""), "not one source"),
        (with("- sources:\n  - {model: m, layer_range: [0, 2], parameters: {scale: 2}}\n", ""), "not one source"),
        (with("- sources: [{model: m, layer_range: [0, 2]}, {model: n, layer_range: [0, 2]}]\n", ""), "not one source"),
        (with(&good, "parameters: {scale: 0.5}\n"), "`parameters`"),
        (with(&good, "dtype: 3\n"), "dtype"),
        (format!("merge_method: linear\nslices:\n{good}"), "passthrough"),
        (format!("slices:\n{good}"), "passthrough"),
        ("merge_method: passthrough\n".into(), "no slices"),
        ("merge_method: passthrough\nslices: []\n".into(), "no slices"),
        ("slices: [\n".into(), "YAML"),
        ("slices: &a [*a, *a]\nmerge_method: passthrough".into(), ""),
    ];
    for (text, part) in cases {
        let fault = fault(&text);
        assert!(fault.message.contains(part), "{text}\n{fault}");
        assert!(fault.file.is_some() && fault.hint.is_some());
    }
}

#[test]
fn older_files_are_read_and_new_keys_survive() {
    let plain = plan(4, [1]);
    let text = plain.to_json().unwrap();
    for key in ["command", "config_changes", "verification"] {
        assert!(!text.contains(key), "{text}");
    }
    let full = Plan {
        command: Some("lopper prune m --drop 1 -o out".into()),
        config_changes: vec![ConfigChange {
            key: "num_hidden_layers".into(),
            before: Some("4".into()),
            after: Some("3".into()),
        }],
        verification: Some(Verification {
            max_logit_difference: 1e-6,
            tokens: 64,
            compared_with: "the source without those layers".into(),
            tolerance: 1e-4,
        }),
        ..plain
    };
    let path = Path::new("cut.json");
    assert_eq!(Plan::parse(full.to_json().unwrap().as_bytes(), path).unwrap(), full);
}

#[test]
fn a_mergekit_file_is_of_the_model_that_it_names() {
    let cut = |model: &str| {
        let text =
            format!("merge_method: passthrough\nslices: [{{sources: [{{model: {model}, layer_range: [0, 2]}}]}}]");
        parse(&text).unwrap().unwrap()
    };
    for (model, name, same) in [
        ("org/model", "org/model", true),
        ("org/model", "/data/models/model/", true),
        ("../model", "org/model@0123abc", true),
        ("org/model@main", "model", true),
        ("org/model", "org/other", false),
        ("org/model", "org", false),
        ("/", "model", false),
        ("\"@\"", "/", false),
    ] {
        assert_eq!(cut(model).is_of(&["nothing".to_owned(), name.to_owned()]), same, "{model} {name}");
    }
}

proptest! {
    #[test]
    fn mergekit_and_back(layers in 1usize..60, picks in any::<u64>(), name in "[ -*,-~]{1,20}") {
        let dropped: Vec<usize> = (0..layers).filter(|layer| picks >> layer & 1 == 1).collect();
        prop_assume!(dropped.len() < layers);
        let mut plan = plan(layers, dropped);
        plan.source.id = name.clone();
        let cut = parse(&plan.export(PlanFormat::Mergekit)).unwrap().unwrap();
        prop_assert_eq!(Vec::from(cut.kept), Vec::from(plan.kept));
        prop_assert_eq!(cut.model, name);
    }

    #[test]
    fn any_text_is_a_cut_or_a_fault(text in "(merge_method: passthrough\n)?(slices:\n)?[-:{}\\[\\], a-z0-9&*\n]{0,80}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.fault().is_some());
        }
    }
}
