//! A model's own answers: seeded, whatever runs beside them, and ready to be learned.

use lopper_heal::examples::has_loop;
use lopper_heal::own_prompts::write_prompts;
use lopper_heal::self_generated::examples_of;
use lopper_heal::{
    ExampleFilter, ExampleLimits, ExampleText, Renderer, SgrOptions, SgrPrompt, SgrRow, generate_responses,
};
use lopper_infer::{ChatTokenizer, Engine, Finish, GenerateOptions, LoopStop, Request, Sampling, TextModel};
use lopper_model::chat::{ChatTemplate, Conversation, Message};
use lopper_model::generation::{SpecialIds, SpecialStrings};
use lopper_model::tokenizer::Tokenizer;
use lopper_record::NoProgress;
use lopper_testkit::{Tiny, tiny_model};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

const TEMPLATE: &str = "{% for m in messages %}{{ m.role[0] + ':' + m.content + '<|end|>' }}{% endfor %}\
                        {% if add_generation_prompt %}{{ 'a:' }}{% endif %}";

/// One token per character of a small alphabet; token 0 ends a text.
fn text_model() -> TextModel {
    let characters = "<|end|>".chars().map(String::from).chain("abcdefghijklmnopqrstuvwxyz:".chars().map(String::from));
    let mut vocab = Map::from_iter([("<|end|>".to_owned(), json!(0))]);
    for text in characters {
        let id = vocab.len();
        vocab.entry(text).or_insert(json!(id));
    }
    let added: Vec<Value> = vec![json!({"id": 0, "content": "<|end|>", "special": true, "normalized": false,
        "single_word": false, "lstrip": false, "rstrip": false})];
    let file = json!({"version": "1.0", "added_tokens": added, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []}});
    let model = tiny_model(Tiny { vocab: vocab.len(), ..Tiny::default() }, 2);
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes(), Path::new("t.json"), vocab.len()).unwrap();
    let template = ChatTemplate::new(TEMPLATE, SpecialStrings::default(), Path::new("t.jinja")).unwrap();
    TextModel {
        engine: Engine::new(model, 2).unwrap(),
        text: ChatTokenizer {
            tokenizer: Arc::new(tokenizer),
            chat: Some(Arc::new(template)),
            special: SpecialIds { eos: vec![0], bos: None, pad: None },
        },
    }
}

fn options() -> SgrOptions {
    SgrOptions {
        sampling: Sampling::Sample { temperature: 1.0, top_k: None, top_p: None },
        max_new_tokens: 30,
        seed: 3,
        system: None,
        keep_unfinished: false,
        ..SgrOptions::default()
    }
}

fn prompts() -> Vec<SgrPrompt> {
    let chat = |i: usize| SgrPrompt::Chat(vec![Message::user("abcdefghij"[..1 + i % 9].to_owned())].into());
    let plain =
        |i: usize| SgrPrompt::Plain { prompt: "xyz"[..1 + i % 3].to_owned(), stop: vec!["e".into(), "qq".into()] };
    (0..40).map(|i| if i % 2 == 0 { chat(i) } else { plain(i) }).collect()
}

#[test]
fn answers_are_seeded_and_only_whole_ones_are_kept() {
    let text = text_model();
    let kept = text.engine.all_layers();
    let answer = |prompts: &[SgrPrompt], options: &SgrOptions| {
        generate_responses(&text, &kept, prompts, options, &NoProgress).unwrap()
    };
    let made = answer(&prompts(), &options());
    assert_eq!(made, answer(&prompts(), &options()));
    assert_ne!(made, answer(&prompts(), &SgrOptions { seed: 4, ..options() }));
    let counts = made.counts;
    let excluded: usize = counts.reasons().into_iter().map(|(count, _)| count).sum();
    assert_eq!((counts.answers, counts.used, counts.used + excluded), (40, made.rows.len(), 40));
    assert!(counts.cut_off > 0 && made.rows.len() > 5, "{counts:?}");
    assert!(made.rows.iter().all(|row| matches!(row.finish, Finish::Stop | Finish::StopString)));
    // A prompt's answer does not depend on those after it.
    let fewer = answer(&prompts()[..10], &options());
    assert_eq!(fewer.rows[..], made.rows[..fewer.rows.len()]);

    let all = answer(&prompts(), &SgrOptions { keep_unfinished: true, ..options() });
    assert_eq!(all.rows.len(), counts.answers - counts.empty);
    for row in &made.rows {
        if let (ExampleText::Plain { response, .. }, Finish::StopString) = (&row.text, row.finish) {
            // Up to and including the first stop string.
            let first =
                response.find('e').map(|at| at + 1).into_iter().chain(response.find("qq").map(|at| at + 2)).min();
            assert_eq!(first, Some(response.len()), "{response}");
        }
    }
    assert!(made.rows.iter().any(|row| row.finish == Finish::StopString));
}

