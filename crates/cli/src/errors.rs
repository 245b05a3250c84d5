//! From an error to an exit status and a message: whose fault it was, where, what was expected,
//! what was found, and what to do.

use lopper_record::Error;

/// Exit status of anything that is neither the user's input nor an interrupt.
pub const FAILED: u8 = 1;
/// Exit status when the user's input is at fault, as clap's for arguments.
pub const USER: u8 = 2;
/// Exit status after Ctrl-C: 128 + SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

const BOLD_RED: &str = "\x1b[1;31m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// The exit status that `error` deserves.
pub fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Input(_) => USER,
        Error::Interrupted(_) => INTERRUPTED,
        Error::Other(_) => FAILED,
    }
}

/// The message for standard error, several lines without the last line break.
pub fn render(error: &Error, colour: bool) -> String {
    let paint = |text: &str, code: &str| if colour { format!("{code}{text}{RESET}") } else { text.to_owned() };
    let label = paint("error:", BOLD_RED);
    let fault = match error {
        Error::Input(fault) => fault,
        Error::Interrupted(interrupted) => return format!("{label} {interrupted}"),
        Error::Other(error) => return format!("{label} {error:#}"),
    };
    let mut text = format!("{label} {}", fault.message);
    let file = fault.file.as_ref().map(|file| file.display().to_string());
    let parts = [("file", &file), ("expected", &fault.expected), ("got", &fault.got), ("hint", &fault.hint)];
    for (label, part) in parts {
        if let Some(part) = part {
            text.push_str(&format!("\n  {} {part}", paint(&format!("{label}:"), CYAN)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use lopper_record::{Fault, Interrupted};

    #[test]
    fn statuses_follow_the_cause_through_any_context() {
        let user: anyhow::Result<()> = Err(Fault::new("bad").into());
        assert_eq!(exit_code(&user.context("reading").context("outer").unwrap_err().into()), 2);
        let stopped: anyhow::Result<()> = Err(Interrupted.into());
        assert_eq!(exit_code(&stopped.context("generating").unwrap_err().into()), 130);
        assert_eq!(exit_code(&anyhow::anyhow!("disk").context("writing").into()), 1);
    }

    #[test]
    fn messages_name_everything_once() {
        let fault =
            Fault::new("not valid JSON").file("a/b.json").expected("an object").got("`[`").hint("write it again");
        let error = anyhow::Error::from(fault).context("reading the plan").into();
        let text = render(&error, false);
        assert_eq!(
            text,
            "error: reading the plan: not valid JSON\n  file: a/b.json\n  expected: an object\n  got: `[`\n  hint: write it again"
        );
        assert!(render(&error, true).starts_with("\x1b[1;31merror:\x1b[0m"));
        let other = anyhow::anyhow!("disk full").context("writing x").into();
        assert_eq!(render(&other, false), "error: writing x: disk full");
    }
}
