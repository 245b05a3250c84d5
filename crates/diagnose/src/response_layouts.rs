//! The layouts in which programs write responses, told apart by their columns.
//!
//! | columns | written by |
//! |---|---|
//! | `response`, `text`, `output` or `completion`: a text | Lopper, HumanEval, scripts |
//! | `messages`, or a `completion` of messages: the last assistant turn | Lopper, TRL |
//! | `choices` of `message` or `text` | the servers of OpenAI, vLLM and others |
//! | `response.body` | OpenAI's batches, `vllm run-batch` |
//! | `output`: a list of items | OpenAI's Responses API |
//! | `outputs`: texts, or objects with `text` | vLLM's `RequestOutput`, dumped |
//! | `generated_text`, `generated_texts` | transformers' pipelines, TGI, `vllm bench serve` |
//! | `task_id` and `solution`; `eval` | EvalPlus's samples, its `eval_results.json` |
//! | `model_response.text`, or `predictions` | lighteval's details, from 0.11 on and before |
//! | `resps` | lm-evaluation-harness |
//!
//! Optional are `finish` or `finish_reason` (why generation ended), `tokens` (length), `mean_logprob` (of its tokens
//! under the model that wrote it), and `outcome` (the class of its program's end); where a program writes them
//! elsewhere, they are read there. What a server separated as reasoning (`reasoning`, `reasoning_content`) is kept
//! apart.
//!
//! Not covered: streamed chunks of servers, tool calls (they are no text).

use std::str::Chars;

use serde_json::{Map, Value};

use crate::degeneration::ResponseMetadata;
use crate::reasoning::given_reasoning;

type Columns = Map<String, Value>;

/// One response.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Response {
    pub text: String,
    /// What a server separated as reasoning.
    pub reasoning: Option<String>,
    pub metadata: ResponseMetadata,
    /// The filter that lm-evaluation-harness wrote it for.
    pub filter: Option<String>,
    /// The class of its program's end.
    pub outcome: Option<String>,
}

/// The responses in some columns; none where the columns are not of the layout.
type Found = Option<Result<Vec<Response>, String>>;

/// Every layout, the first that a row has counts.
const LAYOUTS: [fn(&Columns) -> Found; 14] = [
    plain,
    batch,
    choices,
    items,
    outputs,
    generated,
    completion,
    solution,
    messages,
    model_response,
    predictions,
    resps,
    results,
    without_text,
];

/// The responses of a row; none where it has no text (multiple choice).
///
/// # Errors
/// A sentence for a row in none of the layouts, or with a column that is not what its layout has.
pub(crate) fn responses(row: &Columns) -> Result<Vec<Response>, String> {
    let word = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    let found = LAYOUTS.iter().find_map(|layout| layout(row));
    let mut found = found.unwrap_or_else(|| Err(unknown(row)))?;
    let tokens = row.get("tokens").and_then(length).filter(|_| found.len() == 1);
    let mean = row.get("mean_logprob").and_then(Value::as_f64);
    for response in &mut found {
        let metadata = &mut response.metadata;
        metadata.finish = metadata.finish.take().or_else(|| word("finish")).or_else(|| word("finish_reason"));
        metadata.tokens = metadata.tokens.or(tokens);
        metadata.logprob = metadata.logprob.or_else(|| Some(tokens? as f64 * mean?));
        response.reasoning = response.reasoning.take().or_else(|| given_reasoning(row).map(str::to_owned));
        (response.filter, response.outcome) = (word("filter"), word("outcome"));
    }
    Ok(found)
}

fn unknown(row: &Columns) -> String {
    if let Some(name) = ["response", "text", "output"].iter().find(|name| row.get(**name).is_some_and(|v| !v.is_null()))
    {
        return format!("`{name}` is not a text");
    }
    let names: Vec<String> = row.keys().take(12).map(|name| format!("`{name}`")).collect();
    format!("no known layout, but {}", if names.is_empty() { "no column".to_owned() } else { names.join(", ") })
}

fn of_text(text: impl Into<String>) -> Response {
    Response { text: text.into(), ..Response::default() }
}

fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Response> {
    texts.into_iter().map(of_text).collect()
}

fn length(tokens: &Value) -> Option<usize> {
    tokens.as_u64().and_then(|tokens| usize::try_from(tokens).ok())
}

