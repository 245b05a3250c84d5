//! Responses of any program, from JSON lines files of any size: read line by line, measured in batches on all threads
//! and averaged, so that memory does not grow with the file.
//!
//! A line has its text in `response`, `text` or `output`, as the last assistant turn of `messages` (content as a string
//! or a list of parts), or as `resps` of lm-evaluation-harness. Optional are `finish` or `finish_reason` (why
//! generation ended), `tokens` (length), `mean_logprob` (of its tokens under the model that wrote it), and `outcome`
//! (the class of its program's end). lm-evaluation-harness writes each response once for each filter; the first
//! filter's lines count. Lines of multiple-choice tasks have no text and are counted separately. A line that cannot be
//! read is reported and skipped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use lopper_record::study::{Degeneration, Programs};
use lopper_record::{Fault, Progress, Result, Step};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::degeneration::{DegenerationTally, Loop, ResponseMetadata, TextMetrics, text_metrics};
use crate::equations::{CheckedEquation, check_all};

/// Lines that are measured together.
const BATCH: usize = 256;
/// Longest line that is read, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// Most unreadable lines, loops and false equations that are listed one by one.
const LISTED: usize = 10;

/// Figures of a file of responses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FileMetrics {
    /// Repetition and length of the responses.
    pub degeneration: Degeneration,
    /// Equations in the responses.
    pub steps: EquationCounts,
    /// How programs ended, where lines say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Programs>,
    /// The first responses that loop.
    pub loops: Vec<LoopAt>,
    /// Lines without generated text (multiple choice), and repetitions of one response for other filters.
    pub without_text: usize,
    /// Number of lines that could not be read.
    pub broken: usize,
    /// The first of these lines.
    pub broken_lines: Vec<BrokenLine>,
}

/// Equations in the responses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EquationCounts {
    /// Equations that could be checked.
    pub equations: usize,
    /// Of these, the false ones.
    pub wrong: usize,
    /// Responses with an equation.
    pub responses: usize,
    /// Of these, the ones with a false equation.
    pub responses_with_a_slip: usize,
    /// The first false equations.
    pub slips: Vec<FalseEquationAt>,
}

/// Where a response loops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopAt {
    /// The line, from 1.
    pub line: usize,
    /// The loop.
    #[serde(flatten)]
    pub looped: Loop,
}

/// Where a response has its first false equation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FalseEquationAt {
    /// The line, from 1.
    pub line: usize,
    /// The false equation.
    pub equation: String,
    /// The value of its left side.
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

/// The content of one line.
#[derive(Debug, Clone, PartialEq)]
enum Row {
    Text { text: String, metadata: ResponseMetadata, filter: Option<String>, outcome: Option<String> },
    WithoutText,
}

/// The figures of one response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LineMetrics {
    /// The line, from 1.
    pub line: usize,
    /// Repetition and length.
    #[serde(flatten)]
    pub metrics: TextMetrics,
    /// The first false equation.
    pub slip: Option<CheckedEquation>,
}

/// Measures the first `limit` responses of a file, or all; `-` is standard input. `each` is called with the figures of
/// every response, in order.
///
/// # Errors
/// A [`Fault`] when the file cannot be read, or when no line of it holds a response; those of `each`.
pub fn measure(
    path: &Path,
    limit: Option<usize>,
    progress: &dyn Progress,
    each: &mut dyn FnMut(&LineMetrics) -> Result<()>,
) -> Result<FileMetrics> {
    let unreadable = |error: std::io::Error| {
        Fault::new("the responses cannot be read").file(path).got(error.to_string()).hint("check the path")
    };
    let mut reader: Box<dyn BufRead> = match path == Path::new("-") {
        true => Box::new(BufReader::new(std::io::stdin().lock())),
        false => Box::new(BufReader::with_capacity(1 << 20, File::open(path).map_err(unreadable)?)),
    };
    let size = std::fs::metadata(path).map_or(0, |file| file.len() as usize);
    let step = progress.step(Step::new("reading", Step::BYTES, size));
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
        sum.add_batch(&batch, each)?;
        batch.clear();
        step.set(bytes);
        step.check()?;
    }
    if sum.responses == 0 {
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
                None => "multiple-choice samples have no text to measure",
            })
            .into());
    }
    sum.found.degeneration = sum.tally.finish();
    Ok(sum.found)
}

/// A line as it was read.
struct Line {
    /// The reason, where it is too long or not UTF-8.
    text: Result<String, String>,
    bytes: usize,
}

fn next_line(mut reader: &mut dyn BufRead) -> std::io::Result<Option<Line>> {
    let mut buffer = Vec::new();
    let read = (&mut reader).take(MAX_BYTES as u64).read_until(b'\n', &mut buffer)?;
    if read == 0 {
        return Ok(None);
    }
    let mut bytes = read;
    if read == MAX_BYTES && buffer.last() != Some(&b'\n') {
        // The rest of it is skipped without being held in memory.
        loop {
            let part = reader.fill_buf()?;
            let end = part.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(part.len(), |at| at + 1);
            let done = end.is_some() || part.is_empty();
            reader.consume(length);
            bytes += length;
            if done {
                break;
            }
        }
        return Ok(Some(Line { text: Err(format!("longer than {MAX_BYTES} bytes")), bytes }));
    }
    let text = String::from_utf8(buffer)
        .map_err(|error| format!("not UTF-8 from byte {} on", error.utf8_error().valid_up_to()));
    Ok(Some(Line { text, bytes }))
}

