//! Which tokens are learned, on chat templates of several kinds, and what becomes of bad lines.

use lopper_heal::{
    Document, Example, ExampleFilter, ExampleLimits, ExampleText, Examples, RecordedTokens, Renderer, RowSource,
    read_examples,
};
use lopper_infer::Finish;
use lopper_model::chat::{ChatTemplate, Message};
use lopper_model::generation::SpecialStrings;
use lopper_model::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::Path;

/// Ends the turn, and is followed by a line break that nobody generates.
const CHATML: &str = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>\n' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
/// No generation prompt; the system prompt goes into the first question; answers are trimmed.
const BRACKETS: &str = "{{ bos_token }}{% if messages[0].role == 'system' %}{% set s = messages[0].content + '\n' %}\
                        {% set turns = messages[1:] %}{% else %}{% set s = '' %}{% set turns = messages %}{% endif %}\
                        {% for m in turns %}{% if m.role == 'user' %}{{ '[' + (s if loop.first else '') + m.content + ']' }}\
                        {% else %}{{ ' ' + m.content | trim + eos_token }}{% endif %}{% endfor %}";
/// Earlier answers lose what the last one has, as Qwen3's thinking.
const THINKING: &str = "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|assistant|>' }}\
                        {% if loop.last %}{{ '()' }}{% endif %}{{ m.content + '<|end|>' }}{% else %}{{ '<|user|>' + m.content }}\
                        {% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
/// The prompt is not what an answer continues.
const BROKEN: &str = "{% for m in messages %}{{ m.role + ':' + m.content + '<|end|>' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// One token per character, and a few special ones.
fn tokenizer() -> Tokenizer {
    let special = ["<s>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"];
    let mut vocab = Map::new();
    for (id, text) in (0..).zip(special.iter().map(|s| (*s).to_owned()).chain((10..127u8).map(|c| (c as char).into())))
    {
        vocab.insert(text, json!(id));
    }
    let added: Vec<Value> = (0..)
        .zip(special)
        .map(|(id, text)| {
            json!({"id": id, "content": text, "special": true, "normalized": false, "single_word": false,
                "lstrip": false, "rstrip": false})
        })
        .collect();
    let file = json!({"version": "1.0", "added_tokens": added, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []}});
    Tokenizer::from_bytes(file.to_string().as_bytes(), Path::new("tokenizer.json"), 256).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    let mut specials = SpecialStrings::default();
    specials.set("bos_token", "<s>");
    specials.set("eos_token", "<|end|>");
    ChatTemplate::new(source, specials, Path::new("chat_template.jinja")).unwrap()
}

fn conversation() -> Vec<Message> {
    vec![
        Message::system("be kind"),
        Message::user("2+3?"),
        Message::assistant("5"),
        Message::user("and 1?"),
        Message::assistant("6."),
    ]
}

fn examples(source: &str, example: &Example) -> Examples {
    let (tokenizer, template) = (tokenizer(), template(source));
    let renderer = Renderer::new(&tokenizer, Some(&template), &[1]);
    let mut examples = Examples::default();
    examples.add(&renderer, 1, example, ExampleLimits::finished(1000), &mut ExampleFilter::none()).unwrap();
    examples
}

fn chat(source: &str, messages: Vec<Message>) -> Examples {
    examples(source, &Example { text: ExampleText::Chat(messages.into()), tokens: None, finish: None })
}

/// The whole text, and its learned parts.
fn shown(document: &Document) -> (String, Vec<String>) {
    let tokenizer = tokenizer();
    assert_eq!(document.tokens.len(), document.weights.len());
    assert!(document.weights.iter().all(|w| *w == 0.0 || *w == 1.0));
    let mut parts: Vec<Vec<u32>> = Vec::new();
    for i in 0..document.tokens.len() {
        if document.weights[i] == 1.0 {
            if i == 0 || document.weights[i - 1] == 0.0 {
                parts.push(vec![]);
            }
            parts.last_mut().unwrap().push(document.tokens[i]);
        }
    }
    let decode = |tokens: &[u32]| tokenizer.decode(tokens, false).unwrap();
    (decode(&document.tokens), parts.iter().map(|p| decode(p)).collect())
}

#[test]
fn answers_with_their_end_tokens_are_learned_and_nothing_else() {
    let made = chat(CHATML, conversation());
    assert_eq!(made.documents.len(), 1);
    let (text, learned) = shown(&made.documents[0]);
    assert_eq!(
        text,
        "<|system|>be kind<|end|>\n<|user|>2+3?<|end|>\n<|assistant|>5<|end|>\n<|user|>and 1?<|end|>\n\
         <|assistant|>6.<|end|>"
    );
    assert_eq!(learned, ["5<|end|>", "6.<|end|>"]);

    let made = chat(BRACKETS, conversation());
    assert_eq!(made.documents.len(), 1);
    let (text, learned) = shown(&made.documents[0]);
    assert_eq!(text, "<s>[be kind\n2+3?] 5<|end|>[and 1?] 6.<|end|>");
    assert_eq!(learned, [" 5<|end|>", " 6.<|end|>"]);
    assert_eq!((made.report.used, made.report.without_end), (1, 0));
}

