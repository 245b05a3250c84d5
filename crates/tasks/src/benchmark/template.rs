//! Jinja over a row: templates give text, expressions give lists and numbers.
//!
//! The dialect is that of lm-evaluation-harness (`lm_eval/utils.py`): undefined names are errors, a line
//! feed at the end stays, Python's methods of texts and lists, and its filter `regex_replace`. Task
//! files may be a stranger's, so steps and memory are bounded; nothing outside the row can be reached.

use std::collections::BTreeMap;

use lopper_record::{Fault, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use serde_json::Map;

use lopper_answer::extract::Pattern;

/// Steps, and units of 64 bytes of text, that one rendering may take.
const FUEL: u64 = 5_000_000;

/// Renders a task's templates.
pub(crate) struct Templates {
    environment: Environment<'static>,
}

/// A row as templates see it.
#[derive(Debug, Clone)]
pub(crate) struct Fields(Value);

impl Fields {
    /// The columns by their names, and as `row`, for names that are no words; unless a column is called that.
    pub fn new(row: &Map<String, serde_json::Value>) -> Self {
        let columns = Value::from(Serde(row));
        let whole = minijinja::context! { row => columns.clone() };
        Self(minijinja::context! { ..columns, ..whole })
    }

    /// The row with further names.
    pub fn with(&self, names: &[(&str, &str)]) -> Self {
        let further: BTreeMap<String, Value> =
            names.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        Self(minijinja::context! { ..Value::from(further), ..self.0.clone() })
    }
}

impl Templates {
    pub fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(syntax());
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(50);
        environment.set_unknown_method_callback(methods);
        environment.add_filter(
            "regex_replace",
            |text: String, pattern: String, with: String| -> Result<String, Error> {
                let failed = |fault: Fault| Error::new(ErrorKind::InvalidOperation, fault.to_string());
                Pattern::new(&pattern).map_err(failed)?.replaced(&text, &with).map_err(failed)
            },
        );
        Self { environment }
    }

    /// Whether a template can be compiled; if not, why.
    pub fn compile_text(&self, template: &str) -> Result<(), String> {
        self.environment.template_from_str(template).map(drop).map_err(|error| words(&error))
    }

    /// Whether an expression can be compiled; if not, why.
    pub fn compile_expression(&self, expression: &str) -> Result<(), String> {
        self.environment.compile_expression(expression).map(drop).map_err(|error| words(&error))
    }

    /// The text that a template gives.
    pub fn text(&self, template: &str, fields: &Fields) -> Result<String, String> {
        self.environment.render_str(template, &fields.0).map_err(|error| words(&error))
    }

    /// The list of texts that an expression gives.
    pub fn texts(&self, expression: &str, fields: &Fields) -> Result<Vec<String>, String> {
        let value = self.value(expression, fields)?;
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
            return Err(format!("`{expression}` is no list"));
        }
        let list = value.try_iter().map_err(|error| words(&error))?;
        list.map(|entry| match entry.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("`{expression}` holds {entry}, which is no text")),
        })
        .collect()
    }

    /// Whether an expression is true.
    pub fn truth(&self, expression: &str, fields: &Fields) -> Result<bool, String> {
        Ok(self.value(expression, fields)?.is_true())
    }

    /// The whole number that an expression gives; text of digits is one.
    pub fn number(&self, expression: &str, fields: &Fields) -> Result<i64, String> {
        let value = self.value(expression, fields)?;
        let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        number.ok_or_else(|| format!("`{expression}` gives {value}, which is no whole number"))
    }

    fn value(&self, expression: &str, fields: &Fields) -> Result<Value, String> {
        let compiled = self.environment.compile_expression(expression).map_err(|error| words(&error))?;
        compiled.eval(&fields.0).map_err(|error| words(&error))
    }
}

/// Jinja's own marks; a line feed at the end of a template stays.
fn syntax() -> SyntaxConfig {
    // The default marks are always a valid choice.
    SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default()
}

/// Python's methods; `index`, which the contributed ones lack, counts characters in a text.
fn methods(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if method == "index"
        && let [wanted] = args
    {
        let missing = || Error::new(ErrorKind::InvalidOperation, format!("{wanted} is not in {value}"));
        let place = match (value.as_str(), wanted.as_str()) {
            (Some(text), Some(part)) => text.find(part).map(|at| text[..at].chars().count()),
            _ => value.try_iter()?.position(|entry| entry == *wanted),
        };
        return place.map(Value::from).ok_or_else(missing);
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

fn words(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: serde_json::Value) -> Fields {
        Fields::new(value.as_object().unwrap())
    }

    #[test]
    fn python_is_spoken() {
        let templates = Templates::new();
        let row = fields(json!({"q": " Is it? ", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "key": "B",
            "s": "é _ x_y", "n": 3, "body": "Step [x] one  [title] two"}));
        let text = |template: &str| templates.text(template, &row).unwrap();
        assert_eq!(text("{{q.strip()}}\nAnswer:\n"), "Is it?\nAnswer:\n");
        assert_eq!(text("{{ 'eLaN'.capitalize() }} {{n}}"), "Elan 3");
        assert_eq!(
            text("{{ body.replace(' [title]', '. ') | regex_replace('\\\\[.*?\\\\]', '') }}"),
            "Step  one .  two"
        );
        assert_eq!(text("{{ 'x #### 7'.split('#### ')[-1] }}"), "7");
        assert_eq!(text("{% if missing is defined %}a{% else %}b{% endif %}"), "b");
        assert_eq!(templates.number("choices.label.index(key)", &row), Ok(1));
        assert_eq!(templates.number("'2' | int - 1", &row), Ok(1));
        assert_eq!(templates.texts("choices.text", &row).unwrap(), ["a", "b"]);
        assert_eq!(
            templates.texts("[s[:s.index('_')] ~ 'Z', s[s.index('_') + 1:].strip()]", &row).unwrap(),
            ["é Z", "x_y"]
        );
        assert_eq!(templates.text("{{code}}{{n}}", &row.with(&[("code", "c")])).unwrap(), "c3");
        let spaced = fields(json!({"The Answer": " 4", "x": "1"}));
        assert_eq!(templates.text("{{ row['The Answer'].strip() }}{{x}}", &spaced).unwrap(), "41");
        assert_eq!(templates.text("{{row}}", &fields(json!({"row": "own"}))).unwrap(), "own");
        for wrong in
            ["{{nothing}}", "{{ choices.text.index('z') }}", "{% for x in range(9000000) %}.{% endfor %}", "{{"]
        {
            assert!(templates.text(wrong, &row).is_err(), "{wrong}");
        }
        assert!(templates.texts("q", &row).is_err() && templates.texts("[1]", &row).is_err());
        assert!(templates.number("q", &row).is_err());
    }
}
