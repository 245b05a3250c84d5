//! `lopper generate`: a model's own answers to prompts, as chat JSON lines with their tokens.
//!
//! Each answer is added to `OUT.partial` as it ends, so that the same command continues after an interrupt; at the end
//! the whole is written in the prompts' order.

mod grade;
mod partial;
mod prompts;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use lopper_heal::adapter::adapter_hash;
use lopper_heal::own_prompts::write_prompts;
use lopper_heal::{PreparedPrompts, SgrOptions, SgrPrompt, SgrRow};
use lopper_infer::{ChatTokenizer, GenerateOptions, Generation, Request, Sampling};
use lopper_model::chat::{ChatTemplate, Conversation};
use lopper_record::study::CheckedAnswers;
use lopper_record::{
    Fault, LayerPosition, LayerSet, OutputLock, Result, ensure_new_file, key_hash, with_ending, write_atomic,
};
use lopper_tasks::AnswerCheck;
use serde_json::json;

use super::benchmark;
use crate::args::{GenerateArgs, KeepAnswersArg};
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::prompts as named_prompts;
use crate::table;
use grade::Graded;
use partial::Partial;

pub fn run(context: &Context, args: &GenerateArgs) -> Result<()> {
    ensure_new_file(&args.out, args.force)?;
    let opened = OpenModel::open(context, &args.model)?;
    let kept = opened.kept(args.drop.as_deref())?;
    let text = opened.chat_tokenizer(&args.template)?;
    if text.chat.is_none() {
        return Err(ChatTemplate::missing().file(opened.checkpoint.path_of("tokenizer_config.json")).into());
    }
    let options = options(context, &opened, &text, args)?;
    opened.warn_of_generation_settings(context)?;
    let root = benchmark::data_root(context, None);
    let prompts = if args.prompts == named_prompts::OWN {
        let own = own_prompts(context, &opened, &text, args, (&options, &kept))?;
        own.into_iter().map(|prompt| (SgrPrompt::Chat(prompt), None)).collect()
    } else {
        prompts::prompts(context, &root, args)?
    };
    let (prompts, checks): (Vec<SgrPrompt>, Vec<Option<AnswerCheck>>) = prompts.into_iter().unzip();
    if args.keep == KeepAnswersArg::Verified {
        grade::refuse_unchecked(&checks, &args.prompts)?;
    }
    let prepared = PreparedPrompts::new(&text, &prompts, &options)?;
    for remark in prepared.remarks() {
        context.printer.warn(&remark);
    }

    let _lock = OutputLock::take(&args.out)?;
    let adapter = args.adapter.as_deref().map(adapter_hash).transpose()?;
    let mut settings = json!({
        "model": opened.checkpoint.hash(),
        "kept": kept,
        "options": options,
        // These change the rounding or the order of sums.
        "dtype": format!("{:?}", args.run.dtype).to_lowercase(),
        "stream": args.run.stream,
    });
    if let Some(hash) = adapter {
        settings["adapter"] = hash.into();
    }
    let key = key_hash(&settings)?;
    let partial_path = with_ending(&args.out, ".partial");
    let mut partial = Partial::<SgrRow>::open(partial_path.clone(), &key, &settings, args.force)?;
    check_prompts(&partial, &prepared.requests, &partial_path)?;
    if partial.len() > 0 {
        context.printer.note(&format!("continuing after {} finished answers", table::count(partial.len() as u64)));
    }
    let engine = opened.engine_with_adapter(context, &args.run, args.adapter.as_deref(), &kept)?;
    let todo: Vec<usize> = (0..prepared.requests.len()).filter(|index| !partial.has(*index)).collect();
    let requests: Vec<Request> = todo.iter().map(|index| prepared.requests[*index].clone()).collect();
    let finished = Mutex::new(&mut partial);
    let add = |at: usize, answer: &Generation| {
        let row = prepared.row(todo[at], answer.clone())?;
        finished.lock().unwrap_or_else(PoisonError::into_inner).add(todo[at], row)
    };
    let made = engine.generate_each(&kept.slots(), &requests, &GenerateOptions::default(), &add, &context.progress);
    if let Err(error) = made {
        kept_note(context, partial.len(), &partial_path);
        return Err(error);
    }

    let mut rows: Vec<SgrRow> = partial.rows().values().cloned().collect();
    let of_rows: Vec<Option<&AnswerCheck>> =
        partial.rows().keys().map(|index| checks.get(*index / args.samples).and_then(Option::as_ref)).collect();
    let graded = grade::grade(&mut rows, &of_rows)?;
    say_answers(context, &rows, &graded);
    if args.keep == KeepAnswersArg::Verified {
        rows.retain(|row| row.verified != Some(false));
        if rows.is_empty() {
            return Err(none_right(&graded, &partial_path).into());
        }
    }
    let mut lines = String::new();
    for row in &rows {
        lines.push_str(&serde_json::to_string(row)?);
        lines.push('\n');
    }
    write_atomic(&args.out, lines.as_bytes())?;
    if args.keep == KeepAnswersArg::Verified {
        context.printer.note(&format!("{} answers are kept", table::count(rows.len() as u64)));
    }
    partial.remove();
    context.printer.result(&args.out.display().to_string())
}

