//! Token sequences from what the user gives: a text file or lists of token ids.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use lopper_record::{Fault, Result};

use crate::args::InputArgs;
use crate::context::Context;
use crate::open_model::OpenModel;

/// Largest text or list of ids that is read.
const MOST_BYTES: u64 = 1 << 30;

/// The token sequences that `args` names; `None` where it names nothing. No sequence is empty, and
/// every token is in the model's vocabulary.
pub fn sequences(context: &Context, opened: &OpenModel, args: &InputArgs) -> Result<Option<Vec<Vec<u32>>>> {
    let whole = match (&args.text, &args.tokens) {
        (Some(path), _) => vec![tokenise(opened, path)?],
        (None, Some(path)) => token_lists(path, opened.config().vocab_size)?,
        (None, None) => return Ok(None),
    };
    let sequences = match args.window {
        Some(longest) => whole.iter().flat_map(|s| lopper_prune::calibration::windows(s, longest.get())).collect(),
        None => whole,
    };
    let (longest, limit) = (sequences.iter().map(Vec::len).max(), opened.config().max_position_embeddings);
    if let Some(longest) = longest.filter(|longest| *longest > limit) {
        context.printer.warn(&format!(
            "a sequence of {longest} tokens is longer than the model's context of {limit}; --window {limit} divides it"
        ));
    }
    Ok(Some(sequences))
}

/// The fault of a command that was given no text.
pub fn nothing_given() -> Fault {
    Fault::new("there is no text to read")
        .expected("--text FILE or --tokens IDS.json")
        .got("neither")
        .hint("any text file will do, best one like the texts the model is used for")
}

fn tokenise(opened: &OpenModel, path: &Path) -> Result<Vec<u32>> {
    let text = read_text(path)?;
    if text.trim().is_empty() {
        return Err(Fault::new("the text is empty")
            .file(path)
            .expected("some text")
            .got(format!("{} bytes of white space", text.len()))
            .hint("is it the right file?")
            .into());
    }
    opened.tokenizer()?.encode(&text, true)
}

/// A UTF-8 file; `-` is standard input.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = read_bytes(path)?;
    String::from_utf8(bytes).map_err(|error| {
        Fault::new("the file is not UTF-8 text")
            .file(path)
            .expected("UTF-8")
            .got(format!("a byte that is not, at offset {}", error.utf8_error().valid_up_to()))
            .hint("convert it with `iconv -t UTF-8`")
            .into()
    })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
    };
    if let Err(error) = read {
        return Err(Fault::new("the file cannot be read")
            .file(path)
            .got(error.to_string())
            .hint("check the path")
            .into());
    }
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Fault::new("the file is too large")
            .file(path)
            .expected(format!("at most {MOST_BYTES} bytes"))
            .into());
    }
    Ok(bytes)
}

fn token_lists(path: &Path, vocab_size: usize) -> Result<Vec<Vec<u32>>> {
    const EXPECTED: &str = "a list of lists of token ids, such as [[1, 15, 7], [1, 4]]";
    let lists: Vec<Vec<u32>> = serde_json::from_slice(&read_bytes(path)?).map_err(|error| {
        Fault::new("the token ids cannot be read")
            .file(path)
            .expected(EXPECTED)
            .got(error.to_string())
            .hint("one sequence is written [[1, 15, 7]]; a text file goes with --text")
    })?;
    let fault = |message: String| Fault::new(message).file(path).expected(EXPECTED);
    if lists.is_empty() {
        return Err(fault("there are no token ids".into())
            .got("an empty list")
            .hint("give at least one sequence")
            .into());
    }
    for (index, list) in lists.iter().enumerate() {
        if list.is_empty() {
            return Err(fault(format!("list {index} is empty")).got("[]").hint("leave empty lists out").into());
        }
        if let Some(token) = list.iter().find(|token| **token as usize >= vocab_size) {
            return Err(fault(format!("list {index} has a token that the model does not know"))
                .expected(format!("token ids below {vocab_size}"))
                .got(token.to_string())
                .hint("were the ids made with this model's tokenizer?")
                .into());
        }
    }
    Ok(lists)
}
