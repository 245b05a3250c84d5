//! The layouts in which data sets hold prompts and answers, told apart by their columns.
//!
//! | columns | as in |
//! |---|---|
//! | `messages`, with `tools` and `chat_template_kwargs` if any | OpenAI, TRL, `lopper generate` |
//! | `conversations` of `{"from", "value"}`, with `system` and `tools` if any | ShareGPT |
//! | `prompt` and `completion` (or `response`), each a text or messages | TRL; texts are for base models |
//! | `instruction`, `input`, `output` | Alpaca |
//! | `question`, `answer` | question answering |
//!
//! A response's `finish` and tokens are read where `lopper generate` wrote them. Other columns are ignored. Messages
//! may be JSON in a text, as in CSV. Columns of other names are read where [`ColumnNames`] names them.

use super::{Example, ExampleText, RecordedTokens};
use lopper_infer::Finish;
use lopper_model::chat::{Conversation, Message};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A row's columns.
pub type Columns = Map<String, Value>;

/// Columns that hold prompts and answers, where their names do not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnNames {
    /// The prompt: a text, messages, or a whole conversation.
    pub prompt: Option<String>,
    /// The answer, if it has a column of its own; by default the first of `completion`, `response`, `output` and
    /// `answer`, for a prompt that is a text.
    pub answer: Option<String>,
}

/// Columns that the layouts are told apart by.
const PROMPTS: [&str; 5] = ["messages", "conversations", "prompt", "instruction", "question"];
const ANSWERS: [&str; 4] = ["completion", "response", "output", "answer"];

impl ColumnNames {
    /// The row with these columns under the names that the layouts have for them.
    ///
    /// # Errors
    /// A sentence for a row that lacks one of them.
    pub fn renamed(&self, mut row: Columns) -> Result<Columns, String> {
        let Some(prompt) = &self.prompt else { return Ok(row) };
        let mut column = |name: &str| match row.remove(name) {
            Some(value) if !value.is_null() => Ok(value),
            Some(_) => Err(format!("`{name}` is null")),
            None => Err(format!("no column `{name}`, but {}", names(&row))),
        };
        let prompt = listed(column(prompt)?);
        let answer = self.answer.as_deref().map(&mut column).transpose()?;
        let old: Vec<Value> = ANSWERS.iter().filter_map(|name| row.remove(*name)).collect();
        PROMPTS.iter().for_each(|name| drop(row.remove(*name)));
        match (&prompt, answer) {
            (Value::Array(_), Some(answer)) => {
                row.extend([("prompt".to_owned(), prompt), ("completion".to_owned(), answer)]);
            }
            (Value::Array(turns), None) => {
                let share_gpt = turns.iter().any(|turn| turn.get("from").is_some());
                row.insert(if share_gpt { "conversations" } else { "messages" }.to_owned(), prompt);
            }
            (_, answer) => {
                row.insert("question".to_owned(), prompt);
                let answer = answer.or_else(|| old.into_iter().find(|value| !value.is_null()));
                row.extend(answer.map(|answer| ("answer".to_owned(), answer)));
            }
        }
        Ok(row)
    }
}

