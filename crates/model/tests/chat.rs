//! Chat templates against transformers (fixtures/chat/make.py), and templates that mean harm.

use std::path::Path;

use lopper_model::chat::{ChatTemplate, Conversation, Message, SystemRole};
use lopper_model::checkpoint::Checkpoint;
use lopper_model::generation::SpecialStrings;
use lopper_model::tokenizer::Tokenizer;
use lopper_record::Result;
use serde_json::{Map, Value, json};

fn specials(tokens: &Value) -> SpecialStrings {
    let mut specials = SpecialStrings::default();
    for (name, token) in tokens.as_object().unwrap() {
        specials.set(name, token.as_str().unwrap());
    }
    specials
}

fn template(source: &str) -> Result<ChatTemplate> {
    ChatTemplate::new(source, SpecialStrings::default(), Path::new("chat_template.jinja"))
}

fn render(source: &str) -> Result<String> {
    template(source)?.render(&[Message::user("hi")], true)
}

#[test]
fn renders_what_transformers_renders() {
    let document: Value = lopper_testkit::fixture_json("chat/cases.json");
    let specials = specials(&document["special_tokens"]);
    let cases = document["cases"].as_array().unwrap();
    assert!(cases.len() > 50);
    let mut failures = Vec::new();
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let source = document["templates"][name].as_str().unwrap();
        let template = ChatTemplate::new(source, specials.clone(), Path::new(name)).unwrap();
        let generate = case["add_generation_prompt"].as_bool().unwrap();
        let variables = case["variables"].as_object().unwrap();
        let rendered = template.render_with(&case["messages"], generate, variables);
        match (&case["expected"], rendered) {
            (Value::String(expected), Ok(text)) if text == *expected => {}
            (Value::Null, Err(error)) if error.fault().is_some() => {}
            (expected, got) => failures.push(format!("{name} {variables:?}\n{expected:?}\n{got:?}")),
        }
    }
    assert!(failures.is_empty(), "{} of {}\n{}", failures.len(), cases.len(), failures.join("\n\n"));
}

#[test]
fn messages_are_rendered_in_order() {
    let source = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{{ add_generation_prompt }}";
    let messages = [Message::system("s"), Message::user("u"), Message::assistant("a")];
    let text = template(source).unwrap().render(&messages, false).unwrap();
    assert_eq!(text, "system:s;user:u;assistant:a;False");
}

#[test]
fn the_clock_can_be_set() {
    let source = "{{ strftime_now('%d %b %Y') }}";
    let text = template(source).unwrap().at(951_782_400).render(&[], false).unwrap();
    assert_eq!(text, "29 Feb 2000");
    assert!(template(source).unwrap().render(&[], false).unwrap().contains(" 20"));
}

#[test]
fn generation_tags_keep_their_whitespace_control() {
    assert_eq!(render("a {%- generation -%} b {%- endgeneration %} c").unwrap(), "ab c");
    assert_eq!(render("{%generation%}x{%endgeneration%}{% if true %}y{% endif %}").unwrap(), "xy");
    assert!(render("{% generation %}x").is_err());
    assert!(render("{% ").is_err());
}

#[test]
fn refusals_and_mistakes_are_faults_of_the_template() {
    let fault = |source: &str| render(source).unwrap_err().into_fault().unwrap();
    let raised = fault("\n{{ raise_exception('no system role') }}");
    assert_eq!(raised.got.as_deref(), Some("no system role (line 2)"));
    assert_eq!(raised.file.as_deref(), Some(Path::new("chat_template.jinja")));
    assert!(fault("{% for x in %}").message.contains("compiled"));
    fault("{{ messages.nothing.nothing }}");
    fault("{{ 'x'.no_such_method() }}");
    fault("{{ messages | no_such_filter }}");
    fault("{% include '/etc/passwd' %}");
    fault(&"x".repeat(5_000_000));
}

