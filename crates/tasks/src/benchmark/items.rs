//! From rows to items: the prompts of each row and its right answer. A row that makes no prompt is named with its file
//! and number and left out.

use std::path::PathBuf;

use lopper_pocket::Split;
use lopper_record::{Error, Fault, Result, canonical_json};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::prompt::{Role, Turn, joined};
use super::spec::{Choose, ColumnType, InstructionsSpec, ShuffleSpec, Spec};
use super::template::{Fields, Templates};
use crate::instructions::{Instruction, parse};
use crate::policy::{GenerationPolicy, ItemSelection, Resources, RowChoice};
use crate::python_random::PythonRandom;
use lopper_rows::{Parts, Row, Table};

/// The seed of lm-evaluation-harness's few-shot examples (`--seed`, fourth value).
const SHOTS_SEED: u32 = 1234;
/// Layers are chosen on one row in so many, and scores are reported on the others.
const SELECT_ONE_IN: u64 = 4;

/// A row that is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    /// Its number in the split, from 0; a split in several files is counted through.
    pub row: usize,
    /// The file that it is in.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What precedes an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// The description, if there is one.
    pub system: Option<Turn>,
    /// Few-shot examples.
    pub shots: Vec<Turn>,
    /// The item's own question.
    pub question: Turn,
}

impl Prompt {
    /// All turns, or those without the few-shot examples.
    pub fn turns(&self, with_shots: bool) -> Vec<Turn> {
        let shots = if with_shots { self.shots.as_slice() } else { &[] };
        self.system.iter().chain(shots).chain(std::iter::once(&self.question)).cloned().collect()
    }
}

/// A row as an item.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Its number in the file.
    pub row: usize,
    /// Identity of the question, the same in every task that has it.
    pub id: String,
    /// The row.
    pub doc: Map<String, Value>,
    /// One, or one for each choice where choices are contexts.
    pub prompts: Vec<Prompt>,
    /// The choices, if there are any.
    pub choices: Vec<String>,
    /// What follows the prompts: one for each choice, or one for all prompts.
    pub answers: Vec<String>,
    /// The right choice.
    pub label: usize,
    /// The reference.
    pub target: String,
    /// What the response has to follow, where that is judged.
    pub instructions: Vec<Instruction>,
}

impl Item {
    /// The texts that it may be recognised by: its question, and those that its identity is made of.
    pub fn identifying_texts<'a>(&'a self, spec: &'a Spec) -> impl Iterator<Item = &'a str> {
        let columns = spec.rows.identity.iter().filter_map(|name| self.doc.get(name)?.as_str());
        columns.chain(self.prompts.iter().map(|prompt| prompt.question.content.as_str()))
    }
}

/// All items of a task.
#[derive(Debug)]
pub(crate) struct Items {
    pub items: Vec<Item>,
    pub bad: Vec<BadRow>,
    /// The files that rows come from, and the split that they are.
    pub files: Parts,
    pub split: String,
    /// The data set's commit, where the hub gave them.
    pub revision: Option<String>,
    pub shots: usize,
}

/// Makes the items of `selection`: of the rows that belong to it the first.
pub(crate) fn items(
    spec: &Spec,
    selection: &ItemSelection,
    policy: &GenerationPolicy,
    resources: &Resources,
) -> Result<Items> {
    let ItemSelection { split, rows, row_limit, .. } = *selection;
    if split == Split::Train && rows == RowChoice::Divided {
        return Err(Fault::new(format!("{} has no items of the split `train`", spec.name))
            .expected("the split `select` or `report`")
            .got("`train`")
            .hint("few-shot examples come from the split that the task's file names")
            .into());
    }
    let (name, files) = spec.files(&resources.data_root, &spec.rows.splits)?;
    let mut table = Table::read(&files)?;
    let maker = Maker::new(spec, policy);
    maker.conform(&mut table.rows);
    let wanted: Vec<usize> = (0..table.rows.len())
        .filter(|&at| maker.takes(&table.rows[at]))
        .filter(|&at| match (rows, &table.rows[at]) {
            (RowChoice::Divided, Ok(row)) => split_of(&maker.id(row)) == split,
            _ => true,
        })
        .take(row_limit.unwrap_or(usize::MAX))
        .collect();
    let shots = policy.shots.unwrap_or(spec.shots.number);
    let until = wanted.last().map_or(0, |last| last + 1);
    let drawn = maker.shots(resources, &table, shots, until)?;
    let system = policy.system.as_deref().unwrap_or_default();
    let made: Vec<Result<Item, BadRow>> = wanted
        .par_iter()
        .map(|&at| {
            let turns = drawn.get(at).cloned().unwrap_or_default();
            let made = table.rows[at].clone().and_then(|row| maker.item(at, row, turns, system));
            made.map_err(|reason| BadRow { row: at, file: table.file(at).to_path_buf(), reason })
        })
        .collect();
    let (mut items, mut bad) = (Vec::new(), Vec::new());
    for result in made {
        match result {
            Ok(item) => items.push(item),
            Err(row) => bad.push(row),
        }
    }
    Ok(Items { items, bad, files: table.parts, split: name, revision: files.revision, shots })
}