/// The names of some columns, for a message.
fn names(row: &Columns) -> String {
    row.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

/// Messages that are JSON in a text; anything else as it is.
fn listed(value: Value) -> Value {
    let is_turn = |turn: &Value| turn.get("role").or_else(|| turn.get("from")).is_some();
    match value.as_str().filter(|text| text.trim_start().starts_with('[')).map(serde_json::from_str) {
        Some(Ok(Value::Array(turns))) if turns.iter().all(is_turn) => Value::Array(turns),
        _ => value,
    }
}

/// The prompt of a row, with its answer if it has one.
///
/// # Errors
/// A sentence for a row in none of the layouts, or with a column that is not what its layout has.
pub fn example(mut row: Columns) -> Result<Example, String> {
    let text = text(&mut row)?;
    let tokens = match (row.remove("prompt_token_ids"), row.remove("response_token_ids")) {
        (Some(prompt), Some(response)) => Some(RecordedTokens {
            prompt_token_ids: parsed("prompt_token_ids", prompt)?,
            response_token_ids: parsed("response_token_ids", response)?,
        }),
        _ => None,
    };
    // Other programs may use `finish` for something else.
    let finish = row.remove("finish").and_then(|finish| serde_json::from_value::<Finish>(finish).ok());
    Ok(Example { text, tokens, finish })
}

/// The conversation of a row that a model is to answer: without the answer that it may hold.
///
/// # Errors
/// As [`example`].
pub fn prompt(row: Columns) -> Result<Conversation, String> {
    Ok(prompt_and_answer(row)?.0)
}

/// The conversation of a row that a model is to answer, and the answer that the row holds, if it does.
///
/// # Errors
/// As [`example`].
pub fn prompt_and_answer(row: Columns) -> Result<(Conversation, Option<String>), String> {
    let (mut conversation, mut answer) = match example(row)?.text {
        ExampleText::Chat(conversation) => (conversation, None),
        ExampleText::Plain { prompt, response } => (vec![Message::user(prompt)].into(), Some(response)),
    };
    while let Some(last) = conversation.messages.pop_if(|last| last.role == "assistant") {
        // Of several in a row, the one right after the prompt.
        answer = Some(last.text().into_owned());
    }
    match conversation.messages.iter().all(|message| message.role == "system") {
        true => Err("a conversation without a user message".to_owned()),
        false => Ok((conversation, answer.filter(|answer| !answer.trim().is_empty()))),
    }
}

fn text(row: &mut Columns) -> Result<ExampleText, String> {
    row.retain(|_, value| !value.is_null());
    if let Some(messages) = row.remove("messages").map(listed) {
        return chat(row, parsed("messages", messages)?);
    }
    if let Some(turns) = row.remove("conversations").map(listed) {
        return chat(
            row,
            parsed::<Vec<Columns>>("conversations", turns)?.into_iter().map(turn).collect::<Result<_, _>>()?,
        );
    }
    if let Some(prompt) = row.remove("prompt") {
        let answer = row.remove("completion").or_else(|| row.remove("response"));
        return match (prompt, answer) {
            (Value::String(prompt), Some(Value::String(response))) => Ok(ExampleText::Plain { prompt, response }),
            (prompt, answer) => {
                let mut messages = turns("prompt", prompt, "user")?;
                if let Some(answer) = answer {
                    messages.extend(turns("completion", answer, "assistant")?);
                }
                chat(row, messages)
            }
        };
    }
    let mut string = |name: &str| row.remove(name).map(|value| parsed::<String>(name, value)).transpose();
    let (question, answer) = match string("instruction")? {
        Some(instruction) => {
            let question = match string("input")?.filter(|input| !input.trim().is_empty()) {
                Some(input) => format!("{instruction}\n\n{input}"),
                None => instruction,
            };
            (Some(question), string("output")?)
        }
        None => (string("question")?, string("answer")?),
    };
    match question {
        Some(question) => {
            let answer = answer.map(Message::assistant);
            chat(row, [Message::user(question)].into_iter().chain(answer).collect())
        }
        None => Err(format!(
            "no known layout: neither `messages`, `conversations`, `prompt`, `instruction` nor `question`, but {}",
            names(row)
        )),
    }
}

/// The conversation of `messages`, with what else the row says about it.
fn chat(row: &mut Columns, messages: Vec<Message>) -> Result<ExampleText, String> {
    let tools = match row.remove("tools") {
        // Some data sets hold them as JSON in a text.
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => Some(serde_json::from_str(&text).map_err(|e| format!("`tools`: {e}"))?),
        tools => tools.filter(|tools| tools.as_array().is_none_or(|list| !list.is_empty())),
    };
    let chat_template_kwargs = row.remove("chat_template_kwargs").map(|v| parsed("chat_template_kwargs", v));
    let conversation =
        Conversation { messages, tools, chat_template_kwargs: chat_template_kwargs.transpose()?.unwrap_or_default() };
    let system = row.remove("system").and_then(|system| system.as_str().map(str::to_owned));
    Ok(ExampleText::Chat(conversation.with_system(system.as_deref().filter(|system| !system.is_empty()))))
}

/// Messages, or the text of one by `role`.
fn turns(name: &str, value: Value, role: &str) -> Result<Vec<Message>, String> {
    match value {
        Value::String(text) => Ok(vec![Message::new(role, text)]),
        value => parsed(name, value),
    }
}

/// A turn in ShareGPT's words.
fn turn(mut turn: Columns) -> Result<Message, String> {
    if turn.contains_key("role") {
        return parsed("conversations", Value::Object(turn));
    }
    let mut string = |name: &str| match turn.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(format!("`conversations`: a turn without a text `{name}`")),
    };
    let (from, value) = (string("from")?, string("value")?);
    let role = match from.as_str() {
        "human" | "user" => "user",
        "gpt" | "assistant" | "model" | "chatgpt" | "bot" | "function_call" => "assistant",
        "system" => "system",
        "tool" | "observation" | "function_response" => "tool",
        other => return Err(format!("`conversations`: nobody is called {other:?}")),
    };
    Ok(Message::new(role, value))
}