#[test]
fn a_template_that_changes_earlier_turns_gives_one_example_per_answer() {
    let made = chat(THINKING, conversation()[1..].to_vec());
    let shown: Vec<_> = made.documents.iter().map(shown).collect();
    assert_eq!(shown[0], ("<|user|>2+3?<|assistant|>()5<|end|>".to_owned(), vec!["()5<|end|>".to_owned()]));
    assert_eq!(
        shown[1],
        (
            "<|user|>2+3?<|assistant|>5<|end|><|user|>and 1?<|assistant|>()6.<|end|>".to_owned(),
            vec!["()6.<|end|>".to_owned()]
        )
    );
    assert_eq!((shown.len(), made.report.used), (2, 1));
}

#[test]
fn an_answer_follows_its_prompt_as_asked_where_the_template_rewrites_it() {
    let made = chat(BROKEN, conversation());
    let shown: Vec<_> = made.documents.iter().map(shown).collect();
    assert_eq!(shown[0].0, "system:be kind<|end|>user:2+3?<|end|><|assistant|>5<|end|>");
    assert_eq!(
        shown[1].0,
        "system:be kind<|end|>user:2+3?<|end|>assistant:5<|end|>user:and 1?<|end|><|assistant|>6.<|end|>"
    );
    assert_eq!(
        (shown[0].1.as_slice(), shown[1].1.as_slice()),
        (&["5<|end|>".to_owned()][..], &["6.<|end|>".to_owned()][..])
    );
}

#[test]
fn recorded_tokens_are_learned_as_they_are() {
    let ids = |text: &str| tokenizer().encode(text, false).unwrap();
    let exchange = vec![Message::user("q"), Message::assistant("ab")];
    let text = ExampleText::Chat(exchange.into());
    let recorded = |prompt: &str, response: &str| {
        Some(RecordedTokens { prompt_token_ids: ids(prompt), response_token_ids: ids(response) })
    };
    // A prompt that no template here renders.
    let tokens = recorded("<|user|>q<|system|>", "ab<|end|>");
    let made = examples(CHATML, &Example { text: text.clone(), tokens, finish: Some(Finish::Stop) });
    assert_eq!(shown(&made.documents[0]), ("<|user|>q<|system|>ab<|end|>".into(), vec!["ab<|end|>".into()]));
    assert_eq!((made.report.as_generated, made.report.tokens_differ, made.report.without_end), (1, 0, 0));
    // Tokens of another text, of another tokenizer, or none.
    let foreign = Some(RecordedTokens { prompt_token_ids: vec![900], response_token_ids: vec![901] });
    for tokens in [recorded("<|user|>q", "cd"), recorded("<|user|>other", "ab"), recorded("<|user|>q", ""), foreign] {
        let made = examples(CHATML, &Example { text: text.clone(), tokens, finish: None });
        assert_eq!(shown(&made.documents[0]).0, "<|user|>q<|end|>\n<|assistant|>ab<|end|>");
        assert_eq!((made.report.as_generated, made.report.tokens_differ), (0, 1));
    }
}

#[test]
fn turns_without_an_answer_carry_no_loss_and_spoil_no_others() {
    let call = json!({"role": "assistant", "content": null, "tool_calls": [{"name": "add"}]});
    let messages = json!([{"role": "assistant", "content": "first"}, {"role": "user", "content": "q"}, call,
        {"role": "tool", "content": "3"}, {"role": "assistant", "content": [{"type": "text", "text": "it is 3"}]}]);
    let tools = "{% for m in messages %}{{ '<|' + m.role + '|>' + (m.content or m.tool_calls[0].name) + '<|end|>' }}\
                 {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
    let made = chat(tools, serde_json::from_value(messages.clone()).unwrap());
    let (text, learned) = shown(&made.documents[0]);
    assert_eq!(
        text,
        "<|assistant|>first<|end|><|user|>q<|end|><|assistant|>add<|end|><|tool|>3<|end|><|assistant|>it is 3<|end|>"
    );
    assert_eq!(learned, ["add<|end|>", "it is 3<|end|>"]);

    // A template that does not know of tool calls renders the call to nothing, which is not learned.
    let plain = "{% for m in messages %}{{ '<|' + m.role + '|>' + (m.content or '') + '<|end|>' }}{% endfor %}\
                 {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
    let made = chat(plain, serde_json::from_value(messages).unwrap());
    assert_eq!(shown(&made.documents[0]).1, ["it is 3<|end|>"]);
    let (tokenizer, template) = (tokenizer(), template(plain));
    let remarks = made.remarks(&Renderer::new(&tokenizer, Some(&template), &[1]));
    assert!(remarks.len() == 1 && remarks[0].contains("`tool_calls`"), "{remarks:?}");
}