/// The split of a question: the same in every task that has it.
pub(crate) fn split_of(id: &str) -> Split {
    match u64::from_str_radix(id.get(..16).unwrap_or_default(), 16).unwrap_or_default() % SELECT_ONE_IN {
        0 => Split::Select,
        _ => Split::Report,
    }
}

/// The identity of a question from the texts that make it one: the same for texts that differ in white
/// space only, or in parts that are empty. It distinguishes prompts to heal by from items to report on.
pub fn question_id(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        let mut words = text.as_ref().split_whitespace().peekable();
        if words.peek().is_none() {
            continue;
        }
        for word in words {
            hasher.update(word.as_bytes());
            hasher.update(b" ");
        }
        hasher.update(&[0]);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Makes items and few-shot examples of rows.
pub(super) struct Maker<'a> {
    spec: &'a Spec,
    templates: Templates,
    conversation: bool,
}

impl<'a> Maker<'a> {
    pub fn new(spec: &'a Spec, policy: &GenerationPolicy) -> Self {
        Self { spec, templates: Templates::new(), conversation: policy.chat_template || spec.prompt.conversation }
    }

    /// Checks the columns of a split's rows, turns text into what the column should hold where the file's kind knows
    /// nothing but text, and shuffles choices.
    pub fn conform(&self, rows: &mut [Row]) {
        let shuffle = self.spec.rows.shuffle.as_ref();
        let mut random = PythonRandom::new(shuffle.map_or(0, |shuffle| shuffle.seed));
        for row in rows {
            // Bad rows are counted in, so that the order of other rows' choices does not depend on them.
            let order = shuffle.map(|shuffle| (shuffle, random.shuffle(shuffle.choices.len())));
            let Ok(columns) = row else { continue };
            let made = self.conform_row(columns).and_then(|()| match order {
                Some((shuffle, order)) => self.shuffle(columns, shuffle, &order),
                None => Ok(()),
            });
            if let Err(reason) = made {
                *row = Err(reason);
            }
        }
    }

    fn conform_row(&self, columns: &mut Map<String, Value>) -> Result<(), String> {
        for (name, kind) in &self.spec.rows.columns {
            conform(columns, name, *kind)?;
        }
        if let Some((member, _)) = &self.spec.member {
            columns.entry("member").or_insert_with(|| member.replace('_', " ").into());
        }
        Ok(())
    }

    fn shuffle(&self, columns: &mut Map<String, Value>, spec: &ShuffleSpec, order: &[usize]) -> Result<(), String> {
        let fields = Fields::new(columns);
        let text = |template: &String| self.templates.text(template, &fields);
        let texts = spec.choices.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let right = order.iter().position(|&at| texts[at] == texts[spec.right]).unwrap_or_default();
        let choices: Vec<Value> = order.iter().map(|&at| texts[at].as_str().into()).collect();
        columns.insert("choices".to_owned(), choices.into());
        columns.insert("right".to_owned(), right.into());
        Ok(())
    }

    /// Whether a row belongs to the task. A row that cannot tell does, and is then a bad one.
    pub fn takes(&self, row: &Row) -> bool {
        match (&self.spec.rows.only, row) {
            (Some(only), Ok(row)) => self.templates.truth(only, &Fields::new(row)).unwrap_or(true),
            _ => true,
        }
    }

