//! `lopper generate`: a model's own answers to prompts, as chat JSON lines.
//!
//! The answers come in parts. Each finished part is added to `OUT.partial`, so that the same command
//! continues after an interrupt; at the end the whole is written in the prompts' order.

mod partial;

use std::path::PathBuf;

use lopper_heal::SgrOptions;
use lopper_infer::{Finish, GenerateOptions, Request, Sampling};
use lopper_model::chat::Message;
use lopper_model::generation::SpecialIds;
use lopper_record::{Fault, Progress, Result, Step, ensure_new, key_hash, write_atomic};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::GenerateArgs;
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::prompts;
use crate::table;
use partial::Partial;

/// Prompts answered between two writes.
const PART: usize = 512;

/// One line of the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    messages: Vec<Message>,
    /// Why the answer ended; one that was cut off says `length` or `context_full`.
    finish: Finish,
}

pub fn run(context: &Context, args: &GenerateArgs) -> Result<()> {
    ensure_new(&args.out, args.force)?;
    let opened = OpenModel::open(context, &args.model)?;
    let kept = opened.kept(args.drop.as_deref())?;
    let sampling = sampling(args)?;
    let system = match &args.system {
        None if opened.descends_from_pocket()? => None,
        None => SgrOptions::default().system,
        Some(given) => Some(given.clone()).filter(|given| !given.is_empty()),
    };
    let limit = args.limit.map(std::num::NonZero::get);
    let conversations = prompts::read(&args.prompts, limit, args.seed, system.as_deref())?;
    let (tokenizer, template) = (opened.tokenizer()?, opened.chat_template()?);
    let stop_tokens = SpecialIds::from_checkpoint(&opened.checkpoint, Some(&tokenizer))?.eos;
    let mut requests = Vec::with_capacity(conversations.len());
    for (index, conversation) in conversations.iter().enumerate() {
        // The rendered text brings its special tokens along.
        let prompt = tokenizer.encode(&template.render(conversation, true)?, false)?;
        if prompt.is_empty() {
            return Err(Fault::new(format!("prompt {index} renders to no tokens")).into());
        }
        requests.push(Request {
            prompt,
            max_new_tokens: args.max_new_tokens.get(),
            sampling,
            seed: request_seed(args.seed, index)?,
            stop_tokens: stop_tokens.clone(),
            stop: None,
        });
    }

    let key = key_hash(&json!({
        "model": opened.checkpoint.hash(),
        "kept": kept,
        "conversations": conversations,
        "sampling": sampling,
        "seed": args.seed,
        "max_new_tokens": args.max_new_tokens.get(),
        // These change the rounding or the order of sums.
        "dtype": format!("{:?}", args.run.dtype).to_lowercase(),
        "stream": args.run.stream,
    }))?;
    let mut partial = Partial::<Row>::open(partial_path(args), &key, args.force)?;
    if partial.len() > 0 {
        context.printer.note(&format!("continuing after {} finished answers", table::count(partial.len() as u64)));
    }
    let engine = opened.engine(context, &args.run)?;
    let todo: Vec<usize> = (0..requests.len()).filter(|index| !partial.has(*index)).collect();
    let progress = context.progress.step(Step::new("answering", "prompts", requests.len()).found(partial.len()));
    for part in todo.chunks(PART) {
        let before = partial.len();
        let batch: Vec<Request> = part.iter().map(|index| requests[*index].clone()).collect();
        let answers = engine
            .generate(&kept.slots(), &batch, &GenerateOptions::default(), &*progress)
            .inspect_err(|_| kept_note(context, before, args))?;
        let mut rows = Vec::with_capacity(part.len());
        for (index, answer) in part.iter().zip(answers) {
            let mut messages = conversations[*index].clone();
            messages.push(Message::assistant(tokenizer.decode(&answer.tokens, true)?));
            rows.push((*index, Row { messages, finish: answer.finish }));
        }
        partial.add(rows)?;
        progress.set(partial.len());
    }
    drop(progress);

    let rows = partial.rows();
    let mut text = String::new();
    for row in rows.values() {
        text.push_str(&serde_json::to_string(row)?);
        text.push('\n');
    }
    write_atomic(&args.out, text.as_bytes())?;
    let ended = rows.values().filter(|row| row.finish == Finish::Stop).count();
    context.printer.note(&format!(
        "{} answers, {} of them complete",
        table::count(rows.len() as u64),
        table::count(ended as u64)
    ));
    partial.remove();
    context.printer.result(&args.out.display().to_string())
}

/// Says where the work of a run that stops early is.
fn kept_note(context: &Context, finished: usize, args: &GenerateArgs) {
    if finished > 0 {
        context.printer.note(&format!(
            "{} finished answers are kept in {}; the same command continues after them",
            table::count(finished as u64),
            partial_path(args).display()
        ));
    }
}

fn sampling(args: &GenerateArgs) -> Result<Sampling> {
    let sampling = if args.temperature == 0.0 {
        Sampling::Greedy
    } else {
        Sampling::Sample {
            temperature: args.temperature,
            top_k: args.top_k.map(std::num::NonZero::get),
            top_p: Some(args.top_p),
        }
    };
    sampling.check()?;
    Ok(sampling)
}

/// A seed for each prompt, so that an answer depends neither on the number of prompts nor on where
/// an interrupted run was continued.
fn request_seed(seed: u64, index: usize) -> Result<u64> {
    let hash = key_hash(&json!({"seed": seed, "prompt": index}))?;
    Ok(u64::from_str_radix(&hash[..16], 16)?)
}

fn partial_path(args: &GenerateArgs) -> PathBuf {
    let mut name = args.out.clone().into_os_string();
    name.push(".partial");
    name.into()
}
