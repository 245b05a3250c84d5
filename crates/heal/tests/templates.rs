//! What is learned of conversations by every chat template: compared with TRL, PEFT and transformers
//! (fixtures/sft/make.py), and from recorded tokens.

use lopper_heal::adapter::is_adapter;
use lopper_heal::{
    Document, Example, ExampleFilter, ExampleLimits, ExampleText, Examples, LoraConfig, RecordedTokens, Renderer,
    Trainer, TrainerConfig, attach_lora,
};
use lopper_infer::Finish;
use lopper_model::Model;
use lopper_model::chat::{ChatTemplate, Conversation, Message};
use lopper_model::checkpoint::Checkpoint;
use lopper_model::generation::SpecialStrings;
use lopper_model::tokenizer::Tokenizer;
use lopper_record::LayerSet;
use lopper_testkit::{fixture, fixture_json};
use serde_json::{Value, json};
use std::path::Path;

/// Of a mean loss in nats: both sum in 32 bits, in another order.
const LOSS_TOLERANCE: f64 = 1e-4;
/// Templates that put no token of the model's own after an answer; the next turn's mark ends it.
const WITHOUT_END: [&str; 2] = ["glm4", "glm4_5"];
/// 14 July 2025, 12:30, when the fixture was made.
const NOW: u64 = 1_752_496_200;

struct Case {
    name: String,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    end: Vec<u32>,
    /// What TRL learns of each conversation.
    chats: Vec<(String, Value)>,
}

fn cases() -> (Value, Vec<Case>) {
    let document: Value = fixture_json("sft/expected.json");
    let cases = document["templates"].as_object().unwrap().iter().map(|(name, case)| Case {
        name: name.clone(),
        template: template(case),
        tokenizer: tokenizer(case),
        end: serde_json::from_value(case["end"].clone()).unwrap(),
        chats: case["chats"].as_object().unwrap().clone().into_iter().collect(),
    });
    let cases: Vec<_> = cases.collect();
    assert!(cases.len() >= 47);
    (document["chats"].clone(), cases)
}

fn template(case: &Value) -> ChatTemplate {
    let path = fixture("sft").join("..").join(case["path"].as_str().unwrap());
    let mut specials = SpecialStrings::default();
    for name in ["bos_token", "eos_token"] {
        if let Some(token) = case[name].as_str() {
            specials.set(name, token);
        }
    }
    ChatTemplate::new(&std::fs::read_to_string(&path).unwrap(), specials, &path).unwrap().at(NOW)
}

/// The pocket model's tokenizer with a model's special tokens instead of its own.
fn tokenizer(case: &Value) -> Tokenizer {
    let file = fixture("sft").join("../../models/pocket/tokenizer.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let token = |(name, id): (&String, &Value)| {
        json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true})
    };
    file["added_tokens"] = case["added"].as_object().unwrap().iter().map(token).collect();
    file["post_processor"] = Value::Null;
    Tokenizer::from_bytes(file.to_string().as_bytes(), Path::new("tokenizer.json"), 768).unwrap()
}

fn examples(case: &Case, messages: &[Message], tokens: Option<RecordedTokens>) -> Examples {
    let renderer = Renderer::new(&case.tokenizer, Some(&case.template), &case.end);
    let mut examples = Examples::default();
    let finish = tokens.as_ref().map(|_| Finish::Stop);
    let example = Example { text: ExampleText::Chat(messages.to_vec().into()), tokens, finish };
    examples.add(&renderer, 1, &example, ExampleLimits::finished(4096), &mut ExampleFilter::none()).unwrap();
    examples
}

/// Every learned part with what comes before it, in the order of the conversation.
fn spans(documents: &[Document]) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut spans = Vec::new();
    for Document { tokens, weights } in documents {
        assert_eq!(tokens.len(), weights.len());
        assert!(weights.iter().all(|weight| *weight == 0.0 || *weight == 1.0));
        let mut at = 0;
        while let Some(start) = (at..tokens.len()).find(|i| weights[*i] == 1.0) {
            at = (start..tokens.len()).find(|i| weights[*i] == 0.0).unwrap_or(tokens.len());
            spans.push((tokens[..start].to_vec(), tokens[start..at].to_vec()));
        }
    }
    spans.sort_by_key(|(before, _)| before.len());
    spans
}

