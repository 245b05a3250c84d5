//! Study files: what is read, what is printed, and what is refused before anything is computed.

use lopper_record::study::ModelCard;
use lopper_record::{Fault, LayerNumbering};
use lopper_study::{AnswerSampling, GivenCut, Objective, Recipe, RecipeSource, Shots, StrategyEntry};

fn read(text: &str) -> lopper_record::Result<Recipe> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("study.toml");
    std::fs::write(&path, text).unwrap();
    Recipe::read(&path)
}

/// The fault of a study file, whose hint is never missing.
fn fault(text: &str) -> Fault {
    let error = read(text).map(|_| format!("`{text}` is accepted")).unwrap_err();
    let fault = error.into_fault().unwrap();
    assert!(fault.hint.is_some(), "{fault}");
    assert!(fault.file.as_ref().is_some_and(|file| file.ends_with("study.toml")), "{fault}");
    fault
}

#[test]
fn an_empty_file_is_the_pocket_study() {
    assert_eq!(read("").unwrap(), Recipe::default());
    let recipe = read("seed = 7\n[items]\nreport = 30\n[heal.recipe]\nlearning_rate = 1e-3\n").unwrap();
    assert_eq!((recipe.seed, recipe.items.report, recipe.items.select), (7, 30, Recipe::default().items.select));
    assert_eq!(recipe.heal.recipe.learning_rate, 1e-3);
    recipe.check_model(&LayerNumbering::uncut(12)).unwrap();
}

#[test]
fn what_is_printed_is_read_back() {
    let mut recipe = Recipe::default();
    assert_eq!(read(&recipe.to_toml().unwrap()).unwrap(), recipe);
    recipe.seed = 9;
    recipe.heal.depths.clear();
    recipe.heal.recipe.method = lopper_heal::Method::Full;
    recipe.cuts.main = "bi".into();
    recipe.budget.thresholds = vec![0.95, 0.123_456_789];
    let plan = GivenCut { plan: Some("found/cut.json".into()), ..GivenCut::default() };
    let drop = GivenCut { drop: Some("3-5".into()), name: Some("mine".into()), ..GivenCut::default() };
    recipe.cuts.strategies = vec!["greedy".into(), "bi".into(), StrategyEntry::Given(plan), StrategyEntry::Given(drop)];
    recipe.cuts.objective = Objective::Several(vec!["pocket_word".into(), "classification".into()]);
    recipe.rows.shots = Shots::Each([("pocket_word".to_owned(), 0)].into());
    recipe.sampling = AnswerSampling { temperature: 0.9, top_k: 50, seed: Some(3), ..AnswerSampling::default() };
    assert_eq!(read(&recipe.to_toml().unwrap()).unwrap(), recipe);
    // Tables alone are written as tables.
    let mut tables = recipe.clone();
    tables.cuts.strategies.drain(..2);
    tables.cuts.main = "mine".into();
    assert_eq!(read(&tables.to_toml().unwrap()).unwrap(), tables);
    assert_eq!(read(&recipe.to_toml().unwrap()).unwrap(), recipe);
    // Every key with its value, also those that have a default.
    for key in ["model", "report", "strategies", "learning_rate", "target_modules", "thresholds"] {
        assert!(recipe.to_toml().unwrap().contains(&format!("{key} = ")), "{key}");
    }
}

#[test]
fn a_misspelt_key_is_named() {
    for (text, key) in [
        ("modle = \"pocket\"", "modle"),
        ("[item]\nreport = 5", "item"),
        ("[items]\nreprot = 5", "reprot"),
        ("[tasks]\ngenerativ = []", "generativ"),
        ("[cuts]\nstrategys = []", "strategys"),
        ("[heal]\ndephts = [1]", "dephts"),
        ("[heal.recipe]\nlearning_rat = 1e-3", "learning_rat"),
        ("[heal.recipe.lora]\nrank = 8", "rank"),
        ("[budget]\nthreshold = [0.9]", "threshold"),
    ] {
        let fault = fault(text);
        assert!(fault.got.as_ref().unwrap().contains(&format!("unknown field `{key}`")), "{fault}");
        assert!(fault.hint.as_ref().unwrap().contains("--print-recipe"), "{fault}");
    }
    // What a key may hold is said where it holds something else.
    for (text, says) in [
        ("[cuts]\nstrategies = [7]", "a strategy is a name"),
        ("[cuts]\nstrategies = [{ plans = \"a\" }]", "a strategy is a name"),
        ("[cuts]\nobjective = 7", "a list of tasks"),
        ("[rows]\nshots = \"many\"", "a number, \"own\""),
    ] {
        assert!(fault(text).got.unwrap().contains(says), "{text}: {}", fault(text));
    }
    assert!(fault("seed = \"x\"").got.unwrap().contains("seed"));
    fault("seed = ");
    fault("seed = -1");
}

