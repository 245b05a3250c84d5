//! Chat templates: from messages to the text a model was trained on, by the Jinja template that
//! its checkpoint carries.
//!
//! Follows `apply_chat_template` of transformers (`utils/chat_template_utils.py`): blocks trimmed, loop controls,
//! Python's string methods and its printing of values, `raise_exception`, `strftime_now`, a `tojson` that escapes
//! nothing, the tokenizer's special tokens as variables, keys of messages that are null left out, reasoning under all
//! the names that templates read. Templates come from strangers, so steps, memory, recursion and size are bounded; a
//! template cannot reach files or the network.
//!
//! Compared with transformers on 42 templates after those of published models (`fixtures/chat/make_published.py`) and
//! on expressions of the language (`fixtures/chat/make_language.py`, which lists what is known to differ). Known
//! differences: `strftime_now` speaks UTC and knows the usual directives only; the `{% generation %}` block, which
//! marks assistant text for training masks, prints its body and marks nothing; a loop over none is empty and unequal
//! kinds can be compared, where Python raises errors; `%` does not format texts (the filter `format` does). Not
//! bounded: lists that hold each other twice, dozens of times over, joined to a text by `~`.

mod abilities;
mod json;
mod message;
mod methods;
mod normal;
mod python;
mod reasoning;
mod source;
mod strftime;

pub use abilities::{LeftOut, SystemRole};
pub use message::{Content, Conversation, Message};
pub use reasoning::{Reasoned, ReasoningMarkers};

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use lopper_record::{Fault, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::Map;

use crate::checkpoint::Checkpoint;
use crate::generation::SpecialStrings;
use crate::hf::{self, CHAT_TEMPLATE, Fields, TOKENIZER_CONFIG};

pub use strftime::utc;

const NAME: &str = "chat template";
const TOOL_USE: &str = "tool_use";
const TOOL_USE_TEMPLATE: &str = "additional_chat_templates/tool_use.jinja";
/// Instructions, and units of 64 bytes of text made, that one rendering may take.
const FUEL: u64 = 5_000_000;
const MAX_RECURSION: usize = 200;
/// Bytes of stack, used where needed, for a rendering: a value that a template nests as deeply as the fuel lets it
/// (half a million times) is compared, joined and dropped by recursion.
const STACK: usize = 512 << 20;
const MAX_TEMPLATE_BYTES: usize = 1 << 22;
/// Variables that every rendering sets itself.
const RESERVED: [&str; 2] = ["messages", "add_generation_prompt"];

/// A compiled chat template.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: Arc<str>,
    specials: SpecialStrings,
    variables: BTreeMap<String, serde_json::Value>,
    /// Whether there is another template for conversations with tools.
    has_tool_use: bool,
    path: PathBuf,
    system_role: OnceLock<SystemRole>,
    reads_parts: OnceLock<[bool; 3]>,
}

impl ChatTemplate {
    /// The fault of a model without a chat template, where one is needed.
    pub fn missing() -> Fault {
        Fault::new("the model has no chat template")
            .expected("chat_template.jinja, or `chat_template` in tokenizer_config.json")
            .hint("base models have none; use the instruction-tuned model")
    }

