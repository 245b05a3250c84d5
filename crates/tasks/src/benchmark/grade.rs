//! From replies to grades.

use std::collections::BTreeMap;

use lopper_infer::Loglik;
use lopper_record::{Context, Result};
use lopper_sandbox::{Outcome, Program, Verdict as Ended};

use super::code::class;
use super::items::Item;
use super::sanitize::names;
use super::spec::{AnswerSpec, Check, INSTRUCTION_METRICS, Reading, Spec};
use super::template::{Fields, Templates};
use crate::instructions::{Followed, judge};
use crate::metrics::choice::{best, best_per_length};
use crate::metrics::number::last_number;
use crate::metrics::pass_at_k::pass_at_k;
use crate::metrics::rouge::rouge;
use crate::outcome::{SampleResult, UNFINISHED_THOUGHT};
use crate::requests::Response;
use lopper_answer::extract::{ChoiceFilter, ExactMatch, RegexFilter, boxed, chat_answer, python_block};
use lopper_answer::normalized::{marked_answer, same_normalized};
use lopper_answer::{Verdict, equivalent};

/// A graded item.
#[derive(Debug, Default)]
pub(crate) struct Graded {
    pub values: BTreeMap<String, f64>,
    /// What the item counts in metrics where items do not all count the same.
    pub weights: BTreeMap<String, f64>,
    pub extracted: Option<String>,
    pub outcome: Option<String>,
    /// Every response, where there are several.
    pub samples: Vec<SampleResult>,
}

/// Grades choices by their log-likelihoods.
pub(crate) fn choices(spec: &Spec, item: &Item, logliks: &[Loglik]) -> Graded {
    let sums: Vec<f64> = logliks.iter().map(|loglik| loglik.sum).collect();
    let picked = best(&sums);
    let binary = |picked: Option<usize>| f64::from(u8::from(picked == Some(item.label)));
    let mut values = BTreeMap::from([("acc".to_owned(), binary(picked))]);
    if spec.choices.as_ref().is_some_and(|choices| choices.norm) {
        let lengths = item.choices.iter().map(|choice| choice.chars().count());
        values.insert("acc_norm".to_owned(), binary(best_per_length(&sums, lengths)));
    }
    let extracted = picked.and_then(|at| item.choices.get(at)).map(|choice| choice.trim_start().to_owned());
    Graded { values, extracted, ..Graded::default() }
}

/// How an answer is read from a response.
enum Reader {
    Pattern(RegexFilter),
    /// With the expression that gives the choices.
    Choices(Box<ChoiceFilter>, String),
}

impl Reader {
    fn new(reading: &Reading) -> Result<Self> {
        let Reading { pattern, group_select, choices, ignore, .. } = reading;
        Ok(match choices {
            None => Self::Pattern(RegexFilter::new(pattern, *group_select, None)?),
            Some(list) => {
                Self::Choices(Box::new(ChoiceFilter::new(pattern, *group_select, ignore.clone())?), list.clone())
            }
        })
    }

    fn fallback(&self) -> &str {
        match self {
            Self::Pattern(filter) => filter.fallback(),
            Self::Choices(filter, _) => filter.fallback(),
        }
    }
}

/// The program of a response, run.
#[derive(Debug, Clone)]
pub(crate) struct ProgramRun {
    /// The code that was taken from the response.
    pub code: String,
    pub outcome: Outcome,
}

/// Judges generated answers.
pub(crate) struct Judge<'a> {
    spec: &'a Spec,
    answer: &'a AnswerSpec,
    readings: Vec<(String, Reader)>,
    exact: ExactMatch,
    templates: Templates,
}

impl<'a> Judge<'a> {
    pub fn new(spec: &'a Spec) -> Result<Self> {
        let answer = spec.answer.as_ref().context("a task whose answers are generated says how they are judged")?;
        let reader = |reading: &Reading| Ok((reading.metric.clone(), Reader::new(reading)?));
        let readings = answer.readings.iter().map(reader).collect::<Result<_>>()?;
        let exact = ExactMatch::new(answer.ignore.clone())?;
        Ok(Self { spec, answer, readings, exact, templates: Templates::new() })
    }

    /// The names that the tests of an item call, where its responses are to be sanitized.
    pub fn entry(&self, item: &Item) -> Result<Option<Vec<String>>> {
        let Some(entry) = &self.answer.entry else { return Ok(None) };
        Ok(Some(names(&self.text(item, entry, &Fields::new(&item.doc))?)))
    }