#[test]
fn harmful_templates_end_soon() {
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
    let doubling = "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
    let recursion = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    let nesting = "(".repeat(100_000);
    let repeated = "{{ 'x' * 10000000000 }}";
    for source in [loops, doubling, recursion, &format!("{{{{ {nesting}"), repeated] {
        assert!(render(source).unwrap_err().fault().is_some());
    }
    // Values within values: more of them than a stack holds, and more of them than a memory does.
    let nested = |value: &str, uses: &str| {
        let repeat = "{% for i in range(9999) %}{% for j in range(15) %}";
        render(&format!(
            "{{% set ns = namespace(x=[]) %}}{repeat}{{% set ns.x = {value} %}}{{% endfor %}}{{% endfor %}}{uses}"
        ))
    };
    assert_eq!(nested("[ns.x]", "a").unwrap(), "a");
    let doubled = "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for uses in ["{{ ns.x }}", "{{ ns.x | tojson }}", "{{ ns.x | string }}"] {
        assert!(nested("[ns.x]", uses).unwrap_err().fault().is_some());
        assert!(render(&format!("{doubled}{uses}")).unwrap_err().fault().is_some());
    }
}

#[test]
fn variables_reach_the_template() {
    let mut variables = Map::new();
    variables.insert("depth".to_owned(), json!({"of": [1, 2]}));
    let text = template("{{ depth.of[1] }}{{ tools is none }}").unwrap();
    assert_eq!(text.render_with(&json!([]), false, &variables).unwrap(), "2True");
}

#[test]
fn the_language_is_that_of_jinja2() {
    let document: Value = lopper_testkit::fixture_json("chat/language.json");
    let cases = document["cases"].as_array().unwrap();
    assert!(cases.len() > 300);
    let context = document["context"].as_object().unwrap();
    let mut failures = Vec::new();
    for case in cases {
        let source = case["source"].as_str().unwrap();
        let rendered = template(source).and_then(|template| template.render_with(&context["messages"], false, context));
        let agrees = match (case["expected"].as_str(), &rendered) {
            (Some(expected), Ok(text)) => text == expected,
            (expected, got) => expected.is_some() == got.is_ok(),
        };
        // Those that are known to differ are to be listed no longer than they do.
        if agrees == (case["differs"] == true) {
            failures.push(format!("{}: {source}\n{}\n{rendered:?}", case["name"], case["expected"]));
        }
    }
    assert!(failures.is_empty(), "{} of {}\n{}", failures.len(), cases.len(), failures.join("\n\n"));
}

/// The pocket model's tokenizer with a model's special tokens instead of its own.
fn tokenizer_of(model: &Value) -> Tokenizer {
    let file = lopper_testkit::fixture("chat").join("../../models/pocket/tokenizer.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let token = |(name, id): (&String, &Value)| {
        json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true})
    };
    file["added_tokens"] = model["added"].as_object().unwrap().iter().map(token).collect();
    file["post_processor"] = Value::Null;
    Tokenizer::from_bytes(file.to_string().as_bytes(), Path::new("tokenizer.json"), 1024).unwrap()
}

/// The number of tokens, and a number that differs where token ids do.
fn digest(tokens: &[u32]) -> Value {
    let number =
        tokens.iter().fold(0u128, |number, token| (number * 1_000_003 + u128::from(*token) + 1) % ((1 << 61) - 1));
    json!([tokens.len(), u64::try_from(number).unwrap()])
}