fn plain(row: &Columns) -> Found {
    let text = ["response", "text", "output"].iter().find_map(|name| row.get(*name)?.as_str());
    // A thought alone is a response that never came.
    let text = text.or_else(|| given_reasoning(row).map(|_| ""))?;
    Some(Ok(texts([text])))
}

/// A line of a batch's output: a server's answer with its status, or why there is none.
fn batch(row: &Columns) -> Found {
    let failed = |error: &Value| {
        let what =
            error["message"].as_str().or_else(|| error.as_str()).map_or_else(|| error.to_string(), str::to_owned);
        Some(Err(format!("the request failed: {what}")))
    };
    let answer = match row.get("response") {
        Some(Value::Object(response)) => response,
        Some(Value::Null) => return row.get("error").filter(|error| !error.is_null()).and_then(failed),
        _ => return None,
    };
    let body = answer.get("body").and_then(Value::as_object).unwrap_or(answer);
    if let Some(error) = row.get("error").or_else(|| body.get("error")).filter(|error| !error.is_null()) {
        return failed(error);
    }
    choices(body).or_else(|| items(body))
}

/// A chat completion or a completion.
fn choices(row: &Columns) -> Found {
    let choices = row.get("choices")?.as_array()?;
    if !choices.iter().all(|choice| choice.get("message").or_else(|| choice.get("text")).is_some()) {
        return None;
    }
    // The tokens of all choices together.
    let tokens = row.get("usage").and_then(|usage| length(&usage["completion_tokens"])).filter(|_| choices.len() == 1);
    let response = |choice: &Value| {
        let text = match &choice["text"] {
            Value::String(text) => text.clone(),
            _ => said(&choice["message"])?,
        };
        let reasoning = reasoning(&choice["message"]);
        let sum = |list: &Value, name: &str| -> Option<f64> {
            list.as_array()?.iter().map(|token| token.get(name).unwrap_or(token).as_f64()).sum()
        };
        let logprobs = &choice["logprobs"];
        let logprob = sum(&logprobs["content"], "logprob").or_else(|| sum(&logprobs["token_logprobs"], ""));
        let finish = choice["finish_reason"].as_str().map(str::to_owned);
        Some(Response { reasoning, metadata: ResponseMetadata { finish, tokens, logprob }, ..of_text(text) })
    };
    Some(Ok(choices.iter().filter_map(response).collect()))
}

/// What the assistant said in a message; nothing where it only reasoned.
fn said(message: &Value) -> Option<String> {
    let content = content(message).or_else(|| message["refusal"].as_str().map(str::to_owned));
    content.or_else(|| reasoning(message).map(|_| String::new()))
}

/// What a server separated as reasoning.
fn reasoning(message: &Value) -> Option<String> {
    message.as_object().and_then(given_reasoning).map(str::to_owned)
}

/// The content of a message: a text, or the texts of its parts.
fn content(message: &Value) -> Option<String> {
    match &message["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(parts.iter().filter_map(|part| part["text"].as_str()).collect()),
        _ => None,
    }
}

/// The output of the Responses API: reasoning, tool calls and messages.
fn items(row: &Columns) -> Found {
    let items = row.get("output")?.as_array()?;
    if !items.iter().all(|item| item["type"].is_string()) {
        return None;
    }
    let text: Vec<String> = items.iter().filter(|item| item["type"] == "message").filter_map(content).collect();
    let cut_off = row.get("incomplete_details").is_some_and(|why| why["reason"] == "max_output_tokens");
    let metadata = ResponseMetadata {
        finish: cut_off.then(|| "length".to_owned()),
        tokens: row.get("usage").and_then(|usage| length(&usage["output_tokens"])),
        logprob: None,
    };
    let some = !text.is_empty();
    Some(Ok(some.then(|| Response { metadata, ..of_text(text.concat()) }).into_iter().collect()))
}

/// The outputs of one request, as vLLM's offline engine returns them.
fn outputs(row: &Columns) -> Found {
    let outputs = row.get("outputs")?.as_array()?;
    let response = |output: &Value| {
        let text = output.as_str().or_else(|| output["text"].as_str())?;
        let tokens = output["token_ids"].as_array().map(Vec::len);
        let finish = output["finish_reason"].as_str().map(str::to_owned);
        let logprob = output["cumulative_logprob"].as_f64();
        Some(Response { metadata: ResponseMetadata { finish, tokens, logprob }, ..of_text(text) })
    };
    let found: Option<Vec<Response>> = outputs.iter().map(response).collect();
    Some(found.ok_or_else(|| "`outputs` has an element without `text`".to_owned()))
}