    /// The identity of a row's question.
    pub fn id(&self, row: &Map<String, Value>) -> String {
        let texts = self.spec.rows.identity.iter().map(|name| match row.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => canonical_json(other).unwrap_or_default(),
            None => String::new(),
        });
        question_id(texts)
    }

    /// The few-shot examples of the first `until` rows, as turns.
    fn shots(&self, resources: &Resources, table: &Table, shots: usize, until: usize) -> Result<Vec<Vec<Turn>>> {
        if shots == 0 {
            return Ok(vec![]);
        }
        let spec = &self.spec.shots;
        let pool = if spec.splits.is_empty() {
            table.clone()
        } else {
            let (_, files) = self.spec.files(&resources.data_root, &spec.splits)?;
            let mut pool = Table::read(&files)?;
            self.conform(&mut pool.rows);
            pool
        };
        let numbers: Vec<usize> = (0..pool.rows.len()).filter(|at| self.takes(&pool.rows[*at])).collect();
        let few = || -> Error {
            Fault::new(format!("there are too few rows for {shots} few-shot examples of {}", self.spec.name))
                .file(pool.file(0))
                .got(format!("{} rows", numbers.len()))
                .hint("lower --shots")
                .into()
        };
        // Many items share their examples, and the same row is drawn again and again.
        let mut rendered: Vec<Option<Vec<Turn>>> = vec![None; pool.rows.len()];
        let mut random = PythonRandom::new(SHOTS_SEED);
        let mut all = Vec::with_capacity(until);
        for item in &table.rows[..until] {
            if !self.takes(item) {
                all.push(vec![]);
                continue;
            }
            let is_item = |at: &usize| spec.without_item && pool.rows[numbers[*at]] == *item;
            let places = match spec.choose {
                Choose::First => (0..numbers.len()).filter(|at| !is_item(at)).take(shots).collect(),
                Choose::Sample => {
                    let drawn = random.sample(numbers.len(), shots + usize::from(spec.without_item));
                    let mut places: Vec<usize> = drawn.ok_or_else(few)?;
                    places.retain(|at| !is_item(at));
                    places.truncate(shots);
                    if places.len() < shots {
                        let others: Vec<usize> = (0..numbers.len()).filter(|at| !is_item(at)).collect();
                        let drawn = random.sample(others.len(), shots).ok_or_else(few)?;
                        places = drawn.into_iter().map(|at| others[at]).collect();
                    }
                    places
                }
            };
            if places.len() < shots {
                return Err(few());
            }
            let mut turns = Vec::with_capacity(2 * shots);
            for at in places.into_iter().map(|place| numbers[place]) {
                if rendered[at].is_none() {
                    let example = pool.rows[at].clone().and_then(|row| self.example(&row));
                    rendered[at] = Some(example.map_err(|reason| {
                        Fault::new(format!("row {at} cannot be a few-shot example of {}", self.spec.name))
                            .file(pool.file(at))
                            .got(reason)
                            .hint("take the row out, or use --shots 0")
                    })?);
                }
                turns.extend(rendered[at].iter().flatten().cloned());
            }
            all.push(turns);
        }
        Ok(all)
    }

    /// A row as a few-shot example.
    pub fn example(&self, row: &Map<String, Value>) -> Result<Vec<Turn>, String> {
        let (fields, prompt) = (Fields::new(row), &self.spec.prompt);
        let choices = self.choices(&fields)?;
        let context = match &choices {
            Some((list, label)) if self.contexts() => list[*label].clone(),
            _ => self.templates.text(&prompt.question, &fields)?,
        };
        let answer = match (&prompt.answer, &choices) {
            (Some(answer), _) => self.templates.text(answer, &fields)?,
            (None, Some((list, label))) => list[*label].clone(),
            (None, None) => return Err("the task says no answer of a few-shot example (`prompt.answer`)".to_owned()),
        };
        if answer.is_empty() {
            return Err("its answer is empty".to_owned());
        }
        Ok(vec![
            Turn::new(Role::User, context, prompt.delimiter.as_str()),
            Turn::new(Role::Assistant, answer, prompt.between.as_str()),
        ])
    }

    /// A row as an item after the turns `shots`.
    pub fn item(&self, at: usize, doc: Map<String, Value>, shots: Vec<Turn>, system: &str) -> Result<Item, String> {
        let (fields, prompt) = (Fields::new(&doc), &self.spec.prompt);
        let description = self.templates.text(&prompt.description, &fields)?;
        let first = joined(system, &description, &prompt.between);
        let system = (!first.is_empty()).then(|| Turn::new(Role::System, first, ""));
        let prompt_of = |question: String| Prompt {
            system: system.clone(),
            shots: shots.clone(),
            question: Turn::new(Role::User, question, ""),
        };
        // In conversation the chat template separates question and answer.
        let delimiter = if self.conversation { "" } else { &prompt.delimiter };
        let id = self.id(&doc);
        let Some((choices, label)) = self.choices(&fields)? else {
            let target = match &self.spec.answer {
                Some(answer) => self.templates.text(&answer.target, &fields)?,
                None => String::new(),
            };
            if target.trim().is_empty() {
                return Err("its target is empty".to_owned());
            }
            let prompts = vec![prompt_of(self.templates.text(&prompt.question, &fields)?)];
            let columns = self.spec.answer.as_ref().and_then(|answer| answer.instructions.as_ref());
            let instructions = columns.map(|InstructionsSpec { names, arguments }| {
                parse(doc.get(names).unwrap_or(&Value::Null), doc.get(arguments).unwrap_or(&Value::Null))
            });
            let instructions = instructions.transpose()?.unwrap_or_default();
            let (choices, answers) = (vec![], vec![]);
            return Ok(Item { row: at, id, doc, prompts, choices, answers, label: 0, target, instructions });
        };
        let target = choices[label].trim_start().to_owned();
        let (prompts, answers) = if self.contexts() {
            let answer = self.templates.text(prompt.answer.as_deref().unwrap_or_default(), &fields)?;
            (choices.iter().map(|choice| prompt_of(choice.clone())).collect(), vec![format!("{delimiter}{answer}")])
        } else {
            let question = self.templates.text(&prompt.question, &fields)?;
            (vec![prompt_of(question)], choices.iter().map(|choice| format!("{delimiter}{choice}")).collect())
        };
        if answers.iter().any(|answer: &String| answer.trim().is_empty()) {
            return Err("a choice is empty".to_owned());
        }
        Ok(Item { row: at, id, doc, prompts, choices, answers, label, target, instructions: vec![] })
    }

    fn contexts(&self) -> bool {
        self.spec.choices.as_ref().is_some_and(|choices| choices.contexts)
    }

    /// The choices and the index of the right one.
    fn choices(&self, fields: &Fields) -> Result<Option<(Vec<String>, usize)>, String> {
        let Some(spec) = &self.spec.choices else { return Ok(None) };
        let mut list = self.templates.texts(&spec.list, fields)?;
        if let Some(each) = &spec.each {
            for choice in &mut list {
                *choice = self.templates.text(each, &fields.with(&[("choice", choice)]))?;
            }
        }
        if list.len() < 2 {
            return Err(format!("{} choices, where at least two are needed", list.len()));
        }
        let label = self.templates.number(&spec.label, fields)?;
        match usize::try_from(label).ok().filter(|label| *label < list.len()) {
            Some(label) => Ok(Some((list, label))),
            None => Err(format!("the label {label} is none of {} choices, which are counted from 0", list.len())),
        }
    }
}

