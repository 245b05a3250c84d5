//! Variables of the chat template, for every command that renders prompts.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::Value;

/// How conversations are rendered.
#[derive(Debug, Clone, Default, Args)]
pub struct TemplateArgs {
    /// Set a variable of the chat template, such as `enable_thinking=false`; repeat for more. VALUE is JSON, or else
    /// text
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub template_var: Vec<(String, Value)>,
}

impl TemplateArgs {
    /// The variables by name.
    pub fn variables(&self) -> BTreeMap<String, Value> {
        self.template_var.iter().cloned().collect()
    }
}

/// A variable of a chat template.
fn parse_variable(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            Ok((name.trim().to_owned(), value))
        }
        _ => Err(format!("`{text}` is no variable; expected NAME=VALUE, such as `enable_thinking=false`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_text() {
        let value = |text: &str| parse_variable(text).map(|(name, value)| (name, value.to_string()));
        assert_eq!(value("enable_thinking=false"), Ok(("enable_thinking".into(), "false".into())));
        assert_eq!(value("tools=[1]"), Ok(("tools".into(), "[1]".into())));
        assert_eq!(value("style=a=b"), Ok(("style".into(), "\"a=b\"".into())));
        assert!(value("=1").is_err() && value("name").is_err());
    }
}