fn generated(row: &Columns) -> Found {
    let value = row.get("generated_text").or_else(|| row.get("generated_texts"))?;
    let lengths = row.get("output_lens").and_then(Value::as_array);
    match value {
        Value::String(text) => Some(Ok(texts([text.as_str()]))),
        Value::Array(list) if list.iter().any(Value::is_object) => Some(last_turn("generated_text", list)),
        Value::Array(list) => {
            let mut found = texts(list.iter().filter_map(Value::as_str));
            if let Some(lengths) = lengths.filter(|lengths| lengths.len() == found.len()) {
                found.iter_mut().zip(lengths).for_each(|(response, tokens)| response.metadata.tokens = length(tokens));
            }
            Some(Ok(found))
        }
        _ => Some(Err("`generated_text` is neither a text nor a list".to_owned())),
    }
}

fn completion(row: &Columns) -> Found {
    match row.get("completion")? {
        Value::String(text) => Some(Ok(texts([text.as_str()]))),
        Value::Array(turns) => Some(last_turn("completion", turns)),
        _ => None,
    }
}

/// A sample of EvalPlus. Data sets call their references solutions too, but have no `task_id`.
fn solution(row: &Columns) -> Found {
    row.get("task_id")?;
    Some(Ok(texts([row.get("solution")?.as_str()?])))
}

fn messages(row: &Columns) -> Found {
    Some(match row.get("messages")? {
        Value::Null => return None,
        Value::Array(turns) => last_turn("messages", turns),
        _ => Err("`messages` is not a list".to_owned()),
    })
}

/// The last assistant turn of a conversation.
fn last_turn(name: &str, turns: &[Value]) -> Result<Vec<Response>, String> {
    let turn = turns.iter().rev().find(|turn| turn["role"] == "assistant");
    let turn = turn.ok_or_else(|| format!("no assistant turn in `{name}`"))?;
    let reasoning = reasoning(turn);
    said(turn)
        .map(|text| vec![Response { reasoning, ..of_text(text) }])
        .ok_or_else(|| "the assistant's turn has no text".to_owned())
}

/// A detail of lighteval 0.11 and later. Multiple choice has log-likelihoods and no text.
fn model_response(row: &Columns) -> Found {
    let response = row.get("model_response")?.as_object()?;
    let texts = response.get("text").and_then(Value::as_array);
    let found = texts.into_iter().flatten().enumerate().filter_map(|(at, text)| {
        let tokens = response.get("output_tokens").and_then(|all| all[at].as_array()).map(Vec::len);
        let metadata = ResponseMetadata { tokens, ..ResponseMetadata::default() };
        Some(Response { metadata, ..of_text(text.as_str()?) })
    });
    Some(Ok(found.collect()))
}

/// A detail of lighteval before 0.11: a list of texts, or of log-likelihoods for multiple choice. Until 0.7 the list
/// was written as Python prints it.
fn predictions(row: &Columns) -> Found {
    match row.get("predictions")? {
        Value::Array(list) => Some(Ok(texts(list.iter().filter_map(Value::as_str)))),
        Value::String(printed) => {
            let list = python_texts(printed).unwrap_or_else(|| vec![printed.clone()]);
            Some(Ok(list.into_iter().map(of_text).collect()))
        }
        _ => None,
    }
}

/// The response in a sample of lm-evaluation-harness: `[["text"]]`; choices are `[[["-1.2", "False"]], …]`.
fn resps(row: &Columns) -> Found {
    Some(match &row.get("resps")?[0][0] {
        Value::String(text) => Ok(texts([text.as_str()])),
        Value::Array(_) => Ok(vec![]),
        _ => Err("`resps` does not have the form of lm-evaluation-harness's samples".into()),
    })
}

/// EvalPlus's results: `{"eval": {"HumanEval/0": [{"solution": …}, …], …}}`.
fn results(row: &Columns) -> Found {
    let tasks = row.get("eval")?.as_object()?;
    let samples = tasks.values().filter_map(Value::as_array).flatten();
    let found = texts(samples.filter_map(|sample| sample["solution"].as_str()));
    (!found.is_empty()).then_some(Ok(found))
}

/// A sample of multiple choice by `lopper eval`.
fn without_text(row: &Columns) -> Found {
    row.contains_key("logprobs").then_some(Ok(vec![]))
}