#[test]
fn conversations_of_published_models_are_rendered_as_transformers_does() {
    let document: Value = lopper_testkit::fixture_json("chat/published.json");
    let models = document["models"].as_object().unwrap();
    assert!(models.len() >= 40);
    let (mut failures, mut compared) = (Vec::new(), 0);
    for (name, model) in models {
        let source = lopper_testkit::fixture("chat").join("published").join(name).with_extension("jinja");
        let source = std::fs::read_to_string(source).unwrap();
        let tokens: Map<_, _> =
            ["bos_token", "eos_token"].map(|key| (key.to_owned(), model[key].clone())).into_iter().collect();
        let tokens = Value::Object(tokens.into_iter().filter(|(_, token)| !token.is_null()).collect());
        let template = ChatTemplate::new(&source, specials(&tokens), Path::new(name)).unwrap();
        let template = template.at(document["now"].as_u64().unwrap());
        let tokenizer = tokenizer_of(model);
        let cases = model["cases"].as_array().unwrap();
        for case in cases {
            let mut conversation = Conversation {
                messages: serde_json::from_value(
                    document["conversations"][case["conversation"].as_str().unwrap()].clone(),
                )
                .unwrap(),
                ..Conversation::default()
            };
            for (variable, value) in case["variables"].as_object().unwrap() {
                match variable.as_str() {
                    "tools" => conversation.tools = Some(document["tools"].clone()),
                    _ => drop(conversation.chat_template_kwargs.insert(variable.clone(), value.clone())),
                }
            }
            for (key, add_generation_prompt) in [("text", false), ("prompt", true)] {
                let expected = expected_text(case, key);
                // As the messages are, and as conversations are put for the template.
                let mut variables = Map::from_iter(conversation.chat_template_kwargs.clone());
                variables.extend(conversation.tools.iter().map(|tools| ("tools".to_owned(), tools.clone())));
                let as_is =
                    template.render_with(&without_nulls(&conversation.messages), add_generation_prompt, &variables);
                let what = format!("{name}, {}, {variables:?}, {key}", case["conversation"]);
                if as_is.as_ref().ok() != expected.as_ref() {
                    failures.push(format!("{what}\n{expected:?}\n{as_is:?}"));
                }
                let Some(expected) = as_put(&template, cases, case, key).or(expected) else { continue };
                compared += 1;
                let rendered = template.render_conversation(&conversation, add_generation_prompt);
                if rendered.as_ref().ok() != Some(&expected) {
                    failures.push(format!("{what}, as put\n{expected:?}\n{rendered:?}"));
                }
                let ids = as_is.map(|text| digest(&tokenizer.encode(&text, false).unwrap()));
                if ids.is_ok_and(|ids| ids != case[format!("{key}_tokens")]) {
                    failures.push(format!("{what}: other tokens"));
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {compared}\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n\n")
    );
    assert!(compared > 1000, "{compared}");
}

/// As `apply_chat_template` reads messages.
fn without_nulls(messages: &[Message]) -> Value {
    let mut messages = serde_json::to_value(messages).unwrap();
    for message in messages.as_array_mut().unwrap() {
        message.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    }
    messages
}

fn expected_text(case: &Value, key: &str) -> Option<String> {
    match &case[key] {
        Value::String(text) => Some(text.clone()),
        Value::Object(object) => Some(format!("{}{}", case["text"].as_str()?, object["adds"].as_str()?)),
        _ => None,
    }
}

/// What a conversation is to become that the template cannot render as it is: parts are joined, and a refused system
/// prompt is put before the first question.
fn as_put(template: &ChatTemplate, cases: &[Value], case: &Value, key: &str) -> Option<String> {
    let refused = template.system_role() == SystemRole::Refused;
    let reads_parts = expected_text(case, key).is_some_and(|text| text.contains("four") && !text.contains("'text'"));
    let other = match case["conversation"].as_str()? {
        "system" if refused => "folded",
        "parts" if refused => "folded parts",
        "parts" if !reads_parts => "joined",
        _ => return None,
    };
    let other = cases.iter().find(|c| c["conversation"] == other && c["variables"] == case["variables"]);
    expected_text(other?, key)
}

/// A model that has a template of its own for conversations with tools, in either of the two places.
#[test]
fn conversations_with_tools_have_a_template_of_their_own() {
    let render = |files: &[(&str, &str)]| {
        let model = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(lopper_testkit::fixture("llama/bf16").join(name), model.path().join(name)).unwrap();
        }
        std::fs::create_dir(model.path().join("additional_chat_templates")).unwrap();
        for (name, text) in files {
            std::fs::write(model.path().join(name), text).unwrap();
        }
        let checkpoint = Checkpoint::open(model.path()).unwrap();
        let template = ChatTemplate::from_checkpoint(&checkpoint).unwrap().unwrap();
        let with = |tools: Value| {
            let variables = json!({"tools": tools});
            template.render_with(&[Message::user("hi")], true, variables.as_object().unwrap()).unwrap()
        };
        [template.render(&[Message::user("hi")], true).unwrap(), with(Value::Null), with(json!([{"name": "add"}]))]
    };
    let plain = "plain {{ messages[0].content }}";
    let tools = "tools {{ tools[0].name }} {{ messages[0].content }}";
    let named = |list: &[(&str, &str)]| {
        let list: Vec<_> = list.iter().map(|(name, template)| json!({"name": name, "template": template})).collect();
        json!({"chat_template": list}).to_string()
    };
    let both = named(&[("default", plain), ("tool_use", tools), ("rag", "rag")]);
    let expected = ["plain hi", "plain hi", "tools add hi"];
    assert_eq!(render(&[("tokenizer_config.json", &both)]), expected);
    let files = [("chat_template.jinja", plain), ("additional_chat_templates/tool_use.jinja", tools)];
    assert_eq!(render(&files), expected);
    assert_eq!(render(&[("chat_template.jinja", plain)]), ["plain hi"; 3]);
}