/// The templates of `fixtures/cases`, each a kind of published ones, with what is learned of an exchange.
#[test]
fn every_kind_of_template_teaches_the_answer_after_its_prompt() {
    let exchange = |answer: &str| vec![Message::system("s"), Message::user("hi"), Message::assistant(answer)];
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cases/templates");
    for (name, answer, prompt, learned) in [
        // The system prompt moves with the last user turn, so it would vanish once an answer follows.
        ("system_in_last_user_turn", "ho", "<s>[INST] s\n\nhi[/INST]", " ho<|end|>"),
        // No system role: the system prompt is put before the first user turn.
        ("no_system_role", "ho", "<s><turn>user\ns\n\nhi<end>\n<turn>model\n", "ho<end>\n"),
        // The prompt opens the reasoning that the answer closes.
        (
            "prompt_opens_think",
            "thus\n</think>\n\nho",
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n\
         <|im_start|>assistant\n<think>\n",
            "thus\n</think>\n\nho<|im_end|>\n",
        ),
        // Reasoning is taken out of earlier turns.
        ("history_loses_think", "thus</think>ho", "<s><User>s<User>hi<Assistant><think>\n", "thus</think>ho<|end|>"),
        (
            "thinking_switch",
            "ho",
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
            "ho<|im_end|>\n",
        ),
    ] {
        let source = std::fs::read_to_string(cases.join(name).with_extension("jinja")).unwrap();
        let made = chat(&source, exchange(answer));
        assert_eq!(shown(&made.documents[0]), (format!("{prompt}{learned}"), vec![learned.to_owned()]), "{name}");
    }
}

#[test]
fn an_answer_without_an_end_token_is_counted() {
    let open = "{% for m in messages %}{{ m.content + ' ' }}{% endfor %}";
    let made = chat(open, vec![Message::user("q"), Message::assistant("a")]);
    assert_eq!(shown(&made.documents[0]), ("q a ".to_owned(), vec!["a ".to_owned()]));
    assert_eq!(made.report.without_end, 1);
}

#[test]
fn plain_continuations_end_as_they_were_ended() {
    let text = ExampleText::Plain { prompt: "f(".into(), response: "x)\n\n".into() };
    for (finish, learned, without_end) in
        [(None, "x)\n\n<|end|>", 0), (Some(Finish::Stop), "x)\n\n<|end|>", 0), (Some(Finish::StopString), "x)\n\n", 0)]
    {
        let made = examples(CHATML, &Example { text: text.clone(), tokens: None, finish });
        assert_eq!(shown(&made.documents[0]), (format!("f({learned}"), vec![learned.to_owned()]));
        assert_eq!(made.report.without_end, without_end);
    }
    let cut_off = examples(CHATML, &Example { text, tokens: None, finish: Some(Finish::Length) });
    assert_eq!((cut_off.documents.len(), cut_off.report.cut_off), (0, 1));
}

#[test]
fn bad_lines_are_named_and_the_rest_is_used() {
    let line = |content: &str| json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": content}]});
    let mut cut_off = line("half an ans");
    cut_off["finish"] = json!("length");
    let mut other = line("whole");
    other["finish"] = json!({"of": "another program"});
    let file = write(&[
        line("fine").to_string(),
        "{\"messages\": [".to_owned(),
        String::new(),
        line(&"long ".repeat(20)).to_string(),
        line("  ").to_string(),
        cut_off.to_string(),
        json!({"question": "x"}).to_string(),
        json!({"messages": [{"role": "assistant", "content": "a"}]}).to_string(),
        json!({"messages": [{"role": "user", "content": "a"}]}).to_string(),
        json!({"prompt": "p", "response": "r"}).to_string(),
        other.to_string(),
    ]);
    let (tokenizer, template) = (tokenizer(), template(CHATML));
    let renderer = Renderer::new(&tokenizer, Some(&template), &[1]);
    let made = read_examples(
        &RowSource::file(file.path()),
        &renderer,
        ExampleLimits::finished(60),
        &mut ExampleFilter::none(),
    )
    .unwrap();
    let report = &made.report;
    assert_eq!((report.rows, report.used, report.too_long, report.cut_off, report.unusable), (10, 3, 1, 1, 5));
    assert_eq!(report.complaints.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 5, 7, 8, 9]);
    assert_eq!(made.documents.len(), 3);

    let without = Renderer::new(&tokenizer, None, &[1]);
    let fault =
        read_examples(&RowSource::file(file.path()), &without, ExampleLimits::finished(60), &mut ExampleFilter::none())
            .unwrap_err()
            .into_fault()
            .unwrap();
    assert!(fault.message.contains("no chat template"));
    let file = write(&["{}".to_owned(), "nonsense".to_owned()]);
    let fault = read_examples(
        &RowSource::file(file.path()),
        &renderer,
        ExampleLimits::finished(60),
        &mut ExampleFilter::none(),
    )
    .unwrap_err()
    .into_fault()
    .unwrap();
    assert!(fault.message.contains("no usable examples") && fault.got.unwrap().contains("row 1"), "{}", fault.message);
    assert!(
        read_examples(
            &RowSource::file(Path::new("nowhere.jsonl")),
            &renderer,
            ExampleLimits::finished(60),
            &mut ExampleFilter::none()
        )
        .unwrap_err()
        .fault()
        .is_some()
    );
}

fn write(lines: &[String]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.join("\n").as_bytes()).unwrap();
    file
}