/// The texts of a list that Python printed, without elements that are no texts.
fn python_texts(printed: &str) -> Option<Vec<String>> {
    let list = printed.trim().strip_prefix('[')?.strip_suffix(']')?;
    let (mut found, mut chars) = (vec![], list.chars());
    while let Some(quote) = chars.by_ref().find(|c| matches!(c, '\'' | '"')) {
        let mut text = String::new();
        loop {
            match chars.next()? {
                '\\' => text.push(escaped(&mut chars)?),
                c if c == quote => break,
                c => text.push(c),
            }
        }
        found.push(text);
    }
    Some(found)
}

/// What a backslash and the next characters stand for in Python.
fn escaped(chars: &mut Chars<'_>) -> Option<char> {
    let digits = match chars.next()? {
        'n' => return Some('\n'),
        't' => return Some('\t'),
        'r' => return Some('\r'),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        other => return Some(other),
    };
    let code: String = chars.by_ref().take(digits).collect();
    char::from_u32(u32::from_str_radix(&code, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(row: Value) -> Result<Vec<Response>, String> {
        responses(row.as_object().unwrap())
    }

    /// The texts, joined.
    fn shown(row: &Value) -> String {
        let found = read(row.clone()).unwrap_or_else(|error| panic!("{row}: {error}"));
        found.iter().map(|response| response.text.as_str()).collect::<Vec<_>>().join("|")
    }

    fn assistant(content: Value) -> Value {
        json!({"role": "assistant", "content": content})
    }

    #[test]
    fn the_response_in_every_layout() {
        let chat = json!([{"role": "user", "content": "?"}, assistant(json!("a b"))]);
        let parts = assistant(json!([{"type": "text", "text": "a"}, {"type": "text", "text": " b"}]));
        let choice = json!({"index": 0, "message": assistant(json!("a b")), "finish_reason": "stop"});
        for (row, expected) in [
            (json!({"response": "a b"}), "a b"),
            (json!({"text": null, "output": "a b", "messages": []}), "a b"),
            (json!({"messages": chat}), "a b"),
            (json!({"messages": [parts]}), "a b"),
            (json!({"prompt": "?", "completion": "a b"}), "a b"),
            (json!({"prompt": [], "completion": chat}), "a b"),
            (json!({"messages": [], "choices": [choice, choice]}), "a b|a b"),
            (json!({"object": "text_completion", "choices": [{"text": "a b", "logprobs": null}]}), "a b"),
            (
                json!({"custom_id": "1", "error": null, "response": {"status_code": 200, "body": {"choices": [choice]}}}),
                "a b",
            ),
            (json!({"response": {"choices": [choice]}}), "a b"),
            (json!({"output": [{"type": "reasoning"}, {"type": "message", "content": [{"text": "a b"}]}]}), "a b"),
            (json!({"prompt": "?", "outputs": [{"text": "a"}, {"text": "b"}]}), "a|b"),
            (json!({"outputs": ["a", "b"]}), "a|b"),
            (json!({"generated_text": "a b"}), "a b"),
            (json!({"generated_text": chat}), "a b"),
            (json!({"generated_texts": ["a", "b"], "output_lens": [1, 2]}), "a|b"),
            (json!({"task_id": "HumanEval/0", "solution": "def f():", "_identifier": "x"}), "def f():"),
            (json!({"date": "x", "eval": {"Mbpp/2": [{"solution": "a"}, {"solution": "b"}]}}), "a|b"),
            (json!({"model_response": {"text": ["a", "b"], "logprobs": []}, "metric": {"em": 1.0}}), "a|b"),
            (json!({"predictions": ["a", "b"], "metrics": {}}), "a|b"),
            (json!({"predictions": "['it\\'s\\n', \"b\\x21\\u00e9\"]"}), "it's\n|b!é"),
            (json!({"predictions": "['a"}), "['a"),
            (json!({"doc_id": 0, "resps": [["a b"]], "filtered_resps": ["b"]}), "a b"),
        ] {
            assert_eq!(shown(&row), expected, "{row}");
        }
    }

    #[test]
    fn what_is_known_of_a_response_comes_along() {
        let known = |row: Value| read(row).unwrap().remove(0).metadata;
        let metadata = |finish: &str, tokens: usize, logprob: f64| ResponseMetadata {
            finish: Some(finish.to_owned()),
            tokens: Some(tokens),
            logprob: Some(logprob),
        };
        let own = json!({"text": "a b", "tokens": 2, "mean_logprob": -0.5, "finish_reason": "stop"});
        assert_eq!(known(own), metadata("stop", 2, -1.0));
        let vllm = json!({"text": "a", "token_ids": [4, 5], "cumulative_logprob": -1.0, "finish_reason": "length"});
        assert_eq!(known(json!({"outputs": [vllm]})), metadata("length", 2, -1.0));
        let token = json!({"token": "a", "logprob": -0.5});
        let choice =
            json!({"message": assistant(json!("a")), "logprobs": {"content": [token, token]}, "finish_reason": "stop"});
        let usage = json!({"completion_tokens": 2});
        assert_eq!(known(json!({"choices": [choice], "usage": usage})), metadata("stop", 2, -1.0));
        assert_eq!(known(json!({"choices": [choice, choice], "usage": usage})).tokens, None);
        let choice = json!({"text": "a", "logprobs": {"token_logprobs": [-0.25, -0.75]}, "finish_reason": "stop"});
        assert_eq!(known(json!({"choices": [choice], "usage": usage})), metadata("stop", 2, -1.0));
        let output = json!([{"type": "message", "content": [{"text": "a"}]}]);
        let details = json!({"reason": "max_output_tokens"});
        let items = json!({"output": output, "incomplete_details": details, "usage": {"output_tokens": 3}});
        assert_eq!(known(items), ResponseMetadata { logprob: None, ..metadata("length", 3, 0.0) });
        let detail = json!({"text": ["a"], "output_tokens": [[1, 2, 3]]});
        assert_eq!(known(json!({"model_response": detail})).tokens, Some(3));
        assert_eq!(known(json!({"generated_texts": ["a", "b"], "output_lens": [1, 2]})).tokens, Some(1));
        let sample = read(json!({"resps": [["a"]], "filter": "strict", "outcome": "timeout"})).unwrap().remove(0);
        assert_eq!((sample.filter.as_deref(), sample.outcome.as_deref()), (Some("strict"), Some("timeout")));
    }

    #[test]
    fn reasoning_that_a_server_separated_is_kept_apart() {
        let said = |message: Value| {
            let found = read(json!({"choices": [{"message": message}]})).unwrap().remove(0);
            (found.reasoning.unwrap_or_default(), found.text)
        };
        let of = |reasoning: &str, text: &str| (reasoning.to_owned(), text.to_owned());
        assert_eq!(said(json!({"reasoning_content": "so", "content": "4"})), of("so", "4"));
        assert_eq!(said(json!({"reasoning": "so and", "content": null})), of("so and", ""));
        assert_eq!(said(json!({"content": null, "refusal": "No."})), of("", "No."));
        assert_eq!(said(json!({"content": "", "reasoning_content": null})), of("", ""));
    }

    #[test]
    fn rows_without_text_are_known() {
        for row in [
            json!({"resps": [[["-1.5", "False"]]]}),
            json!({"task": "x", "choices": ["a", "b"], "logprobs": [-1, -2]}),
            json!({"model_response": {"text": [], "logprobs": [-1.0]}}),
            json!({"predictions": [-1.0, -2.0]}),
            json!({"predictions": "[-1.0, -2.0]"}),
            json!({"choices": [{"message": {"content": null, "tool_calls": [{}]}, "finish_reason": "tool_calls"}]}),
            json!({"output": [{"type": "function_call"}]}),
        ] {
            assert_eq!(read(row.clone()), Ok(vec![]), "{row}");
        }
    }

    #[test]
    fn a_row_that_holds_no_response_says_why() {
        for (row, words) in [
            (json!({"question": "?", "id": 1}), "but `question`, `id`"),
            (json!({"problem": "?", "solution": "x"}), "no known layout"),
            (json!({"output": 7}), "`output` is not a text"),
            (json!({"messages": []}), "no assistant turn"),
            (json!({"messages": 1}), "`messages`"),
            (json!({"messages": [{"role": "assistant", "content": null}]}), "no text"),
            (json!({"outputs": [{"index": 0}]}), "`outputs`"),
            (json!({"generated_text": 1}), "`generated_text`"),
            (json!({"resps": [[]]}), "`resps`"),
            (
                json!({"custom_id": "1", "response": null, "error": {"code": "expired", "message": "too late"}}),
                "too late",
            ),
            (json!({"response": {"status_code": 500, "body": {"error": {"message": "overloaded"}}}}), "overloaded"),
        ] {
            let error = read(row.clone()).unwrap_err();
            assert!(error.contains(words), "{row}: {error}");
        }
    }
}