fn conform(row: &mut Map<String, Value>, name: &str, kind: ColumnType) -> Result<(), String> {
    let value = match row.get_mut(name) {
        Some(value) => value,
        None if kind == ColumnType::Any => return Ok(()),
        None => return Err(format!("the column `{name}` is missing")),
    };
    let texts = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    if let Value::String(text) = value
        && !matches!(kind, ColumnType::Text | ColumnType::Any)
        && let Ok(read) = serde_json::from_str::<Value>(text.trim())
    {
        *value = read;
    }
    let fits = match kind {
        ColumnType::Any => true,
        ColumnType::Text => value.is_string(),
        ColumnType::Integer => value.is_i64() || value.is_u64(),
        ColumnType::Texts => texts(value),
        ColumnType::LabelledTexts => match value.as_object_mut() {
            Some(map) => {
                let same = |map: &Map<String, Value>| {
                    let length = |name| map.get(name).and_then(Value::as_array).map(Vec::len);
                    length("text") == length("label")
                };
                ["text", "label"].iter().all(|part| map.get(*part).is_some_and(texts)) && same(map)
            }
            None => false,
        },
    };
    let wanted = match kind {
        ColumnType::Any | ColumnType::Text => "text",
        ColumnType::Integer => "a whole number",
        ColumnType::Texts => "a list of texts",
        ColumnType::LabelledTexts => "as many texts as labels",
    };
    let got = || {
        let text = value.to_string();
        let short: String = text.chars().take(60).collect();
        if short.len() < text.len() { format!("{short}…") } else { short }
    };
    if fits { Ok(()) } else { Err(format!("the column `{name}` should hold {wanted}, not {}", got())) }
}