#[test]
fn values_without_sense_are_refused() {
    for (text, word) in [
        ("[items]\nreport = 1", "items.report"),
        ("[items]\nselect = 0", "items.select"),
        ("[items]\ncalibration = 0", "items.calibration"),
        ("[items]\nreport = 99999999999", "items.report"),
        ("[heal]\nprompts = 0", "heal.prompts"),
        ("[heal]\nprompts = 999999999999", "heal.prompts"),
        ("[cuts]\ndepths = [0, 2]\n[heal]\ndepths = []", "cuts.depths"),
        ("[cuts]\ndepths = [3, 2]\n[heal]\ndepths = []", "cuts.depths"),
        ("[cuts]\ndepths = [2, 2]\n[heal]\ndepths = []", "cuts.depths"),
        ("[heal]\ndepths = [4, 3]", "heal.depths"),
        ("[cuts]\ndepths = [1, 3]\n[heal]\ndepths = [2]", "heal.depths"),
        ("[cuts]\ndepths = []\n[heal]\ndepths = []", "cuts nothing"),
        ("[cuts]\nstrategies = []", "cuts nothing"),
        ("[cuts]\nstrategies = [\"magic\"]", "magic"),
        ("[cuts]\nstrategies = [\"bi\", \"reverse\", \"bi\"]", "twice"),
        ("[cuts]\nstrategies = [\"bi\"]\nmain = \"reverse\"", "cuts.main"),
        ("[cuts]\nstrategies = [{ plan = \"a.json\", drop = \"1\" }]", "gives no cut, or two"),
        ("[cuts]\nstrategies = [{ name = \"mine\" }]", "gives no cut, or two"),
        ("[cuts]\nstrategies = [{ drop = \"1\", name = \"auto\" }]", "cannot have this name"),
        ("[cuts]\nstrategies = [{ drop = \"1\" }, { drop = \"2\" }]", "twice"),
        ("[cuts]\nrandom = 0", "cuts.random"),
        ("[cuts]\nstrategies = [\"bi\"]\nrandom = 2", "cuts.random"),
        ("[cuts]\nobjective = \"gsm8k\"", "cuts.objective"),
        ("[cuts]\nobjective = []", "cuts.objective"),
        ("[tasks]\ngenerative = []\n[cuts]\nobjective = \"generative\"", "cuts.objective"),
        ("[rows]\nshots = { gsm8k = 5 }", "rows.shots"),
        ("[sampling]\ntemperature = -1.0", "temperature"),
        ("[sampling]\ntemperature = 1.0\ntop_p = 0.0", "top_p"),
        ("[sampling]\nsamples = 0", "sampling.samples"),
        ("[sampling]\nsamples = 4", "sampling.samples"),
        ("[sampling]\ntemperature = 0.9\nsamples = 4", "one answer"),
        ("[budget]\nthresholds = [0.0]", "budget.thresholds"),
        ("[budget]\nthresholds = [0.9, 1.1]", "budget.thresholds"),
        ("[budget]\nthresholds = [nan]", "budget.thresholds"),
        ("[tasks]\ngenerative = [\"arc_easy\"]", "arc_easy"),
        ("[tasks]\nclassification = [\"arc_easy\", \"ai2_arc\"]", "twice"),
        ("[heal]\ndata = \"\"", "heal.data"),
        ("[heal]\nsplit = \"train\"", "heal.split"),
        ("[heal]\ndata = \"own.jsonl\"\nanswer_column = \"a\"", "heal.answer_column"),
        ("[heal]\nseeds = 0", "heal.seeds"),
        ("[heal]\nseeds = [1, 1]", "heal.seeds"),
        ("[tasks]\nclassification = [\"pocket_word\"]", "pocket_word"),
        ("[tasks]\ngenerative = [\"pocket_word\", \"pocket_word\"]", "twice"),
        ("[tasks]\ngenerative = []\nclassification = []", "no task"),
        ("[heal]\ntemperature = 0.0", "temperature"),
        ("[heal]\ntop_p = 1.5", "top_p"),
        ("[heal.recipe]\nlearning_rate = -1.0", "learning rate"),
        ("[heal.recipe]\nmethod = \"full\"\nload_in_4bit = true", "4 bits"),
        ("[heal.recipe.lora]\ntarget_modules = [\"lm_head\"]", "target"),
    ] {
        let fault = fault(text);
        assert!(fault.message.contains(word), "{text}: {fault}");
        assert!(fault.expected.is_some() && fault.got.is_some(), "{fault}");
    }
    // What is not used cannot be wrong.
    read("[heal]\ndepths = []\ntemperature = 0.0").unwrap();
}

