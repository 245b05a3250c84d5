//! Plans: what is recorded of a cut, and the same cut in other tools' words, there and back.

mod common;

use common::{Workplace, lopper};
use serde_json::{Value, json};

fn text(place: &Workplace, arguments: &[&str]) -> String {
    let output = lopper().current_dir(place.dir.path()).args(arguments).assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

fn prune(place: &Workplace, arguments: &[&str]) -> String {
    let output =
        lopper().current_dir(place.dir.path()).arg("prune").args(arguments).assert().success().get_output().clone();
    String::from_utf8(output.stderr).unwrap()
}

fn weights(place: &Workplace, model: &str) -> Vec<u8> {
    std::fs::read(place.path(model).join("model.safetensors")).unwrap()
}

#[test]
fn a_cut_records_the_command_and_what_it_changed() {
    let place = Workplace::new(true);
    std::fs::write(place.model().join("README.md"), "---\nlicense: mit\n---\nA model.\n").unwrap();
    std::fs::create_dir_all(place.model().join("additional_chat_templates")).unwrap();
    std::fs::write(place.model().join("additional_chat_templates/tool.jinja"), "x").unwrap();
    std::fs::create_dir_all(place.model().join("original")).unwrap();
    std::fs::write(place.model().join("original/params.json"), "x").unwrap();
    let told = prune(&place, &["model", "--drop", "1,3", "-o", "a cut", "--force"]);
    assert!(told.contains("changed in config.json: num_hidden_layers"), "{told}");
    let command = "lopper --threads 2 prune model --drop 1,3 -o 'a cut' --force";
    let plan: Value = serde_json::from_slice(&std::fs::read(place.path("a cut/cut.json")).unwrap()).unwrap();
    assert_eq!(plan["command"], command);
    assert_eq!(plan["dtype"], "F32");
    assert_eq!(plan["config_changes"], json!([{"key": "num_hidden_layers", "before": "5", "after": "3"}]));
    let card = std::fs::read_to_string(place.path("a cut/README.md")).unwrap();
    assert!(card.starts_with("---\nlicense: mit\n---\nA model.\n\n## Layers removed with Lopper"), "{card}");
    assert!(card.contains(&format!("```sh\n{command}\n```")) && card.contains("AutoModelForCausalLM"), "{card}");
    assert!(card.contains(plan["source"]["hash"].as_str().unwrap()));
    // The path of the machine is nobody's business.
    assert!(!card.contains(place.dir.path().to_str().unwrap()));
    assert_eq!(std::fs::read(place.path("a cut/additional_chat_templates/tool.jinja")).unwrap(), b"x");
    assert!(!place.path("a cut/original").exists());
    let shown = text(&place, &["plan", "show", "a cut/cut.json"]);
    assert!(shown.contains("removed     1,3") && shown.contains(command), "{shown}");
    assert_eq!(place.json(&["plan", "show", "a cut/cut.json", "--json"]), plan);
}

#[test]
fn the_same_cut_by_every_notation() {
    let place = Workplace::new(false);
    prune(&place, &["model", "--drop", "0,2-3", "-o", "a"]);
    let show = |tool: &str| text(&place, &["plan", "show", "a/cut.json", "--as", tool]);
    assert_eq!(show("layers"), "0,2,3\n");
    assert_eq!(show("llama.cpp"), "0,2,3\n");
    assert_eq!(show("nemo"), "1 3 4\n");
    let mergekit = show("mergekit");
    assert!(mergekit.contains("layer_range: [1, 2]") && mergekit.contains("dtype: float32"), "{mergekit}");
    place.write("cut.yaml", &mergekit);
    prune(&place, &["model", "--plan", "cut.yaml", "-o", "b"]);
    prune(&place, &["model", "--drop-one-based", "1 3 4", "-o", "c"]);
    prune(&place, &["model", "--drop-one-based", "1,3-4", "-o", "d"]);
    prune(&place, &["model", "--drop", "0,2,3", "--keep-pattern", "-o", "e"]);
    for model in ["b", "c", "d", "e"] {
        assert_eq!(weights(&place, model), weights(&place, "a"), "{model}");
    }
    // Weights are copied, not converted.
    place.write("half.yaml", &mergekit.replace("float32", "float16"));
    assert!(prune(&place, &["model", "--plan", "half.yaml", "-o", "f"]).contains("stay F32"));
}

#[test]
fn a_cut_of_a_cut_is_told_in_original_numbers() {
    let place = Workplace::new(false);
    prune(&place, &["model", "--drop", "1", "-o", "a"]);
    prune(&place, &["a", "--drop", "3", "-o", "b"]);
    let output = lopper()
        .current_dir(place.dir.path())
        .args(["plan", "show", "b/cut.json", "--as", "mergekit"])
        .assert()
        .success()
        .get_output()
        .clone();
    let yaml = String::from_utf8(output.stdout).unwrap();
    assert!(
        yaml.contains("\"model\"") && yaml.contains("[0, 1]") && yaml.contains("[2, 3]") && yaml.contains("[4, 5]")
    );
    assert!(String::from_utf8(output.stderr).unwrap().contains("from which 1 had been removed before"));
    // Made at once from the original, it is the same model.
    place.write("cut.yaml", &yaml);
    prune(&place, &["model", "--plan", "cut.yaml", "-o", "c"]);
    assert_eq!(weights(&place, "b"), weights(&place, "c"));
    // mergekit counts the layers that are there: position 1 of the cut is the original layer 2.
    place.write("cut.yaml", "merge_method: passthrough\nslices:\n- sources:\n  - {model: a, layer_range: [1, 3]}\n");
    prune(&place, &["a", "--plan", "cut.yaml", "-o", "d"]);
    let plan: Value = serde_json::from_slice(&std::fs::read(place.path("d/cut.json")).unwrap()).unwrap();
    assert_eq!(plan["kept"], json!([2, 3]));
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
    assert!(place.fault(&["prune", "model", "--drop-one-based", "0", "-o", "out"]).contains("counted from 1"));
    place.fault(&["plan", "show", "prose.txt"]);
    place.fault(&["plan", "show", "nowhere.json", "--as", "nemo"]);
}