/// Says how many answers there are, and how many of those that tasks graded are right.
fn say_answers(context: &Context, rows: &[SgrRow], graded: &Graded) {
    let ended = rows.iter().filter(|row| row.finish.is_complete()).count();
    context.printer.note(&format!(
        "{} answers, {} of them complete",
        table::count(rows.len() as u64),
        table::count(ended as u64)
    ));
    let repeated = grade::repeated(rows);
    if rows.iter().any(|row| row.sample.is_some()) && repeated > 0 {
        let repeated = table::count(repeated as u64);
        context.printer.note(&format!("{repeated} of them are the same as another one to their prompt"));
    }
    if let Some(sentence) = CheckedAnswers::sentence(&graded.checked) {
        context.printer.note(&sentence);
    }
    for (task, count) in &graded.unchecked {
        let count = table::count(*count as u64);
        context.printer.note(&format!("{count} answers to prompts of {task} could not be graded"));
    }
}

/// The fault of answers that are all wrong.
fn none_right(graded: &Graded, partial: &Path) -> Fault {
    let fault =
        Fault::new("--keep verified leaves nothing: every answer is wrong").expected("at least one right answer");
    fault
        .got(CheckedAnswers::sentence(&graded.checked).unwrap_or_default())
        .hint(format!("without --keep all are written; the same command finds them in {}", partial.display()))
}

/// Prompts that the model writes itself.
fn own_prompts(
    context: &Context,
    opened: &OpenModel,
    text: &ChatTokenizer,
    args: &GenerateArgs,
    (options, kept): (&SgrOptions, &LayerSet<LayerPosition>),
) -> Result<Vec<Conversation>> {
    named_prompts::refuse_rows(&args.rows, named_prompts::OWN)?;
    let number = args.limit.map_or(named_prompts::POCKET_PROMPTS, NonZeroUsize::get);
    let engine = opened.engine_with_adapter(context, &args.run, args.adapter.as_deref(), kept)?;
    let system = options.system.as_deref();
    let prompts = write_prompts(&engine, text, &kept.slots(), (number, args.seed), system, &context.progress)?;
    context.printer.note(&format!("the model wrote {} prompts", table::count(prompts.len() as u64)));
    Ok(prompts)
}

/// How answers are generated. The default system prompt is left out where it would not be rendered as one.
fn options(context: &Context, opened: &OpenModel, text: &ChatTokenizer, args: &GenerateArgs) -> Result<SgrOptions> {
    let (sampling, max_new_tokens) = (sampling(args)?, args.max_new_tokens.get());
    let options = SgrOptions {
        sampling,
        max_new_tokens,
        seed: args.seed,
        samples: args.samples.get(),
        keep_unfinished: true,
        reasoning_markers: args.reasoning.markers(),
        max_thinking_tokens: args.reasoning.max_thinking_tokens,
        ..Default::default()
    };
    Ok(match &args.system {
        Some(given) => SgrOptions { system: Some(given.clone()).filter(|given| !given.is_empty()), ..options },
        None if opened.descends_from_pocket()? => SgrOptions { system: None, ..options },
        None => {
            let options = options.with_rendered_system(text);
            if options.system.is_none() {
                context.printer.note("the chat template has no system role, so the default system prompt is left out");
            }
            options
        }
    })
}

/// Says where the work of a run that stops early is.
fn kept_note(context: &Context, finished: usize, path: &Path) {
    if finished > 0 {
        context.printer.note(&format!(
            "{} finished answers are kept in {}; the same command continues after them",
            table::count(finished as u64),
            path.display()
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
    if sampling == Sampling::Greedy && args.samples.get() > 1 {
        return Err(Fault::new("--samples with --temperature 0: all answers to a prompt are the same")
            .expected("a temperature above 0, or one sample")
            .got(format!("--samples {}", args.samples))
            .hint("leave --temperature out to sample as the paper does")
            .into());
    }
    Ok(sampling)
}

/// Refuses finished answers to other prompts. There may be fewer than now: an answer depends on its own prompt alone.
fn check_prompts(finished: &Partial<SgrRow>, requests: &[Request], path: &Path) -> Result<()> {
    let same = |(index, row): (&usize, &SgrRow)| {
        let prompt = row.recorded.as_ref().map(|recorded| &recorded.prompt_token_ids);
        requests.get(*index).is_some_and(|request| prompt == Some(&request.prompt))
    };
    match finished.rows().iter().find(|row| !same(*row)) {
        None => Ok(()),
        Some((index, _)) => Err(Fault::new("an unfinished output of other prompts is in the way")
            .file(path)
            .expected("the prompts of the interrupted run, and perhaps more of them")
            .got(match requests.len() {
                fewer if fewer <= *index => format!("{fewer} prompts, and a finished answer to number {}", index + 1),
                _ => format!("another prompt of number {}", index + 1),
            })
            .hint("repeat that run's command to finish it, or add --force to start over")
            .into()),
    }
}