#[test]
fn a_model_in_use_is_healed_on_general_instructions_unless_the_file_says_otherwise() {
    let data = |text: &str, card: &ModelCard| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let source = RecipeSource { file: Some(file.path().to_owned()), ..RecipeSource::default() };
        source.read(Some(card)).unwrap().heal.data
    };
    let real = &ModelCard { parameters: 135_000_000, num_layers: 30, ..ModelCard::default() };
    assert_eq!(data("model = \"own\"", real), lopper_study::GENERAL_INSTRUCTIONS);
    assert_eq!(data("model = \"own\"\n[heal]\nprompts = 50", real), lopper_study::GENERAL_INSTRUCTIONS);
    assert_eq!(data("model = \"own\"\n[heal]\ndata = \"tasks\"", real), "tasks");
    assert_eq!(data("model = \"own\"\nheal.data = \"mine.jsonl\"", real), "mine.jsonl");
    assert_eq!(data("model = \"own\"\n[heal]\ndepths = []", real), "tasks", "nothing is healed, so nothing is fetched");
    assert_eq!(data("seed = 1", real), "tasks", "the pocket model knows nothing but its tasks");
}

#[test]
fn a_model_must_allow_the_cuts() {
    let fault = |recipe: &Recipe, layers: usize| {
        let fault = recipe.check_model(&LayerNumbering::uncut(layers)).unwrap_err().into_fault().unwrap();
        assert!(fault.expected.is_some() && fault.got.is_some() && fault.hint.is_some(), "{fault}");
        fault
    };
    let recipe = Recipe::default();
    let deepest = *recipe.cuts.depths.last().unwrap();
    recipe.check_model(&LayerNumbering::uncut(deepest + 1)).unwrap();
    assert!(fault(&recipe, deepest).message.contains("cannot be cut"));
    let mut kept = recipe.clone();
    kept.cuts.keep = [0, 12].into();
    assert!(fault(&kept, 12).message.contains("cuts.keep"));
    kept.cuts.keep = [0, 1].into();
    assert!(fault(&kept, deepest + 1).message.contains("ablation"));
    kept.check_model(&LayerNumbering::uncut(deepest + 2)).unwrap();
    // The last two layers that stay cannot be among those that go.
    let mut reverse = recipe;
    reverse.cuts.strategies = vec!["reverse-keep-2".into()];
    fault(&reverse, deepest + 1);
    reverse.check_model(&LayerNumbering::uncut(deepest + 2)).unwrap();
}

#[test]
fn a_file_that_is_not_there_is_a_fault() {
    let error = Recipe::read(std::path::Path::new("nowhere/study.toml")).unwrap_err();
    assert!(error.into_fault().unwrap().hint.is_some());
    let dir = tempfile::tempdir().unwrap();
    assert!(Recipe::read(dir.path()).unwrap_err().into_fault().is_ok());
    fault(&format!("# {}\n", "x".repeat(2 << 20)));
}