#[test]
fn tokens_masks_and_losses_are_those_of_trl_and_peft() {
    let mut model = Model::from_checkpoint(&Checkpoint::open(&fixture("sft/model")).unwrap()).unwrap();
    model.load();
    let layers = LayerSet::all(2);
    attach_lora(&mut model, &LoraConfig { r: 4, dropout: 0.0, ..LoraConfig::default() }, 1, &layers).unwrap();
    let (chats, cases) = cases();
    let (mut failures, mut answers, mut appended) = (Vec::new(), 0, 0);
    for case in &cases {
        for (title, expected) in &case.chats {
            let what = format!("{}, {title}", case.name);
            let messages: Vec<Message> = serde_json::from_value(chats[title].clone()).unwrap();
            let made = examples(case, &messages, None);
            let expected_answers = expected["answers"].as_array().unwrap();
            let tokens = |value: &Value| serde_json::from_value::<Vec<u32>>(value.clone()).unwrap();
            let references: Vec<_> =
                expected_answers.iter().map(|answer| (tokens(&answer["prompt"]), tokens(&answer["answer"]))).collect();
            answers += references.len();
            appended += expected_answers.iter().filter(|answer| answer["by"] == "appended").count();
            let learned = spans(&made.documents);
            if learned != references {
                let shown = |spans: &[(Vec<u32>, Vec<u32>)]| {
                    let decode = |tokens: &[u32]| case.tokenizer.decode(tokens, false).unwrap();
                    spans.iter().map(|(a, b)| format!("{:?} -> {:?}", decode(a), decode(b))).collect::<Vec<_>>()
                };
                failures.push(format!("{what}\n{:#?}\n{:#?}", shown(&references), shown(&learned)));
                continue;
            }
            let trainer =
                Trainer::new(model.clone(), layers.slots(), is_adapter, Default::default(), TrainerConfig::default());
            let loss = { trainer }.step(&made.documents, 0.0).unwrap().loss;
            let reference = expected["loss"].as_f64().unwrap();
            if (loss - reference).abs() > LOSS_TOLERANCE {
                failures.push(format!("{what}: a loss of {loss}, of TRL {reference}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}\n{}", failures.len(), failures[..failures.len().min(20)].join("\n\n"));
    assert!(answers > 300 && appended > 10, "{answers} answers, {appended} appended");
}

/// Of every template, an answer and one that closes a thought.
#[test]
fn one_span_an_answer_from_its_generation_prompt_to_its_end_token() {
    for case in cases().1 {
        let name = &case.name;
        let question = Message::user("What is 3 + 4?");
        let prompt = case.template.render_conversation(&Conversation::from(vec![question.clone()]), true).unwrap();
        let encode = |text: &str| case.tokenizer.encode(text, false).unwrap();
        for answer in ["It is 7.", "<think>\n3 and 4\n</think>\n\n7"] {
            let made = examples(&case, &[question.clone(), Message::assistant(answer)], None);
            assert_eq!((made.documents.len(), made.report.used), (1, 1), "{name}");
            let learned = spans(&made.documents);
            assert_eq!(learned.len(), 1, "{name}: {answer}");
            let (before, tokens) = &learned[0];
            assert_eq!(*before, encode(&prompt), "{name}: {answer}");
            let ends = tokens.iter().filter(|token| case.end.contains(token)).count();
            let ended = case.end.contains(tokens.last().unwrap());
            match WITHOUT_END.contains(&name.as_str()) {
                true => assert_eq!((ends, made.report.without_end), (0, 1), "{name}: {answer}"),
                false => assert_eq!((ends, ended, made.report.without_end), (1, true, 0), "{name}: {answer}"),
            }
            let text = case.tokenizer.decode(tokens, false).unwrap();
            assert!(text.contains(answer.rsplit('\n').next().unwrap()), "{name}: {text}");
        }
        // The tokens of a response, whatever the template would make of its text.
        for (answer, response) in
            [("It is 7.", "It is 7."), ("7", " 3 and 4\n</think>\n\n7"), ("7", "<think>3</think>7")]
        {
            let recorded = RecordedTokens {
                prompt_token_ids: encode(&prompt),
                response_token_ids: [encode(response), vec![case.end[0]]].concat(),
            };
            let expected = vec![(recorded.prompt_token_ids.clone(), recorded.response_token_ids.clone())];
            let made = examples(&case, &[question.clone(), Message::assistant(answer)], Some(recorded));
            assert_eq!((made.report.as_generated, made.report.without_end), (1, 0), "{name}: {response}");
            assert_eq!(spans(&made.documents), expected, "{name}: {response}");
        }
    }
}