#[test]
fn several_answers_to_a_prompt_are_numbered_and_the_first_is_the_only_one() {
    let text = text_model();
    let answer = |samples, prompts: &[SgrPrompt]| {
        let options = SgrOptions { samples, keep_unfinished: true, ..options() };
        generate_responses(&text, &text.engine.all_layers(), prompts, &options, &NoProgress).unwrap()
    };
    let (one, three) = (answer(1, &prompts()), answer(3, &prompts()));
    assert_eq!((one.counts.answers, three.counts.answers), (40, 120));
    assert!(one.rows.iter().all(|row| row.sample.is_none()));
    let number = |sample| three.rows.iter().filter(move |row| row.sample == Some(sample));
    let tokens = |row: &SgrRow| row.recorded.clone();
    let first: Vec<_> = number(0).map(tokens).collect();
    assert_eq!(first, one.rows.iter().map(tokens).collect::<Vec<_>>());
    let seeds: HashSet<u64> = three.rows.iter().map(|row| row.seed).collect();
    assert_eq!(seeds.len(), three.rows.len());
    assert_ne!(first, number(1).map(tokens).collect::<Vec<_>>());
    // More prompts change none of them.
    let fewer = answer(3, &prompts()[..10]);
    assert_eq!(fewer.rows[..], three.rows[..fewer.rows.len()]);
}

#[test]
fn what_the_engine_stops_as_a_loop_is_left_out_as_one() {
    let text = text_model();
    let (layers, stop) = (text.engine.all_layers(), LoopStop { periods: 3, tokens: 9, longest: 8 });
    let requests: Vec<Request> = (1..20).map(|token| Request::greedy(vec![token, token + 1], 60)).collect();
    let generate = |loops| {
        let options = GenerateOptions { loops, ..GenerateOptions::default() };
        text.engine.generate(&layers, &requests, &options, &NoProgress).unwrap()
    };
    let (stopped, whole) = (generate(Some(stop)), generate(None));
    let looped = stopped.iter().filter(|answer| answer.finish == Finish::Loop).count();
    assert!(looped > 0 && looped < stopped.len(), "{looped} loops");
    for (stopped, whole) in stopped.iter().zip(&whole) {
        let is_loop = stopped.finish == Finish::Loop;
        assert_eq!(has_loop(&stopped.tokens, stop), is_loop);
        assert_eq!(has_loop(&whole.tokens, stop), is_loop, "the same tokens without the stop");
        let before = &stopped.tokens[..stopped.tokens.len() - 1];
        assert!(!has_loop(before, stop), "not a token earlier");
    }
}

#[test]
fn answers_become_examples_that_hold_what_was_generated() {
    let text = text_model();
    let options = SgrOptions { system: Some("sys".into()), keep_unfinished: true, ..options() };
    let made = generate_responses(&text, &text.engine.all_layers(), &prompts(), &options, &NoProgress).unwrap();
    let examples =
        examples_of(&made.rows, &Renderer::of(&text), ExampleLimits::finished(64), &mut ExampleFilter::none()).unwrap();
    let whole: Vec<_> = made.rows.iter().filter(|r| matches!(r.finish, Finish::Stop | Finish::StopString)).collect();
    assert_eq!((examples.documents.len(), examples.report.unusable), (whole.len(), 0));
    let report = &examples.report;
    assert_eq!(report.cut_off + report.context_full + report.repetitive, made.rows.len() - whole.len());
    assert_eq!(report.counts().used, whole.len());
    for (row, document) in whole.iter().zip(&examples.documents) {
        // Characters are tokens here, so what is learned is what was drawn, with its end.
        let learned = document.weights.iter().filter(|w| **w > 0.0).count();
        assert_eq!(learned, row.tokens + usize::from(row.finish == Finish::Stop), "{row:?}");
        if let ExampleText::Chat(conversation) = &row.text {
            assert_eq!(conversation.messages[0], Message::system("sys"));
        }
    }
}

