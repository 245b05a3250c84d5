//! Responses of other programs, from files of JSON lines of any size: read line by line, examined a batch at a
//! time on all threads, and summed up, so that memory does not grow with the file.
//!
//! A line gives its text as `response`, `text` or `output`, as the last assistant turn of `messages` (content as a
//! text or as a list of parts), or as `resps` of lm-evaluation-harness. Where it says so, `finish` or
//! `finish_reason` is why it ended, `tokens` how long it is, `mean_logprob` how probable its author found it, and `outcome` how
//! its program ended.
//! lm-evaluation-harness writes each response once for each filter; the first filter's lines count. Lines of
//! multiple choice, which have no text, are counted apart. A line that cannot be read is named and passed over.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Result;
use lopper_record::Fault;
use lopper_record::study::{Degeneration, Programs};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chain::{Step, steps};
use super::degeneration::{Circumstances, Tally, TextFigures, text_figures};

/// Lines that are examined together.
const BATCH: usize = 256;
/// Longest line that is read, in bytes.
const MOST_BYTES: usize = 64 << 20;
/// Broken lines and loops that are told one by one.
const TOLD: usize = 10;

/// What a file of responses tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FileFigures {
    /// Of the responses' text.
    pub degeneration: Degeneration,
    /// Worked steps.
    pub steps: StepFigures,
    /// How programs ended, where lines say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Programs>,
    /// The first responses that loop.
    pub loops: Vec<LoopAt>,
    /// Lines without generated text (multiple choice), and repetitions of one response for other filters.
    pub without_text: usize,
    /// Lines that could not be read.
    pub broken: usize,
    /// The first of them.
    pub broken_lines: Vec<BrokenLine>,
}

/// Equations in the responses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFigures {
    /// Equations that could be checked.
    pub equations: usize,
    /// Of these, false ones.
    pub wrong: usize,
    /// Responses with an equation.
    pub responses: usize,
    /// Of these, the ones with a false equation.
    pub responses_with_a_slip: usize,
    /// The first slips.
    pub slips: Vec<SlipAt>,
}

/// Where a response loops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopAt {
    /// The line, from 1.
    pub line: usize,
    /// The loop.
    #[serde(flatten)]
    pub looped: super::Loop,
}

/// Where a response slips.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlipAt {
    /// The line, from 1.
    pub line: usize,
    /// The false equation.
    pub equation: String,
    /// What its left side comes to.
    pub value: String,
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenLine {
    /// The line, from 1.
    pub line: usize,
    /// Why.
    pub why: String,
}

/// What one line holds.
#[derive(Debug, Clone, PartialEq)]
enum Row {
    Text { text: String, around: Circumstances, filter: Option<String>, outcome: Option<String> },
    WithoutText,
}

/// The figures of one line, as they are written for each response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LineFigures {
    /// The line, from 1.
    pub line: usize,
    /// Of its text.
    #[serde(flatten)]
    pub figures: TextFigures,
    /// The first false equation.
    pub slip: Option<Step>,
}

/// Examines the first `limit` responses of a file. `observer` is told the bytes read so far and may stop the
/// reading; `each` gets the figures of every response, in order.
///
/// # Errors
/// A [`Fault`] when the file cannot be read, or when no line of it holds a response.
pub fn examine(
    path: &Path,
    limit: Option<usize>,
    observer: &dyn Fn(u64) -> Result<()>,
    each: &mut dyn FnMut(&LineFigures) -> Result<()>,
) -> Result<FileFigures> {
    let unreadable = |error: std::io::Error| {
        Fault::new("the responses cannot be read").file(path).got(error.to_string()).hint("check the path")
    };
    let mut reader: Box<dyn BufRead> = match path == Path::new("-") {
        true => Box::new(BufReader::new(std::io::stdin().lock())),
        false => Box::new(BufReader::with_capacity(1 << 20, File::open(path).map_err(unreadable)?)),
    };
    let mut sum = Sum { limit: limit.unwrap_or(usize::MAX), ..Sum::default() };
    let (mut line, mut bytes, mut batch) = (0, 0, Vec::with_capacity(BATCH));
    while !sum.full() {
        match next_line(&mut reader).map_err(unreadable)? {
            Some(Line { text, bytes: length }) => {
                line += 1;
                bytes += length;
                batch.push((line, text));
                if batch.len() < BATCH {
                    continue;
                }
            }
            None if batch.is_empty() => break,
            None => {}
        }
        sum.take(&batch, each)?;
        batch.clear();
        observer(bytes)?;
    }
    if sum.tally.finish().responses == 0 {
        let first = sum.found.broken_lines.first();
        return Err(Fault::new("the file holds no response")
            .file(path)
            .expected("JSON lines with `response`, `text`, `output`, `messages` or lm-evaluation-harness's `resps`")
            .got(match first {
                Some(broken) => format!("line {}: {}", broken.line, broken.why),
                None => format!("{line} lines without generated text"),
            })
            .hint(match first {
                Some(_) => "one JSON object a line; docs/reference/diagnostics.md lists the forms",
                None => "multiple-choice samples have no text to examine",
            })
            .into());
    }
    sum.found.degeneration = sum.tally.finish();
    Ok(sum.found)
}