    /// The program of a response, and the code of the response in it; a template that fails on it is the task's fault.
    /// `sanitized` is what the task reads by [`entry`](Self::entry).
    pub fn program(&self, item: &Item, response: &str, sanitized: Option<&str>) -> Result<(Program, String)> {
        let block = python_block(response).unwrap_or(response);
        let mut further = vec![("response", response), ("block", block)];
        further.extend(sanitized.map(|code| ("sanitized", code)));
        let fields = Fields::new(&item.doc).with(&further);
        let text = |template: &Option<String>| self.text(item, template.as_deref().unwrap_or_default(), &fields);
        let program = Program::new(text(&self.answer.program)?, text(&self.answer.tests)?);
        let program = match &self.answer.value {
            Some(value) => program.value(value.as_str()),
            None => program,
        };
        Ok((program, sanitized.filter(|code| !code.is_empty()).unwrap_or(block).to_owned()))
    }

    fn text(&self, item: &Item, template: &str, fields: &Fields) -> Result<String> {
        Ok(self
            .templates
            .text(template, fields)
            .map_err(|error| anyhow::anyhow!("task {}, row {}: {error}", self.spec.name, item.row))?)
    }

    /// Grades all responses to an item; `ran` has what became of each one's program.
    pub fn grade(&self, item: &Item, responses: &[Response], ran: &[Option<ProgramRun>]) -> Result<Graded> {
        let mut judged = Vec::with_capacity(responses.len());
        for (at, response) in responses.iter().enumerate() {
            judged.push(match response.is_unfinished_thought() {
                true => self.unfinished(),
                false => self.one(item, &response.text, ran.get(at).and_then(Option::as_ref))?,
            });
        }
        let count = judged.len().max(1) as f64;
        let mut graded = Graded::default();
        for (name, value) in judged.iter().flat_map(|one| &one.values) {
            *graded.values.entry(name.clone()).or_default() += value / count;
        }
        graded.weights = weights(item);
        if let Some(first) = judged.first() {
            (graded.extracted, graded.outcome) = (first.extracted.clone(), first.outcome.clone());
        }
        if responses.len() > 1 {
            let primary = self.spec.metrics().into_iter().next().unwrap_or_default();
            let right = judged.iter().filter(|one| one.values.get(&primary) == Some(&1.0)).count();
            if self.answer.check != Check::Rouge {
                for k in ks(responses.len()) {
                    graded.values.insert(format!("pass@{k}"), pass_at_k(responses.len(), right, k));
                }
            }
            graded.samples = judged
                .into_iter()
                .zip(responses)
                .map(|(one, response)| SampleResult {
                    score: one.values.get(&primary).copied().unwrap_or_default(),
                    reasoning: response.thought.as_ref().map(|thought| thought.text.clone()),
                    reasoning_tokens: response.thought.as_ref().and_then(|thought| thought.tokens),
                    reasoning_cut: response.thought.as_ref().is_some_and(|thought| thought.cut),
                    response: response.text.clone(),
                    extracted: one.extracted,
                    outcome: one.outcome,
                    finish: response.finish,
                })
                .collect();
        }
        Ok(graded)
    }

    /// The grade of a thought that never ended: nothing of it is an answer.
    fn unfinished(&self) -> Graded {
        let values = self.spec.metrics().into_iter().map(|metric| (metric, 0.0)).collect();
        Graded { values, outcome: Some(UNFINISHED_THOUGHT.to_owned()), ..Graded::default() }
    }

    /// What a filter reads from a response.
    fn read(&self, reader: &Reader, item: &Item, response: &str) -> Result<String> {
        match reader {
            Reader::Pattern(filter) => Ok(filter.apply(response)?),
            Reader::Choices(filter, list) => {
                let choices = self.templates.texts(list, &Fields::new(&item.doc));
                let choices =
                    choices.map_err(|error| anyhow::anyhow!("task {}, row {}: {error}", self.spec.name, item.row))?;
                Ok(filter.apply(response, &choices)?)
            }
        }
    }