#[test]
fn answers_that_were_cut_off_teach_distributions_as_far_as_they_go() {
    let text = text_model();
    let options = SgrOptions { keep_unfinished: true, ..options() };
    let made = generate_responses(&text, &text.engine.all_layers(), &prompts(), &options, &NoProgress).unwrap();
    let limits = ExampleLimits { cut_off: true, ..ExampleLimits::finished(64) };
    let examples = examples_of(&made.rows, &Renderer::of(&text), limits, &mut ExampleFilter::none()).unwrap();
    let usable = |finish| matches!(finish, Finish::Stop | Finish::StopString | Finish::Length);
    let used: Vec<_> = made.rows.iter().filter(|row| usable(row.finish)).collect();
    let cut_off = used.iter().filter(|row| row.finish == Finish::Length).count();
    let report = &examples.report;
    assert_eq!((report.used, report.used_cut_off, report.cut_off), (used.len(), cut_off, 0));
    assert!(cut_off > 0 && report.without_end == 0, "{report:?}");
    for (row, document) in used.iter().zip(&examples.documents) {
        let tokens = row.recorded.as_ref().unwrap();
        assert_eq!(document.tokens, [&tokens.prompt_token_ids[..], &tokens.response_token_ids].concat());
    }
    // A row without its tokens would be rendered with an end that nobody wrote.
    let texts: Vec<_> = made.rows.iter().cloned().map(|row| SgrRow { recorded: None, ..row }).collect();
    let report = examples_of(&texts, &Renderer::of(&text), limits, &mut ExampleFilter::none()).unwrap().report;
    assert_eq!((report.used_cut_off, report.cut_off), (0, cut_off));
}

#[test]
fn a_model_writes_prompts_of_its_own() {
    let text = text_model();
    let kept = text.engine.all_layers();
    let write = |number, seed, system| {
        write_prompts(&text.engine, &text.text, &kept, (number, seed), system, &NoProgress).unwrap()
    };
    let prompts = write(30, 5, None);
    assert_eq!(prompts, write(30, 5, None));
    assert_ne!(prompts, write(30, 6, None));
    assert_eq!(prompts.len(), 30);
    let messages: HashSet<String> = prompts
        .iter()
        .map(|Conversation { messages, .. }| {
            assert_eq!((messages.len(), messages[0].role.as_str()), (1, "user"));
            messages[0].text().into_owned()
        })
        .collect();
    assert!(messages.len() == 30 && messages.iter().all(|message| !message.trim().is_empty()), "{messages:?}");
    // The first prompts do not depend on how many are wanted.
    assert_eq!(write(4, 5, None), prompts[..4]);
    let with_system = write(3, 5, Some("sys"));
    assert!(with_system.iter().all(|prompt| prompt.messages[0] == Message::system("sys")));

    let source = "{% for m in messages %}{{ m.content[::-1] }}{% endfor %}";
    let hides = ChatTemplate::new(source, SpecialStrings::default(), Path::new("t.jinja")).unwrap();
    let hides = ChatTokenizer { chat: Some(Arc::new(hides)), ..text.text.clone() };
    let none = ChatTokenizer { chat: None, ..text.text.clone() };
    for tokenizer in [hides, none] {
        let refused = write_prompts(&text.engine, &tokenizer, &kept, (3, 5), None, &NoProgress).unwrap_err();
        assert!(refused.fault().is_some_and(|fault| fault.hint.is_some()), "{refused}");
    }
}