/// A line as it was read.
struct Line {
    /// Nothing where it is too long or not UTF-8, and why.
    text: Result<String, String>,
    bytes: u64,
}

fn next_line(mut reader: &mut dyn BufRead) -> std::io::Result<Option<Line>> {
    let mut buffer = Vec::new();
    let read = (&mut reader).take(MOST_BYTES as u64).read_until(b'\n', &mut buffer)?;
    if read == 0 {
        return Ok(None);
    }
    let mut bytes = read as u64;
    if read == MOST_BYTES && buffer.last() != Some(&b'\n') {
        // The rest of it is passed over without being kept.
        loop {
            let part = reader.fill_buf()?;
            let end = part.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(part.len(), |at| at + 1);
            let done = end.is_some() || part.is_empty();
            reader.consume(length);
            bytes += length as u64;
            if done {
                break;
            }
        }
        return Ok(Some(Line { text: Err(format!("longer than {MOST_BYTES} bytes")), bytes }));
    }
    let text = String::from_utf8(buffer)
        .map_err(|error| format!("not UTF-8 from byte {} on", error.utf8_error().valid_up_to()));
    Ok(Some(Line { text, bytes }))
}

#[derive(Default)]
struct Sum {
    tally: Tally,
    found: FileFigures,
    filter: Option<Option<String>>,
    responses: usize,
    limit: usize,
}

impl Sum {
    fn full(&self) -> bool {
        self.responses >= self.limit
    }

