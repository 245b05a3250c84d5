//! Templates and expressions of a task's file that cannot be compiled, found when the file is read and not at its first
//! row.

use lopper_record::Fault;

use super::spec::Spec;
use super::template::Templates;

/// Compiles every template and expression of a task.
///
/// # Errors
/// A [`Fault`] that names the key.
pub(super) fn check(spec: &Spec) -> Result<(), Fault> {
    let templates = Templates::new();
    let fault = |key: &str, error: String| {
        let fault = Fault::new(format!("task `{}`: the template of `{key}` cannot be compiled", spec.name));
        Err(fault.got(error).hint("docs/reference/task-file.md"))
    };
    let (prompt, choices, answer) = (&spec.prompt, spec.choices.as_ref(), spec.answer.as_ref());
    let texts = [
        ("prompt.description", Some(&prompt.description)),
        ("prompt.question", Some(&prompt.question)),
        ("prompt.answer", prompt.answer.as_ref()),
        ("choices.each", choices.and_then(|choices| choices.each.as_ref())),
        ("answer.target", answer.map(|answer| &answer.target)),
        ("answer.program", answer.and_then(|answer| answer.program.as_ref())),
        ("answer.entry", answer.and_then(|answer| answer.entry.as_ref())),
        ("answer.tests", answer.and_then(|answer| answer.tests.as_ref())),
        ("answer.value", answer.and_then(|answer| answer.value.as_ref())),
    ];
    for (key, template) in texts {
        if let Some(Err(error)) = template.map(|template| templates.compile_text(template)) {
            return fault(key, error);
        }
    }
    let readings = answer.into_iter().flat_map(|answer| &answer.readings);
    let expressions = [
        ("rows.only", spec.rows.only.as_ref()),
        ("choices.list", choices.map(|choices| &choices.list)),
        ("choices.label", choices.map(|choices| &choices.label)),
    ];
    let read = readings.map(|reading| ("answer.readings.choices", reading.choices.as_ref()));
    for (key, expression) in expressions.into_iter().chain(read) {
        if let Some(Err(error)) = expression.map(|expression| templates.compile_expression(expression)) {
            return fault(key, error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::spec::Spec;

    #[test]
    fn every_template_and_expression_is_compiled() {
        let choices = lopper_testkit::tasks::STAMPS.replace("[choices]\n", "[choices]\neach = \"{{choice}}\"\n");
        let program = lopper_testkit::tasks::SUMS;
        for source in [choices.as_str(), program] {
            assert!(Spec::parse(source, None).is_ok(), "{source}");
        }
        let broken = [
            (choices.as_str(), "{{question}}\\nAnswer:", "{{question", "prompt.question"),
            (&choices, "{{choice}}", "{% if %}", "choices.each"),
            (&choices, "choices.text", "choices.", "choices.list"),
            (&choices, "choices.label.index(key)", "index(", "choices.label"),
            (&choices, "splits = [\"test\", \"validation\"]", "splits = [\"test\"]\nonly = \"1 +\"", "rows.only"),
            (program, "question = \"{{prompt}}\"", "question = \"{{prompt}}\"\nanswer = \"{{}}\"", "prompt.answer"),
            (program, "question = \"{{prompt}}\"", "question = \"q\"\ndescription = \"{%\"", "prompt.description"),
            (program, "tests = \"{{tests}}\"", "tests = \"{{tests\"", "answer.tests"),
        ];
        for (source, from, to, key) in broken {
            let source = source.replacen(from, to, 1);
            assert!(source.contains(to), "{from} is not there");
            let fault = Spec::parse(&source, None).unwrap_err();
            assert!(fault.message.contains(&format!("`{key}`")), "{key}: {fault}");
        }
    }
}