#[derive(Default)]
struct Sum {
    tally: DegenerationTally,
    found: FileMetrics,
    filter: Option<Option<String>>,
    responses: usize,
    limit: usize,
}

impl Sum {
    fn full(&self) -> bool {
        self.responses >= self.limit
    }

    fn add_batch(
        &mut self,
        batch: &[(usize, Result<String, String>)],
        each: &mut dyn FnMut(&LineMetrics) -> Result<()>,
    ) -> Result<()> {
        type Measured = Option<Result<(Row, TextMetrics, Vec<CheckedEquation>), String>>;
        let measured: Vec<Measured> = batch
            .par_iter()
            .map(|(_, text)| {
                let text = match text {
                    Ok(text) if text.trim().is_empty() => return None,
                    Ok(text) => text,
                    Err(why) => return Some(Err(why.clone())),
                };
                Some(row(text).map(|row| match &row {
                    Row::Text { text, .. } => {
                        let (metrics, equations) = (text_metrics(text), check_all(text));
                        (row, metrics, equations)
                    }
                    Row::WithoutText => (row, TextMetrics::default(), vec![]),
                }))
            })
            .collect();
        for ((line, _), measured) in batch.iter().zip(measured) {
            if self.full() {
                break;
            }
            match measured {
                None => {}
                Some(Err(why)) => {
                    self.found.broken += 1;
                    if self.found.broken_lines.len() < LISTED {
                        self.found.broken_lines.push(BrokenLine { line: *line, why });
                    }
                }
                Some(Ok((Row::WithoutText, ..))) => self.found.without_text += 1,
                Some(Ok((Row::Text { metadata, filter, outcome, .. }, metrics, equations))) => {
                    if *self.filter.get_or_insert_with(|| filter.clone()) != filter {
                        self.found.without_text += 1;
                        continue;
                    }
                    let mut programs = self.found.programs.unwrap_or_default();
                    if outcome.is_some_and(|class| programs.count(&class)) {
                        self.found.programs = Some(programs);
                    }
                    self.add(*line, metrics, &metadata, equations, each)?;
                }
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        line: usize,
        metrics: TextMetrics,
        metadata: &ResponseMetadata,
        equations: Vec<CheckedEquation>,
        each: &mut dyn FnMut(&LineMetrics) -> Result<()>,
    ) -> Result<()> {
        self.responses += 1;
        self.tally.add(&metrics, metadata);
        let sum = &mut self.found.steps;
        let wrong = equations.iter().filter(|equation| !equation.holds).count();
        sum.equations += equations.len();
        sum.wrong += wrong;
        sum.responses += usize::from(!equations.is_empty());
        sum.responses_with_a_slip += usize::from(wrong > 0);
        let slip = equations.into_iter().find(|equation| !equation.holds);
        if let Some(slip) = slip.as_ref().filter(|_| sum.slips.len() < LISTED) {
            sum.slips.push(FalseEquationAt { line, equation: slip.equation.clone(), value: slip.value.clone() });
        }
        if let Some(looped) = metrics.looped.as_ref().filter(|_| self.found.loops.len() < LISTED) {
            self.found.loops.push(LoopAt { line, looped: looped.clone() });
        }
        each(&LineMetrics { line, metrics, slip })
    }
}

/// Parses a line.
fn row(line: &str) -> Result<Row, String> {
    // The first line may begin with a byte-order mark.
    let value: Value =
        serde_json::from_str(line.trim_start_matches('\u{feff}')).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(fields) = value else { return Err("not a JSON object".into()) };
    let word = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut text = None;
    for name in ["response", "text", "output"] {
        match fields.get(name) {
            Some(Value::String(value)) => text = text.or_else(|| Some(value.clone())),
            None | Some(Value::Null) => {}
            Some(_) => return Err(format!("`{name}` is not a string")),
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
    let metadata = ResponseMetadata { finish, tokens, logprob };
    Ok(Row::Text { text, metadata, filter: word("filter"), outcome: word("outcome") })
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
        _ => Err("`resps` does not have the form of lm-evaluation-harness's samples".into()),
    }
}

#[cfg(test)]
mod tests {
    use lopper_record::NoProgress;

    use super::*;

    fn read(text: &[u8], limit: Option<usize>) -> Result<FileMetrics> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        measure(file.path(), limit, &NoProgress, &mut |_| Ok(()))
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
        assert!(error.fault().unwrap().hint.as_deref().unwrap().contains("multiple-choice"));
    }

    #[test]
    fn unreadable_lines_are_listed_and_the_rest_is_read() {
        let text = b"{\"text\":\"fine\"}\n{\"text\":3}\nnonsense\n{\"question\":\"?\"}\n[1]\n{\"messages\":[]}\n\xff\xfe\n{\"text\":\"too\"}";
        let found = read(text, None).unwrap();
        assert_eq!((found.degeneration.responses, found.broken), (2, 6));
        let lines: Vec<usize> = found.broken_lines.iter().map(|broken| broken.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7]);
        assert!(read(b"nonsense\n", None).is_err() && read(b"", None).is_err());
    }

    #[test]
    fn loops_are_listed_with_their_line() {
        let text = format!("{{\"text\":\"fine\"}}\n{{\"text\":\"{}\"}}\n", "and then ".repeat(20));
        let found = read(text.as_bytes(), None).unwrap();
        assert_eq!((found.loops[0].line, found.loops[0].looped.unit.as_str()), (2, "and then"));
    }
}