    fn take(
        &mut self,
        batch: &[(usize, Result<String, String>)],
        each: &mut dyn FnMut(&LineFigures) -> Result<()>,
    ) -> Result<()> {
        type Examined = Option<Result<(Row, TextFigures, Vec<Step>), String>>;
        let examined: Vec<Examined> = batch
            .par_iter()
            .map(|(_, text)| {
                let text = match text {
                    Ok(text) if text.trim().is_empty() => return None,
                    Ok(text) => text,
                    Err(why) => return Some(Err(why.clone())),
                };
                Some(row(text).map(|row| match &row {
                    Row::Text { text, .. } => {
                        let (figures, steps) = (text_figures(text), steps(text));
                        (row, figures, steps)
                    }
                    Row::WithoutText => (row, TextFigures::default(), vec![]),
                }))
            })
            .collect();
        for ((line, _), examined) in batch.iter().zip(examined) {
            if self.full() {
                break;
            }
            match examined {
                None => {}
                Some(Err(why)) => {
                    self.found.broken += 1;
                    if self.found.broken_lines.len() < TOLD {
                        self.found.broken_lines.push(BrokenLine { line: *line, why });
                    }
                }
                Some(Ok((Row::WithoutText, ..))) => self.found.without_text += 1,
                Some(Ok((Row::Text { around, filter, outcome, .. }, figures, steps))) => {
                    if *self.filter.get_or_insert_with(|| filter.clone()) != filter {
                        self.found.without_text += 1;
                        continue;
                    }
                    let mut programs = self.found.programs.unwrap_or_default();
                    if outcome.is_some_and(|class| programs.count(&class)) {
                        self.found.programs = Some(programs);
                    }
                    self.add(*line, figures, &around, steps, each)?;
                }
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        line: usize,
        figures: TextFigures,
        around: &Circumstances,
        steps: Vec<Step>,
        each: &mut dyn FnMut(&LineFigures) -> Result<()>,
    ) -> Result<()> {
        self.responses += 1;
        self.tally.add(&figures, around);
        let sum = &mut self.found.steps;
        let wrong = steps.iter().filter(|step| !step.holds).count();
        sum.equations += steps.len();
        sum.wrong += wrong;
        sum.responses += usize::from(!steps.is_empty());
        sum.responses_with_a_slip += usize::from(wrong > 0);
        let slip = steps.into_iter().find(|step| !step.holds);
        if let Some(step) = slip.as_ref().filter(|_| sum.slips.len() < TOLD) {
            sum.slips.push(SlipAt { line, equation: step.equation.clone(), value: step.value.clone() });
        }
        if let Some(looped) = figures.looped.as_ref().filter(|_| self.found.loops.len() < TOLD) {
            self.found.loops.push(LoopAt { line, looped: looped.clone() });
        }
        each(&LineFigures { line, figures, slip })
    }
}

/// Reads a line.
fn row(line: &str) -> Result<Row, String> {
    // A byte-order mark may stand before the first.
    let value: Value =
        serde_json::from_str(line.trim_start_matches('\u{feff}')).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(fields) = value else { return Err("not a JSON object".into()) };
    let word = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut text = None;
    for name in ["response", "text", "output"] {
        match fields.get(name) {
            Some(Value::String(value)) => text = text.or_else(|| Some(value.clone())),
            None | Some(Value::Null) => {}
            Some(_) => return Err(format!("`{name}` is not a text")),
        }
    }
    let text = match (text, fields.get("messages"), fields.get("resps")) {
        (Some(text), ..) => Some(text),
        (None, Some(messages), _) => Some(last_turn(messages)?),
        (None, None, Some(resps)) => harness(resps)?,
        (None, None, None) if fields.contains_key("logprobs") => None,
        (None, None, None) => return Err("none of `response`, `text`, `output`, `messages`, `resps`".into()),
    };
    let Some(text) = text else { return Ok(Row::WithoutText) };
    let tokens = fields.get("tokens").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let mean = fields.get("mean_logprob").and_then(Value::as_f64);
    let logprob = tokens.zip(mean).map(|(tokens, mean)| tokens as f64 * mean);
    let finish = word("finish").or_else(|| word("finish_reason"));
    let around = Circumstances { finish, tokens, logprob };
    Ok(Row::Text { text, around, filter: word("filter"), outcome: word("outcome") })
}

/// The last assistant turn of a conversation.
fn last_turn(messages: &Value) -> Result<String, String> {
    let turns = messages.as_array().ok_or("`messages` is not a list")?;
    let turn = turns.iter().rev().find(|turn| turn["role"] == "assistant").ok_or("no assistant turn in `messages`")?;
    match &turn["content"] {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => Ok(parts.iter().filter_map(|part| part["text"].as_str()).collect()),
        _ => Err("the assistant's turn has no text".into()),
    }
}

/// The response in a sample of lm-evaluation-harness: `[["text"]]`; choices are `[[["-1.2", "False"]], …]`.
fn harness(resps: &Value) -> Result<Option<String>, String> {
    match &resps[0][0] {
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(_) => Ok(None),
        _ => Err("`resps` has not the form of lm-evaluation-harness's samples".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &[u8]) -> std::path::PathBuf {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("lopper-responses-{}-{}.jsonl", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn read(text: &[u8], limit: Option<usize>) -> Result<FileFigures> {
        let path = write(text);
        let found = examine(&path, limit, &|_| Ok(()), &mut |_| Ok(()));
        std::fs::remove_file(path).unwrap();
        found
    }

    #[test]
    fn every_form_of_line_is_read() {
        let text = concat!(
            "{\"response\":\"one two\",\"finish\":\"stop\"}\n",
            "{\"text\":\"one two three\",\"finish_reason\":\"length\"}\r\n\n",
            "{\"output\":\"1 + 1 = 3\",\"tokens\":4,\"mean_logprob\":-0.5}\n",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a b c d e\"},{\"role\":\"assistant\",\"content\":\"x\"}]}\n",
            "{\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"x y\"}]}]}\n",
            "{\"doc_id\":0,\"resps\":[[\"so 2 + 2 = 4\"]],\"filter\":\"strict\"}",
        );
        let found = read(text.as_bytes(), None).unwrap();
        // The last line has another filter than the first had, which is none.
        assert_eq!((found.degeneration.responses, found.without_text, found.broken), (5, 1, 0));
        assert_eq!((found.steps.equations, found.steps.wrong), (1, 1));
        assert_eq!(found.steps.slips[0].line, 4);
        assert_eq!(found.degeneration.finish.len(), 2);
        assert_eq!(found.degeneration.mean_logprob.unwrap().value, -0.5);
        assert_eq!(read(text.as_bytes(), Some(2)).unwrap().degeneration.responses, 2);
    }

    #[test]
    fn samples_of_the_harness_count_once() {
        let line = |filter: &str, text: &str| {
            format!("{{\"doc_id\":0,\"filter\":\"{filter}\",\"resps\":[[\"{text}\"]],\"filtered_resps\":[\"4\"]}}\n")
        };
        let both = line("strict", "a b c") + &line("flexible", "a b c") + &line("strict", "d e");
        let found = read(both.as_bytes(), None).unwrap();
        assert_eq!((found.degeneration.responses, found.without_text), (2, 1));
        let choices =
            "{\"resps\":[[[\"-1.5\",\"False\"]],[[\"-2\",\"True\"]]]}\n{\"logprobs\":[-1,-2],\"task\":\"x\"}\n";
        let error = read(choices.as_bytes(), None).unwrap_err();
        assert!(error.downcast_ref::<Fault>().unwrap().hint.as_deref().unwrap().contains("multiple-choice"));
    }

    #[test]
    fn broken_lines_are_named_and_the_rest_is_read() {
        let text = b"{\"text\":\"fine\"}\n{\"text\":3}\nnonsense\n{\"question\":\"?\"}\n[1]\n{\"messages\":[]}\n\xff\xfe\n{\"text\":\"too\"}";
        let found = read(text, None).unwrap();
        assert_eq!((found.degeneration.responses, found.broken), (2, 6));
        let lines: Vec<usize> = found.broken_lines.iter().map(|broken| broken.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7]);
        assert!(read(b"nonsense\n", None).is_err() && read(b"", None).is_err());
    }

    #[test]
    fn loops_are_told_with_their_line() {
        let text = format!("{{\"text\":\"fine\"}}\n{{\"text\":\"{}\"}}\n", "and then ".repeat(20));
        let found = read(text.as_bytes(), None).unwrap();
        assert_eq!((found.loops[0].line, found.loops[0].looped.unit.as_str()), (2, "and then"));
    }
}
