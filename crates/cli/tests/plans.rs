//! Plans: what is recorded of a cut, and the same cut in other tools' words, there and back.

mod common;

use common::{Printed, Workplace};
use serde_json::json;

fn weights(place: &Workplace, model: &str) -> Vec<u8> {
    std::fs::read(place.path(model).join("model.safetensors")).unwrap()
}

#[test]
fn a_cut_records_the_command_and_what_it_changed() {
    let place = Workplace::new(true);
    place.write("model/README.md", "---\nlicense: mit\n---\nA model.\n");
    for file in ["additional_chat_templates/tool.jinja", "original/params.json"] {
        std::fs::create_dir_all(place.model().join(file).parent().unwrap()).unwrap();
        place.write(&format!("model/{file}"), "x");
    }
    let told = place.run(&["prune", "model", "--drop", "1,3", "-o", "a cut", "--force"]).err;
    assert!(told.contains("changed in config.json: num_hidden_layers"), "{told}");
    let command = "lopper --threads 2 prune model --drop 1,3 -o 'a cut' --force";
    let plan = place.read_json("a cut/cut.json");
    assert_eq!(plan["command"], command);
    assert_eq!(plan["dtype"], "F32");
    assert_eq!(plan["config_changes"], json!([{"key": "num_hidden_layers", "before": "5", "after": "3"}]));
    let card = place.read("a cut/README.md");
    assert!(card.starts_with("---\nlicense: mit\n---\nA model.\n\n## Layers removed with Lopper"), "{card}");
    assert!(card.contains(&format!("```sh\n{command}\n```")) && card.contains("AutoModelForCausalLM"), "{card}");
    assert!(card.contains(plan["source"]["hash"].as_str().unwrap()));
    // The path of the machine is nobody's business.
    assert!(!card.contains(place.dir.path().to_str().unwrap()));
    assert_eq!(std::fs::read(place.path("a cut/additional_chat_templates/tool.jinja")).unwrap(), b"x");
    assert!(!place.path("a cut/original").exists());
    let shown = place.run(&["plan", "show", "a cut/cut.json"]).out;
    assert!(shown.contains("removed     1,3") && shown.contains(command), "{shown}");
    assert_eq!(place.json(&["plan", "show", "a cut/cut.json", "--json"]), plan);
}

#[test]
fn the_same_cut_by_every_notation() {
    let place = Workplace::new(false);
    place.run("prune model --drop 0,2-3 -o a");
    let show = |tool: &str| place.run(&["plan", "show", "a/cut.json", "--as", tool]).out;
    assert_eq!(show("layers"), "0,2,3\n");
    assert_eq!(show("llama.cpp"), "0,2,3\n");
    assert_eq!(show("nemo"), "1 3 4\n");
    let mergekit = show("mergekit");
    assert!(mergekit.contains("layer_range: [1, 2]") && mergekit.contains("dtype: float32"), "{mergekit}");
    place.write("cut.yaml", &mergekit);
    place.run("prune model --plan cut.yaml -o b");
    place.run(&["prune", "model", "--drop-one-based", "1 3 4", "-o", "c"]);
    place.run("prune model --drop-one-based 1,3-4 -o d");
    place.run("prune model --drop 0,2,3 --keep-pattern -o e");
    for model in ["b", "c", "d", "e"] {
        assert_eq!(weights(&place, model), weights(&place, "a"), "{model}");
    }
    // Weights are copied, not converted.
    place.write("half.yaml", &mergekit.replace("float32", "float16"));
    assert!(place.run("prune model --plan half.yaml -o f").err.contains("stay F32"));
}

#[test]
fn a_cut_of_a_cut_is_told_in_original_numbers() {
    let place = Workplace::new(false);
    place.run("prune model --drop 1 -o a");
    place.run("prune a --drop 3 -o b");
    let Printed { out: yaml, err } = place.run("plan show b/cut.json --as mergekit");
    assert!(["\"model\"", "[0, 1]", "[2, 3]", "[4, 5]"].iter().all(|part| yaml.contains(part)), "{yaml}");
    assert!(err.contains("from which 1 had been removed before"));
    // Made at once from the original, it is the same model.
    place.write("cut.yaml", &yaml);
    place.run("prune model --plan cut.yaml -o c");
    assert_eq!(weights(&place, "b"), weights(&place, "c"));
    // mergekit counts the layers that are there: position 1 of the cut is the original layer 2.
    place.write("cut.yaml", "merge_method: passthrough\nslices:\n- sources:\n  - {model: a, layer_range: [1, 3]}\n");
    place.run("prune a --plan cut.yaml -o d");
    assert_eq!(place.read_json("d/cut.json")["kept"], json!([2, 3]));
}

#[test]
fn notations_that_do_not_fit_are_faults() {
    let place = Workplace::new(false);
    let slices = |ranges: &str| format!("merge_method: passthrough\nslices:\n{ranges}");
    place.write("beyond.yaml", &slices("- sources:\n  - {model: m, layer_range: [0, 6]}\n"));
    place.write(
        "linear.yaml",
        &slices("- sources:\n  - {model: m, layer_range: [0, 2]}\n").replace("passthrough", "linear"),
    );
    place.write("prose.txt", "drop the middle");
    for (plan, part) in
        [("beyond.yaml", "beyond the model's end"), ("linear.yaml", "passthrough"), ("prose.txt", "not a plan")]
    {
        let message = place.fault(&["prune", "model", "--plan", plan, "-o", "out"]);
        assert!(message.contains(part), "{message}");
    }
    for list in ["0", "6", "1-6", "x", "", "1,,2", "99999999999999999999999"] {
        let message = place.fault(&["prune", "model", "--drop-one-based", list, "-o", "out"]);
        assert!(message.contains("error: "), "{message}");
    }
    assert!(place.fault("prune model --drop-one-based 0 -o out").contains("counted from 1"));
    place.fault("plan show prose.txt");
    place.fault("plan show nowhere.json --as nemo");
}
