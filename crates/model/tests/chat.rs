//! Chat templates against transformers (fixtures/chat/make.py), and templates that mean harm.

use std::path::Path;

use lopper_model::chat::{ChatTemplate, Message};
use lopper_model::generation::SpecialStrings;
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
}

#[test]
fn variables_reach_the_template() {
    let mut variables = Map::new();
    variables.insert("depth".to_owned(), json!({"of": [1, 2]}));
    let text = template("{{ depth.of[1] }}{{ tools is none }}").unwrap();
    assert_eq!(text.render_with(&json!([]), false, &variables).unwrap(), "2True");
}
