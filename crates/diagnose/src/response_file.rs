//! Responses of any program, from files of any size: read row by row, measured in batches on all threads and averaged,
//! so that memory does not grow with the file.
//!
//! Rows are read by [`lopper_rows`], in any of the layouts of `response_layouts`. lm-evaluation-harness writes each
//! response once for each filter; the first filter's rows count. Rows of multiple-choice tasks have no text and are
//! counted separately. What was thought is taken apart and measured by
//! itself. A row that cannot be read is reported and skipped.

use std::path::Path;

use lopper_model::chat::ReasoningMarkers;
use lopper_record::study::{Degeneration, Programs, Reasoning};
use lopper_record::{Fault, Progress, Result, Step};
use lopper_rows::{Row, RowReader};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::degeneration::{DegenerationTally, Loop, ResponseMetadata, TextMetrics, text_metrics};
use crate::equations::{CheckedEquation, check_all};
use crate::reasoning::{GivenResponse, MeasuredThought, ReasoningTally, is_cut_off};
use crate::response_layouts::{Response, responses};

/// Rows that are measured together.
const BATCH: usize = 256;
/// Bytes read of the file that are measured together; the last row may be beyond them.
const BATCH_BYTES: u64 = 16 << 20;
/// Most unreadable rows, loops and false equations that are listed one by one.
const LISTED: usize = 10;

/// Figures of a file of responses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FileMetrics {
    /// Repetition and length of the responses.
    pub degeneration: Degeneration,
    /// What was thought before the responses; absent where nothing is marked so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Reasoning>,
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
    /// The line, or the row where rows are no lines, from 1.
    pub line: usize,
    /// The loop.
    #[serde(flatten)]
    pub looped: Loop,
}

/// Where a response has its first false equation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FalseEquationAt {
    /// The line, or the row where rows are no lines, from 1.
    pub line: usize,
    /// The false equation.
    pub equation: String,
    /// The value of its left side.
    pub value: String,
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenLine {
    /// The line, or the row where rows are no lines, from 1.
    pub line: usize,
    /// Why.
    pub why: String,
}

/// The figures of one response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LineMetrics {
    /// The line, or the row where rows are no lines, from 1.
    pub line: usize,
    /// Repetition and length.
    #[serde(flatten)]
    pub metrics: TextMetrics,
    /// The first false equation.
    pub slip: Option<CheckedEquation>,
}

/// Measures the first `limit` responses of a file, or all; `-` is standard input. Thoughts stand between `markers`, or
/// between known ones. `each` is called with the figures of
/// every response, in order.
///
/// # Errors
/// A [`Fault`] when the file cannot be read, or when no line of it holds a response; those of `each`.
pub fn measure(
    path: &Path,
    limit: Option<usize>,
    markers: Option<&ReasoningMarkers>,
    progress: &dyn Progress,
    each: &mut dyn FnMut(&LineMetrics) -> Result<()>,
) -> Result<FileMetrics> {
    let mut rows = RowReader::stream(path)?;
    let size = rows.size().map_or(0, |size| usize::try_from(size).unwrap_or(usize::MAX));
    let step = progress.step(Step::new("reading", Step::BYTES, size));
    let mut sum = Sum { limit: limit.unwrap_or(usize::MAX), ..Sum::default() };
    let mut batch = Vec::with_capacity(BATCH);
    while !sum.full() {
        let before = rows.bytes_read();
        while batch.len() < BATCH && rows.bytes_read() - before < BATCH_BYTES {
            let Some(row) = rows.next() else { break };
            batch.push(row?);
        }
        if batch.is_empty() {
            break;
        }
        sum.add_batch(&batch, markers, each)?;
        batch.clear();
        step.set(usize::try_from(rows.bytes_read()).unwrap_or(usize::MAX));
        step.check()?;
    }
    if sum.responses == 0 {
        let first = sum.found.broken_lines.first();
        return Err(Fault::new("the file holds no response")
            .file(path)
            .expected("rows with `response`, `text`, `output`, `messages`, `choices`, `outputs`, `solution` or `resps`")
            .got(match first {
                Some(broken) => format!("line {}: {}", broken.line, broken.why),
                None => format!("{} rows without generated text", sum.found.without_text),
            })
            .hint(match first {
                Some(_) => "docs/reference/diagnostics.md lists the layouts",
                None => "multiple-choice samples have no text to measure",
            })
            .into());
    }
    sum.found.degeneration = sum.tally.finish();
    sum.found.reasoning = sum.thoughts.finish();
    Ok(sum.found)
}