    /// The template of `checkpoint`: `chat_template.jinja`, else `chat_template` in `tokenizer_config.json` (of
    /// several, the one named `default`). Conversations with tools are rendered by the one named `tool_use` where there
    /// is one, as in transformers. `None` if the model has none, as is usual for base models.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let specials = SpecialStrings::from_checkpoint(checkpoint)?;
        let object = checkpoint.json_file(TOKENIZER_CONFIG)?.unwrap_or_default();
        let config = checkpoint.path_of(TOKENIZER_CONFIG);
        let fields = Fields::new(&object, &config);
        let template = match text_file(checkpoint, CHAT_TEMPLATE)? {
            Some(source) => Self::new(&source, specials, &checkpoint.path_of(CHAT_TEMPLATE))?,
            None => match template_in(fields)? {
                Some(source) => Self::new(source, specials, &config)?,
                None => return Ok(None),
            },
        };
        if let Some(source) = text_file(checkpoint, TOOL_USE_TEMPLATE)? {
            return template.with_tool_use(&source, &checkpoint.path_of(TOOL_USE_TEMPLATE)).map(Some);
        }
        match named_template(fields, TOOL_USE) {
            Some(source) => template.with_tool_use(source, &config).map(Some),
            None => Ok(Some(template)),
        }
    }

    /// Compiles the template `source`; `path` names its file in faults.
    pub fn new(source: &str, specials: SpecialStrings, path: &Path) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(anyhow::Error::from)?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        python::add(&mut environment);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        add_clock(&mut environment, now);
        compile(&mut environment, NAME, source, path)?;
        let (variables, path) = (BTreeMap::new(), path.to_path_buf());
        let (system_role, reads_parts) = (OnceLock::new(), OnceLock::new());
        let source = source.into();
        Ok(Self { environment, source, specials, variables, has_tool_use: false, path, system_role, reads_parts })
    }

    /// Renders conversations with tools by the template `source` instead.
    fn with_tool_use(mut self, source: &str, path: &Path) -> Result<Self> {
        compile(&mut self.environment, TOOL_USE, source, path)?;
        self.has_tool_use = true;
        Ok(self)
    }

    /// The template as its file has it; of several, the one for conversations without tools.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Lets `strftime_now` tell this time (seconds since 1970, UTC) instead of the present, so that
    /// prompts that name the date can be repeated.
    pub fn at(mut self, seconds: u64) -> Self {
        add_clock(&mut self.environment, seconds);
        self
    }

    /// The same template, rendered with these variables as well, such as `enable_thinking`.
    ///
    /// # Errors
    /// A [`Fault`] for a variable that the renderer itself sets.
    pub fn with_variables(&self, variables: &BTreeMap<String, serde_json::Value>) -> Result<Self> {
        if let Some(name) = variables.keys().find(|name| RESERVED.contains(&name.as_str())) {
            return Err(Fault::new(format!("the template variable `{name}` is set by the renderer"))
                .expected(format!("a name other than {}", RESERVED.join(", ")))
                .got(name.clone())
                .into());
        }
        let mut template = self.clone();
        template.variables.extend(variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        (template.system_role, template.reads_parts) = (OnceLock::new(), OnceLock::new());
        Ok(template)
    }

    /// The text of a conversation; with `add_generation_prompt`, up to where the model's answer
    /// begins. Tokenise it without adding special tokens. What the template cannot render is put in a form that it can:
    /// see [`ChatTemplate::remarks`].
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_with(&*self.prepared(messages)?, add_generation_prompt, &Map::new())
    }

    /// The text that transformers renders of `messages` (anything that serialises to a list of objects) as they are,
    /// with further variables for the template, such as `enable_thinking`.
    pub fn render_with<M: Serialize + ?Sized>(
        &self,
        messages: &M,
        add_generation_prompt: bool,
        variables: &Map<String, serde_json::Value>,
    ) -> Result<String> {
        let mut context = BTreeMap::new();
        for (name, token) in self.specials.iter() {
            context.insert(name.to_owned(), Value::from(token));
        }
        // transformers always passes these two; templates ask whether they are none.
        context.insert("tools".to_owned(), Value::from(()));
        context.insert("documents".to_owned(), Value::from(()));
        for (name, value) in self.variables.iter().chain(variables) {
            context.insert(name.clone(), Value::from(Serde(value)));
        }
        context.insert("messages".to_owned(), Value::from(Serde(normal::messages(messages)?)));
        context.insert("add_generation_prompt".to_owned(), Value::from(add_generation_prompt));
        let has_tools = !context["tools"].is_none();
        let name = if self.has_tool_use && has_tools { TOOL_USE } else { NAME };
        let template = self.environment.get_template(name).map_err(anyhow::Error::from)?;
        // An error may hold values as well, so that it ends there.
        let rendered = with_deep_stack(|| {
            let rendered = template.render(context);
            rendered.map_err(|error| fault("the chat template fails on this conversation", &self.path, &error))
        });
        Ok(rendered.map_err(anyhow::Error::from)??)
    }
}

/// Does `work` in a thread with [`STACK`].
fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// A side file that is text; `None` if it is not there.
fn text_file(checkpoint: &Checkpoint, name: &str) -> Result<Option<String>> {
    let Some(bytes) = checkpoint.file(name)? else { return Ok(None) };
    let text = String::from_utf8(bytes.into_owned()).map_err(|error| {
        Fault::new("the chat template is not UTF-8 text").file(checkpoint.path_of(name)).got(error.to_string())
    })?;
    Ok(Some(text))
}

/// Compiles the template `source` as `name`; `path` names its file in faults.
fn compile(environment: &mut Environment<'static>, name: &'static str, source: &str, path: &Path) -> Result<()> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(Fault::new("the chat template is too large")
            .file(path)
            .expected(format!("at most {MAX_TEMPLATE_BYTES} bytes"))
            .got(source.len().to_string())
            .into());
    }
    let compiled = environment.add_template_owned(name, source::normalised(source));
    Ok(compiled.map_err(|error| fault("the chat template cannot be compiled", path, &error))?)
}

fn fault(message: &str, path: &Path, error: &Error) -> Fault {
    let line = error.line().map_or_else(String::new, |line| format!(" (line {line})"));
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    Fault::new(message).file(path).got(format!("{detail}{line}"))
}

fn add_clock(environment: &mut Environment<'static>, seconds: u64) {
    environment.add_function("strftime_now", move |format: String| utc(&format, seconds));
}

/// The template of this name, of a model that has several in its tokenizer's configuration.
fn named_template<'a>(fields: Fields<'a>, name: &str) -> Option<&'a str> {
    fields.get("chat_template")?.as_array()?.iter().find(|entry| entry["name"] == name)?["template"].as_str()
}

fn template_in(fields: Fields<'_>) -> Result<Option<&str>> {
    const EXPECTED: &str = "a template, or a list of {\"name\", \"template\"} with one named \"default\"";
    let named = match fields.get("chat_template") {
        None => return Ok(None),
        Some(serde_json::Value::String(source)) => return Ok(Some(source)),
        Some(serde_json::Value::Array(named)) => named,
        Some(_) => return Err(fields.wrong("chat_template", EXPECTED).into()),
    };
    match named_template(fields, "default") {
        Some(source) => Ok(Some(source)),
        None => Err(Fault::new("the model has several chat templates and none is the default")
            .file(fields.path())
            .expected(EXPECTED)
            .got(hf::shorten(&named.iter().map(|entry| entry["name"].clone()).collect()))
            .into()),
    }
}