    fn one(&self, item: &Item, response: &str, ran: Option<&ProgramRun>) -> Result<Graded> {
        let mut graded = Graded::default();
        let binary = |right: bool| f64::from(u8::from(right));
        let mut set = |name: &str, value: f64| graded.values.insert(name.to_owned(), value);
        let word = |right: bool, found: bool| match (right, found) {
            (true, _) => "right",
            (false, true) => "wrong",
            (false, false) => "no_answer",
        };
        match self.answer.check {
            Check::Text => {
                for (at, (metric, filter)) in self.readings.iter().enumerate() {
                    let found = self.read(filter, item, response)?;
                    let right = self.exact.is_match(&found, &item.target)?;
                    set(metric, binary(right));
                    if at == 0 {
                        let any = found != filter.fallback();
                        graded.outcome = Some(word(right, any).to_owned());
                        graded.extracted = any.then_some(found);
                    }
                }
            }
            Check::Math => {
                let right = |answer: &str| equivalent(answer, &item.target) == Verdict::Equal;
                let strict = boxed(response);
                let loose = chat_answer(response).map(str::to_owned);
                let loose = loose.or_else(|| last_number(response).map(|number| number.to_string()));
                let (boxed_right, any_right) =
                    (strict.is_some_and(right), strict.is_some_and(right) || loose.as_deref().is_some_and(right));
                set("exact_match", binary(boxed_right));
                set("flexible_match", binary(any_right));
                graded.outcome = Some(word(boxed_right, strict.is_some()).to_owned());
                graded.extracted = strict.map(str::to_owned);
            }
            Check::Normalized => {
                let (answer, marked) = marked_answer(response);
                let right = same_normalized(answer, &item.target);
                set("exact_match", binary(right));
                graded.outcome = Some(word(right, marked).to_owned());
                graded.extracted = marked.then(|| answer.to_owned());
            }
            Check::Program => {
                let ProgramRun { code, outcome } = ran.context("the program was not run")?;
                set("pass@1", binary(outcome.verdict == Ended::Passed));
                graded.outcome = Some(class(outcome.verdict).to_owned());
                graded.extracted = Some(code.clone());
            }
            Check::Value => {
                let ran = &ran.context("the program was not run")?.outcome;
                let value = ran.value.as_deref().filter(|_| ran.verdict == Ended::Passed);
                let right = value.is_some_and(|value| equivalent(value, &item.target) == Verdict::Equal);
                set("exact_match", binary(right));
                // A wrong value is what a failed assertion would be.
                let ended = if ran.verdict == Ended::Passed && !right { Ended::AssertionError } else { ran.verdict };
                graded.outcome = Some(class(ended).to_owned());
                graded.extracted = value.map(str::to_owned);
            }
            Check::Rouge => {
                let scores = rouge(&item.target, response);
                set("rouge_l", scores.rouge_l.f1);
                set("rouge_1", scores.rouge_1.f1);
                set("rouge_2", scores.rouge_2.f1);
                graded.extracted = Some(response.trim().to_owned());
            }
            Check::Instructions => {
                let Followed { strict, loose } = judge(&item.instructions, response)?;
                let shares = [&strict, &loose].map(|followed| {
                    let count = followed.iter().filter(|followed| **followed).count();
                    [binary(count == followed.len()), count as f64 / followed.len().max(1) as f64]
                });
                for (metric, value) in INSTRUCTION_METRICS.iter().zip(shares.as_flattened()) {
                    set(metric, *value);
                }
                let broken = self.broken(item, &strict);
                graded.outcome = Some(if broken.is_empty() { "followed" } else { "not_followed" }.to_owned());
                graded.extracted = Some(broken.join(", "));
            }
        }
        Ok(graded)
    }

    /// The names of the instructions that are not followed.
    fn broken(&self, item: &Item, followed: &[bool]) -> Vec<String> {
        let column = self.answer.instructions.as_ref().and_then(|columns| item.doc.get(&columns.names));
        let names = column.and_then(serde_json::Value::as_array).into_iter().flatten().zip(followed);
        let broken = names.filter(|(_, followed)| !**followed);
        broken.map(|(name, _)| name.as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// Each instruction counts the same, so an item counts as many times as it has some.
fn weights(item: &Item) -> BTreeMap<String, f64> {
    let count = item.instructions.len() as f64;
    let metrics = INSTRUCTION_METRICS.iter().filter(|metric| count > 0.0 && metric.starts_with("inst_"));
    metrics.map(|metric| ((*metric).to_owned(), count)).collect()
}

/// The k of pass@k that `n` responses can tell.
pub(crate) fn ks(n: usize) -> Vec<usize> {
    let mut ks: Vec<usize> = [1, 2, 5, 10, 20, 50, 100].into_iter().filter(|k| *k < n).collect();
    ks.push(n);
    ks
}