#[derive(Default)]
struct Sum {
    tally: DegenerationTally,
    thoughts: ReasoningTally,
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
        batch: &[(usize, Row)],
        markers: Option<&ReasoningMarkers>,
        each: &mut dyn FnMut(&LineMetrics) -> Result<()>,
    ) -> Result<()> {
        type Measured = Vec<(Response, TextMetrics, Vec<CheckedEquation>, Option<MeasuredThought>)>;
        let measure = |row: &Row| -> Result<Measured, String> {
            let row = row.as_ref().map_err(Clone::clone)?;
            let prompt = row.get("prompt").and_then(serde_json::Value::as_str);
            let measured = responses(row)?.into_iter().map(|response| {
                let cut_off = is_cut_off(response.metadata.finish.as_deref());
                let GivenResponse { thought, answer } =
                    GivenResponse::read(response.reasoning.as_deref(), &response.text, prompt, cut_off, markers);
                let thought = thought.map(|(text, ended)| MeasuredThought::of_text(&text, ended));
                let (metrics, equations) = (text_metrics(&answer), check_all(&answer));
                (response, metrics, equations, thought)
            });
            Ok(measured.collect())
        };
        let measured: Vec<_> = batch.par_iter().map(|(_, row)| measure(row)).collect();
        for ((line, _), measured) in batch.iter().zip(measured) {
            if self.full() {
                break;
            }
            let measured = match measured {
                Ok(measured) => measured,
                Err(why) => {
                    self.found.broken += 1;
                    if self.found.broken_lines.len() < LISTED {
                        self.found.broken_lines.push(BrokenLine { line: *line, why });
                    }
                    continue;
                }
            };
            self.found.without_text += usize::from(measured.is_empty());
            for (response, metrics, equations, thought) in measured {
                if self.full() {
                    break;
                }
                if *self.filter.get_or_insert_with(|| response.filter.clone()) != response.filter {
                    self.found.without_text += 1;
                    continue;
                }
                let mut programs = self.found.programs.unwrap_or_default();
                if response.outcome.is_some_and(|class| programs.count(&class)) {
                    self.found.programs = Some(programs);
                }
                self.thoughts.add(thought.as_ref());
                self.add(*line, metrics, &response.metadata, equations, each)?;
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

#[cfg(test)]
mod tests {
    use lopper_record::NoProgress;

    use super::*;

    fn read(text: &[u8], limit: Option<usize>) -> Result<FileMetrics> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        measure(file.path(), limit, None, &NoProgress, &mut |_| Ok(()))
    }

    #[test]
    fn responses_of_several_programs_are_measured() {
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
        // Several responses of a row count one by one.
        let choices = b"[{\"outputs\": [\"a\", \"b\", \"c\"]}, {\"text\": NaN}, {\"text\": \"d\"}]";
        let count = |limit| read(choices, limit).unwrap().degeneration.responses;
        assert_eq!((count(None), count(Some(2)), count(Some(4))), (4, 2, 4));
    }

    #[test]
    fn loops_are_listed_with_their_line() {
        let text = format!("{{\"text\":\"fine\"}}\n{{\"text\":\"{}\"}}\n", "and then ".repeat(20));
        let found = read(text.as_bytes(), None).unwrap();
        assert_eq!((found.loops[0].line, found.loops[0].looped.unit.as_str()), (2, "and then"));
    }
}