fn parsed<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| format!("`{name}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(row: Value) -> Result<Example, String> {
        example(row.as_object().unwrap().clone())
    }

    /// `role: text` of every message.
    fn shown(text: &ExampleText) -> String {
        match text {
            ExampleText::Chat(chat) => {
                let turns: Vec<String> =
                    chat.messages.iter().map(|turn| format!("{}: {}", turn.role, turn.text())).collect();
                turns.join("; ")
            }
            ExampleText::Plain { prompt, response } => format!("{prompt} -> {response}"),
        }
    }

    #[test]
    fn the_same_exchange_in_every_layout() {
        let (hi, ho) = (json!({"role": "user", "content": "hi"}), json!({"role": "assistant", "content": "ho"}));
        let part = |text| json!([{"type": "text", "text": text}]);
        let chat = "user: hi; assistant: ho";
        for (row, expected) in [
            (json!({"messages": [hi, ho]}), chat),
            (
                json!({"messages": [{"role": "user", "content": part("hi")}, {"role": "assistant", "content": part("ho")}]}),
                chat,
            ),
            (json!({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}), chat),
            (json!({"conversations": [hi, ho]}), chat),
            (json!({"messages": json!([hi, ho]).to_string()}), chat),
            (json!({"prompt": [hi], "completion": [ho]}), chat),
            (json!({"prompt": [hi], "completion": "ho"}), chat),
            (json!({"prompt": "hi", "completion": " ho"}), "hi ->  ho"),
            (json!({"prompt": "hi", "response": "ho", "finish": "other"}), "hi -> ho"),
            (json!({"instruction": "hi", "input": "", "output": "ho"}), chat),
            (json!({"instruction": "hi", "input": "you", "output": "ho"}), "user: hi\n\nyou; assistant: ho"),
            (json!({"question": "hi", "answer": "ho", "messages": null}), chat),
            (json!({"system": "s", "question": "hi", "answer": "ho"}), "system: s; user: hi; assistant: ho"),
        ] {
            let read = read(row.clone()).unwrap_or_else(|error| panic!("{row}: {error}"));
            assert_eq!((shown(&read.text).as_str(), read.finish), (expected, None), "{row}");
            let (prompt, answer) = prompt_and_answer(row.as_object().unwrap().clone()).unwrap();
            assert_eq!(prompt.messages.last().unwrap().role, "user", "{row}");
            assert_eq!(answer.unwrap().trim(), "ho", "{row}");
        }
    }

    #[test]
    fn columns_of_any_name_hold_the_prompt_and_the_answer() {
        let (hi, ho) = (json!({"role": "user", "content": "hi"}), json!({"role": "assistant", "content": "ho"}));
        let sharegpt = json!([{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]);
        let chat = "user: hi; assistant: ho";
        for (row, prompt, answer, expected) in [
            (json!({"problem": "hi", "answer": "ho", "messages": [ho]}), "problem", None, chat),
            (json!({"problem": "hi", "solution": "ho", "answer": "4"}), "problem", Some("solution"), chat),
            (json!({"instruction": "hi", "output": "ho", "input": "you"}), "instruction", None, chat),
            (json!({"problem": "[1, 2]", "answer": "ho"}), "problem", None, "user: [1, 2]; assistant: ho"),
            (json!({"chat": [hi, ho], "answer": "4"}), "chat", None, chat),
            (json!({"chat": sharegpt}), "chat", None, chat),
            (json!({"chat": sharegpt.to_string(), "system": "s"}), "chat", None, &format!("system: s; {chat}")),
            (json!({"chat": [hi], "best": "ho"}), "chat", Some("best"), chat),
        ] {
            let columns = ColumnNames { prompt: Some(prompt.to_owned()), answer: answer.map(str::to_owned) };
            let renamed = columns.renamed(row.as_object().unwrap().clone()).and_then(example);
            assert_eq!(renamed.map(|read| shown(&read.text)), Ok(expected.to_owned()), "{row}");
        }
        let missing = |row: Value| {
            let columns = ColumnNames { prompt: Some("problem".to_owned()), answer: None };
            columns.renamed(row.as_object().unwrap().clone()).unwrap_err()
        };
        assert_eq!(missing(json!({"a": 1, "b": 2})), "no column `problem`, but `a`, `b`");
        assert_eq!(missing(json!({"problem": null})), "`problem` is null");
    }

    #[test]
    fn tools_variables_and_tokens_come_along() {
        let row = json!({"messages": [{"role": "user", "content": "hi", "name": "A"}], "tools": "[{\"name\": \"add\"}]",
            "chat_template_kwargs": {"enable_thinking": false}, "finish": "stop", "prompt_token_ids": [1, 2],
            "response_token_ids": [3]});
        let Example { text: ExampleText::Chat(chat), tokens, finish } = read(row).unwrap() else { panic!() };
        assert_eq!(chat.tools, Some(json!([{"name": "add"}])));
        assert_eq!(chat.chat_template_kwargs["enable_thinking"], json!(false));
        assert_eq!(chat.messages[0].other["name"], json!("A"));
        assert_eq!(tokens, Some(RecordedTokens { prompt_token_ids: vec![1, 2], response_token_ids: vec![3] }));
        assert_eq!(finish, Some(Finish::Stop));
    }

    #[test]
    fn a_row_in_no_layout_says_what_it_has() {
        for (row, words) in [
            (json!({"text": "x", "id": 3}), "`text`, `id`"),
            (json!({"messages": "x"}), "`messages`"),
            (json!({"messages": [{"content": "x"}]}), "role"),
            (json!({"conversations": [{"from": "narrator", "value": "x"}]}), "narrator"),
            (json!({"conversations": [{"from": "human"}]}), "`value`"),
            (json!({"question": 3}), "`question`"),
            (json!({"messages": [], "prompt_token_ids": ["a"], "response_token_ids": []}), "`prompt_token_ids`"),
        ] {
            let error = read(row.clone()).unwrap_err();
            assert!(error.contains(words), "{row}: {error}");
        }
        let only_system = json!({"messages": [{"role": "system", "content": "x"}]});
        assert!(prompt(only_system.as_object().unwrap().clone()).unwrap_err().contains("user message"));
    }
}
